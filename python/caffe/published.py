"""The nets of the published models, built to be looked at, and what to type to use them."""

from __future__ import annotations

from dataclasses import dataclass

from caffe.models.catalogue import Published
from caffe.models.recipe import Recipe, default_places, make_nets
from caffe_ssd.layers.registry import Shape
from caffe_ssd.net.cost import NetCost, PriorMap, net_cost, net_to_look_at
from caffe_ssd.proto.caffe_pb2 import NetState, Phase, PriorBoxParameter
from caffe_ssd.proto.upgrade import upgrade_net

SCORE_SCRIPTS = {
    "DSOD": "examples/dsod/score_DSOD300_pascal.py",
    "GRP-DSOD": "examples/grp_dsod/score_GRP_DSOD320_pascal.py",
    "SSD": "examples/ssd/score_ssd_pascal.py",
    "ScratchDet": "examples/scratchdet/score_scratchdet_pascal.py",
}


@dataclass(frozen=True, kw_only=True)
class Map:
    """A map that a detector predicts from.

    Args:
        blob: its name.
        shape: (C, H, W).
        priors: of its cells.
        settings: sizes and shapes of the priors, in pixels.
    """

    blob: str
    shape: Shape
    priors: PriorMap
    settings: PriorBoxParameter

    @property
    def description(self) -> str:
        """What the priors of a cell look like."""
        sizes = [*self.settings.min_size, *self.settings.max_size]
        ratios = [f"{ratio:g}" for ratio in self.settings.aspect_ratio]
        turned = [f"1/{ratio}" for ratio in ratios] if self.settings.flip else []
        return (
            f"{' and '.join(f'{size:g}' for size in sizes)} px, "
            f"aspect ratios {', '.join(['1', *ratios, *turned])}"
        )


@dataclass(frozen=True, kw_only=True)
class Model:
    """A net of the catalogue, built to be looked at.

    Args:
        input_shape: (C, H, W).
        cost: what it costs for one image.
        maps: that it predicts from, the finest first.
    """

    input_shape: Shape
    cost: NetCost
    maps: tuple[Map, ...]


class Models:
    """The nets of the catalogue, each built once for all lines that share it."""

    def __init__(self) -> None:
        self._known: dict[object, Model] = {}

    def of(self, row: Published) -> Model:
        """The deploy net of a line of the catalogue, counted."""
        recipe = row.recipe
        ratios = recipe.dataset.ratios_for(recipe.detector.image_size)
        key = (recipe.detector, recipe.dataset.num_classes, ratios)
        if key not in self._known:
            self._known[key] = _look_at(recipe)
        return self._known[key]


def _look_at(recipe: Recipe) -> Model:
    param = upgrade_net(make_nets(recipe, "results")["deploy"])
    net = net_to_look_at(param, NetState(phase=Phase.TEST))
    cost = net_cost(net)
    shapes = dict(zip(net.blob_names, net.blob_shapes, strict=True))
    settings = [layer for layer in param.layer if layer.type == "PriorBox"]
    return Model(
        input_shape=shapes[net.inputs[0]][1:],
        cost=cost,
        maps=tuple(
            Map(
                blob=layer.bottom[0],
                shape=shapes[layer.bottom[0]][1:],
                priors=priors,
                settings=layer.prior_box_param,
            )
            for layer, priors in zip(settings, cost.priors, strict=True)
        ),
    )


def commands(row: Published) -> dict[str, str]:
    """What to type in the project's folder to train, score and use a model."""
    recipe = row.recipe
    is_fine_tuned = "--fine-tune" in row.flags
    if is_fine_tuned:  # which has a folder of its own
        recipe = recipe._replace(job=f"{recipe.job}_fine_tuned")
    places = default_places(recipe)
    weights = f"{places.snapshot_prefix(recipe)}_iter_{recipe.schedule.max_iter}.caffemodel"
    flags = []
    if row.data != "VOC0712":
        flags.append(f"--data {row.data}")
    if row.variant != row.family.variants[0]:
        flags.append(f"--variant {row.variant}")
    if is_fine_tuned:
        flags.append(f"--weights {weights}")
    return {
        "train": row.command,
        "score": " ".join(["python", SCORE_SCRIPTS[row.family.name], *flags]),
        "detect": f"caffe detect IMAGE -model {places.model_dir}/deploy.prototxt "
        f"-weights {weights} -label_map {recipe.dataset.label_map}",
    }


def body_settings(body: object) -> dict[str, object]:
    """The fields of a body, by name; nothing for what has none."""
    return dict(body._asdict()) if hasattr(body, "_asdict") else {}
