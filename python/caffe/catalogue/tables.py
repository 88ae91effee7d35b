"""The published models and their scores and sizes: the papers' numbers, a row for each training.

One name, one folder each. Parameters count every number that a file of weights holds, BatchNorm's
statistics included. Sources: the papers and the tables of their released code.
"""

from __future__ import annotations

from dataclasses import replace

from caffe.catalogue.ablations import ABLATIONS
from caffe.catalogue.published import Published
from caffe.models.dsod_recipes import DSOD
from caffe.models.grp_dsod_recipes import GRP_DSOD
from caffe.models.scratchdet_recipes import SCRATCHDET
from caffe.models.ssd_recipes import SSD

FAMILIES = (DSOD, GRP_DSOD, SSD, SCRATCHDET)
UNSCORED = "no score published"


def _dsod_rows() -> list[Published]:
    rows = [
        Published(DSOD, "VOC0712", "smallest", 73.6, 5_872_372, 23.5),
        Published(DSOD, "VOC0712", "lite", 76.7, 10_436_854, 41.8),
        Published(DSOD, "VOC0712", "DSOD300", 77.7, 14_795_828, 59.2, note="4 images per GPU"),
        Published(DSOD, "VOC0712", "DSOD300", 78.9, 14_795_828, 59.2,
                  flags="--batch-size 12", note="12 images per GPU"),
        Published(DSOD, "VOC0712", "DSOD300", 81.7, 14_795_828, 59.2, from_coco=True),
        Published(DSOD, "VOC0712Plus", "DSOD300", 76.3, 14_795_828, 59.2),
        Published(DSOD, "VOC0712Plus", "DSOD300", 79.3, 14_795_828, 59.2, from_coco=True),
        Published(DSOD, "VOC12", "DSOD300", 70.8, 14_795_828, note="comp3"),
        Published(DSOD, "coco", "DSOD300", 29.3, 21_784_148, 87.2),
        Published(DSOD, "VOC0712", "plain", 77.3, note="plain front end"),
    ]  # fmt: skip
    rows += [
        Published(DSOD, "VOC0712", row.variant, row.map_percent, note=row.body.notation)
        for row in ABLATIONS[:8]  # the last three stand above
    ]
    return [*rows, Published(DSOD, "VOC0712", "DSOD512", None, note=UNSCORED)]


def _grp_dsod_rows() -> list[Published]:
    return [
        Published(GRP_DSOD, "VOC0712", "GRP_DSOD300", 78.5, 14_105_741, 56.5),
        Published(GRP_DSOD, "VOC0712", "few_priors", 78.7, 14_193_977, 56.8, note="320"),
        Published(GRP_DSOD, "VOC0712", "GRP_DSOD320", 79.0, 15_955_327, 63.9, note="320*"),
        Published(GRP_DSOD, "VOC0712Plus", "few_priors", 77.0, 14_193_977, 56.8, note="320"),
        Published(GRP_DSOD, "VOC12", "GRP_DSOD320", 72.5, 15_955_327, 63.9, note="320*, comp3"),
        Published(GRP_DSOD, "coco", "few_priors", 30.0, 21_202_817, note="320"),
    ]


def _ssd_rows() -> list[Published]:
    return [
        Published(SSD, "VOC0712", "SSD300", 77.2, 26_285_486, note="from ImageNet"),
        Published(SSD, "VOC0712", "SSD300", 69.6, 26_285_486, paper="DSOD",
                  flags="--weights none", note="SSD's schedule, from scratch"),
        Published(SSD, "VOC0712", "scratch", 67.6, paper="ScratchDet", note="no batch norm"),
        Published(SSD, "VOC0712", "scratch_bn_head", 71.0, paper="ScratchDet",
                  note="batch norm in the head"),
        Published(SSD, "VOC0712", "scratch_bn_body", 71.8, paper="ScratchDet",
                  flags="--base-lr 0.001", note="batch norm in the body"),
        Published(SSD, "VOC0712", "scratch_bn_body", 77.3, paper="ScratchDet",
                  note="the same, 10 times faster"),
        Published(SSD, "VOC0712", "scratch_bn", 78.7, paper="ScratchDet",
                  note="in both, 50 times faster"),
        Published(SSD, "VOC0712", "SSD512", None, note=UNSCORED),
        Published(SSD, "coco", "SSD300", None, note=UNSCORED),
        Published(SSD, "VOC0712", "zf", None, note=UNSCORED),
        Published(SSD, "VOC0712", "resnet101", None, note=UNSCORED),
    ]  # fmt: skip


def _scratchdet_rows() -> list[Published]:
    # Nets that began with COCO have batch norm in their heads, as COCO's has and VOC's has not.
    single = [
        Published(SCRATCHDET, "VOC0712", "res34", 80.4, 24_570_584),
        Published(SCRATCHDET, "VOC0712", "res34", 84.0, from_coco=True),
        Published(SCRATCHDET, "VOC0712Plus", "res34", 78.5, 24_570_584),
        Published(SCRATCHDET, "VOC0712Plus", "res34", 82.1, from_coco=True),
        Published(SCRATCHDET, "coco", "res34", 32.7, 28_174_286),
    ]
    at_scales = (84.1, 86.3, 83.6, 86.3, 39.1)
    multi = [
        replace(row, score_percent=score, at_scales=True, note="several scales, mirrored")
        for row, score in zip(single, at_scales, strict=True)
    ]
    without = ("res18", "res34_512", "res18_512")
    return [
        *single,
        *multi,
        *(Published(SCRATCHDET, "VOC0712", variant, None, note=UNSCORED) for variant in without),
    ]


CATALOGUE = (*_dsod_rows(), *_grp_dsod_rows(), *_ssd_rows(), *_scratchdet_rows())
