"""The claims of the papers in miniature: which small nets are trained, and what was published.

A cell is one bar of a figure: a training on the synthetic shapes that differs from its neighbours
in one thing. Published numbers are mAP in percent on VOC2007, of nets a hundred times as large.
"""

from dataclasses import dataclass

from caffe.catalogue import ABLATIONS
from caffe.models.dsod_recipes import SHAPES_BODY, dsod_shapes
from caffe.models.recipe import Recipe
from caffe.models.scratchdet import TINY_ROOT_RESNET
from caffe.models.shapes import SHAPES, shapes_detector, shapes_schedule
from caffe.models.vgg import TINY_VGG

SLOWEST_LR = 0.001  # what ScratchDet's grid calls 1x
SGD_LR = 0.05  # where a claim is not about the rate
TOTAL_BATCH = 24  # divisible by 2, 4 and 12


@dataclass(frozen=True)
class Cell:
    """A training.

    Args:
        claim: of `CLAIMS`.
        name: short, also of folders.
        recipe: what is trained.
        published: mAP in percent; None where the papers have none.
        published_with: the same where one thing was not taken away, if that is not another cell's.
        processes: that train together on the CPU.
        flags: more of `caffe train`.
    """

    claim: str
    name: str
    recipe: Recipe
    published: float | None = None
    published_with: float | None = None
    processes: int = 1
    flags: tuple[str, ...] = ()


CLAIMS = {
    "bn": "Batch norm in backbone and head, and the rate it allows (ScratchDet, table 1)",
    "principles": "DSOD's principles, each taken away (DSOD, table 3)",
    "batch": "Images behind each batch statistic, at one total batch (DSOD, released code)",
    "root": "Resolution of the root (ScratchDet, section 4.2)",
}


def _schedule(base_lr=SGD_LR):
    """The length of the demo's training, with the papers' update rule."""
    return shapes_schedule()._replace(solver_type="SGD", base_lr=base_lr)


def _bn(name, body, head, faster, published):
    """A small SSD from scratch."""
    detector = shapes_detector(
        TINY_VGG._replace(batch_norm=body, extras_batch_norm=head),
        head_batch_norm=head,
        normalizations=(20, -1, -1, -1),
    )
    recipe = Recipe("VGG", name, detector, SHAPES, _schedule(SLOWEST_LR * faster))
    return Cell("bn", name, recipe, published)


def _principle(name, row, with_row=None, **fields):
    """A small DSOD without one of its principles.

    Args:
        name: of the cell.
        row: of the paper's table, without it.
        with_row: of the same, with it and otherwise as near as the table has it.
        fields: of the body.
    """
    recipe = dsod_shapes()
    detector = recipe.detector._replace(body=SHAPES_BODY._replace(**fields))
    recipe = recipe._replace(detector=detector, schedule=_schedule())
    published_with = None if with_row is None else ABLATIONS[with_row - 1].map_percent
    return Cell("principles", name, recipe, ABLATIONS[row - 1].map_percent, published_with)


def _batch(name, images, published=None, processes=1, flags=(), normalizer="batch"):
    """A small DSOD that normalises by so many images."""
    recipe = dsod_shapes()
    schedule = _schedule()._replace(batch_size=images, accum_batch_size=TOTAL_BATCH)
    detector = recipe.detector._replace(normalizer=normalizer)
    if normalizer != "batch":
        detector = detector._replace(statistics_kept=None)
    recipe = recipe._replace(schedule=schedule, detector=detector)
    return Cell("batch", name, recipe, published, None, processes, flags)


def _root(name, stride):
    """The small ScratchDet of the shapes, trained as they are: at SGD's rate it diverges."""
    detector = shapes_detector(TINY_ROOT_RESNET._replace(root_stride=stride))
    return Cell("root", name, Recipe("ROOT", name, detector, SHAPES, shapes_schedule()))


CELLS = (
    _bn("none_1x", False, False, 1, 67.6),
    _bn("head_1x", False, True, 1, 71.0),
    _bn("backbone_1x", True, False, 1, 71.8),
    _bn("backbone_10x", True, False, 10, 77.3),
    _bn("both_50x", True, True, 50, 78.7),
    _principle("all", 11),
    _principle("plain_front_end", 9, 11, last_transition=None, dense_front=False),
    _principle("7x7_for_a_stem", 6, 9, stem=SHAPES_BODY.stem[:1], stem_kernel=7),
    _principle("no_transition_without_pooling", 1, 2, blocks=SHAPES_BODY.blocks[:3]),
    _principle("half_compression", 2, 3, compression=0.5),
    _principle("narrow_bottleneck", 3, 4, bottleneck=SHAPES_BODY.bottleneck // 4),
    _principle("slow_growth", 10, 11, growth=SHAPES_BODY.growth // 3),
    _batch("2_images", 2),
    _batch("4_images", 4, 77.7),
    _batch("12_images", 12, 78.9),
    _batch("2_images_sync", 2, processes=2, flags=("-sync_bn",)),
    _batch("2_images_group_norm", 2, normalizer="group"),
    _root("full_resolution", 1),
    _root("half_resolution", 2),
)

_BY_NAME = {cell.name: cell for cell in CELLS}
# Of each pair the second is the better one in the papers.
COMPARISONS = tuple(
    (_BY_NAME[worse], _BY_NAME[better])
    for worse, better in (
        ("none_1x", "head_1x"),
        ("head_1x", "backbone_1x"),
        ("backbone_1x", "backbone_10x"),
        ("backbone_10x", "both_50x"),
        *((cell.name, "all") for cell in CELLS if cell.published_with is not None),
        ("2_images", "4_images"),
        ("4_images", "12_images"),
        ("2_images", "2_images_sync"),
        ("2_images", "2_images_group_norm"),
        ("half_resolution", "full_resolution"),
    )
)
