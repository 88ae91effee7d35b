"""What the rows of the tables leave open, and what is assumed here in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from caffe.catalogue.published import LOOKS, Published


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """Something that a paper does not say.

    Args:
        text: what is assumed.
        source: what it is taken from.
        holds_for: whether a row depends on it.
    """

    text: str
    source: str
    holds_for: Callable[[Published], bool]


def assumptions_of(row: Published) -> tuple[Assumption, ...]:
    """What a row leaves open."""
    return tuple(each for each in ASSUMPTIONS if each.holds_for(row))


def _is_dsod(row: Published, *variants: str) -> bool:
    return row.family.name == "DSOD" and row.variant in variants


def _is_grid(row: Published) -> bool:
    return row.family.name == "SSD" and row.variant.startswith("scratch")


def _is_ablation(row: Published) -> bool:
    return row.variant.startswith("ablation") or row.variant == "plain"


ASSUMPTIONS = (
    Assumption(
        text="12 images on each of 8 GPUs are 96 in a pass; an iteration is 2 passes, 192 images, "
        "at the rate and for the iterations of the row with 4 (32 in a pass, 4 passes, 128)",
        source="the released script's rule, whole passes; the paper gives no total for 12",
        holds_for=lambda row: "--batch-size 12" in row.flags,
    ),
    Assumption(
        text="blocks of 3, 4, 4 and 4 layers",
        source="size of the released file, 41.8 MB (41.77 with these); its text is not known",
        holds_for=lambda row: _is_dsod(row, "lite"),
    ),
    Assumption(
        text="blocks of 6, 8, 8 and 8 layers as in DSOD300, and how the plain front end joins",
        source="the number of parameters in table 3 (below); the paper lists no layers",
        holds_for=_is_ablation,
    ),
    Assumption(
        text="the schedule of 07+12: 100,000 iterations, /10 every 20,000",
        source="the script for VOC2012 alone was not released",
        holds_for=lambda row: row.data == "VOC12",
    ),
    Assumption(
        text="as many iterations as the same net takes from scratch on these data, the rate a "
        "tenth at the same ones",
        source="the papers give no length of fine-tuning",
        holds_for=lambda row: row.from_coco,
    ),
    Assumption(
        text="a learning rate of 0.001",
        source="what DSOD's paper has for the same step; ScratchDet's has none",
        holds_for=lambda row: row.from_coco and row.family.name == "ScratchDet",
    ),
    Assumption(
        text="the head begins with the 20 classes of VOC among COCO's 80, the background kept "
        "(data/coco/coco_voc_map.txt)",
        source="SSD's list of these classes; the papers do not say how heads were carried over",
        holds_for=lambda row: row.from_coco,
    ),
    Assumption(
        text="batch norm in the head, as in the model for COCO that it starts from",
        source="the released scripts have it for COCO and not for VOC",
        holds_for=lambda row: row.from_coco and row.family.name == "ScratchDet",
    ),
    Assumption(
        text="8 GPUs x 6 images x 3 passes: 144 images per iteration where 128 are named",
        source="the released script, whose passes are whole; the paper's batch is 48",
        holds_for=lambda row: row.family.name == "GRP-DSOD",
    ),
    Assumption(
        text="the released script with this net or these data, and DSOD's schedule for them",
        source="only the script of 320* for 07+12 was released",
        holds_for=lambda row: (
            row.family.name == "GRP-DSOD" and (row.variant, row.data) != ("GRP_DSOD320", "VOC0712")
        ),
    ),
    Assumption(
        text="SSD's own schedule (120,000 iterations of 32 images at 0.001) and today's "
        "augmentation, without the weights of ImageNet",
        source="DSOD's paper names the net alone",
        holds_for=lambda row: row.family.name == "SSD" and "--weights none" in row.flags,
    ),
    Assumption(
        text="128 images per iteration for 100,000 iterations, /10 at 40,000, 75,000 and 90,000, "
        "as ScratchDet's released script; the rate is 0.001 times what the row names",
        source="the paper gives rates as multiples of SSD's; no script of these rows is known",
        holds_for=_is_grid,
    ),
    Assumption(
        text="`head` means the predictions and the layers behind fc7, `backbone` VGG16 up to fc7",
        source="the paper's words; no net of these rows is known",
        holds_for=lambda row: _is_grid(row) and row.variant != "scratch",
    ),
    Assumption(
        text="the schedule of 07+12",
        source="the script for VOC07++12 was not released",
        holds_for=lambda row: row.family.name == "ScratchDet" and row.data == "VOC0712Plus",
    ),
    Assumption(
        text=f"`{LOOKS}`, merged by NMS and box voting",
        source="a choice made here: the paper names neither its scales nor its rule of merging",
        holds_for=lambda row: row.at_scales,
    ),
    Assumption(
        text="the schedule of the first net of its family on the same data",
        source="a released or described net for which no training was published",
        holds_for=lambda row: row.score_percent is None and row.data == "VOC0712",
    ),
    Assumption(
        text="all but the finest map, conv2, as in SSD300; no dropout; the name of its weights",
        source="what is known of SSD's script for ZFNet",
        holds_for=lambda row: row.variant == "zf",
    ),
    Assumption(
        text="300 px with SSD300's steps, batch norm in the head and no L2 normalisation, ten "
        "times SSD300's rate, as its rule for nets with batch norm has it",
        source="what is known of SSD's script for ResNet-101: its maps, clipped priors, no second "
        "square prior on the finest map, no colours varied and no larger canvas",
        holds_for=lambda row: row.variant == "resnet101",
    ),
)
