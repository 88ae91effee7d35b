"""The nets of the published models, built to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from caffe.catalogue.published import Published
from caffe.models.recipe import make_nets
from caffe_ssd.layers.registry import Shape
from caffe_ssd.net.cost import NetCost, PriorMap, net_cost, net_to_look_at
from caffe_ssd.proto.caffe_pb2 import NetState, Phase, PriorBoxParameter
from caffe_ssd.proto.upgrade import upgrade_net


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
            self._known[key] = look_at(recipe)
        return self._known[key]


def look_at(recipe: Any) -> Model:
    """The deploy net of a recipe (a `caffe.models.recipe.Recipe`), built and counted."""
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


def body_settings(body: object) -> dict[str, object]:
    """The fields of a body, by name; nothing for what has none."""
    return dict(body._asdict()) if hasattr(body, "_asdict") else {}
