"""The published models, their scores and sizes, and the commands that train and use each.

A row is one training: one name, one folder. Parameters count every number that a file of weights
holds, BatchNorm's statistics included. Sources: the papers and the tables of their released code.
Scores of tests at several scales are left out: no script makes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from caffe.catalogue.ablations import ABLATIONS
from caffe.models.dsod_recipes import DSOD
from caffe.models.flags import chosen
from caffe.models.grp_dsod_recipes import GRP_DSOD
from caffe.models.recipe import default_places
from caffe.models.scratchdet_recipes import SCRATCHDET
from caffe.models.script import training_parser
from caffe.models.ssd_recipes import SSD

PAPERS = {
    "DSOD": "DSOD: Learning Deeply Supervised Object Detectors from Scratch",
    "GRP-DSOD": "Improving Object Detection from Scratch via Gated Feature Reuse",
    "SSD": "SSD: Single Shot MultiBox Detector",
    "ScratchDet": "ScratchDet: Training Single-Shot Object Detectors from Scratch",
}
FAMILIES = (DSOD, GRP_DSOD, SSD, SCRATCHDET)
# Where scripts differ by data set; each takes --data for the others.
SCRIPTS = {
    ("DSOD", "VOC0712"): "examples/dsod/DSOD300_pascal.py",
    ("DSOD", "VOC0712Plus"): "examples/dsod/DSOD300_pascal++.py",
    ("DSOD", "VOC12"): "examples/dsod/DSOD300_pascal12.py",
    ("DSOD", "coco"): "examples/dsod/DSOD300_coco.py",
    ("GRP-DSOD", "VOC0712"): "examples/grp_dsod/GRP_DSOD320_pascal.py",
    ("SSD", "VOC0712"): "examples/ssd/ssd_pascal.py",
    ("SSD", "coco"): "examples/ssd/ssd_coco.py",
    ("ScratchDet", "VOC0712"): "examples/scratchdet/scratchdet_pascal.py",
    ("ScratchDet", "coco"): "examples/scratchdet/scratchdet_coco.py",
}
# Training sets as papers write them.
NOTATION = {"VOC0712": "07+12", "VOC0712Plus": "07++12", "VOC12": "12", "coco": "COCO"}
TESTED_ON = {
    "VOC0712": "VOC2007",
    "VOC0712Plus": "VOC2012",
    "VOC12": "VOC2012",
    "coco": "COCO test-dev",
}
SCORE_SCRIPTS = {
    "DSOD": "examples/dsod/score_DSOD300_pascal.py",
    "GRP-DSOD": "examples/grp_dsod/score_GRP_DSOD320_pascal.py",
    "SSD": "examples/ssd/score_ssd_pascal.py",
    "ScratchDet": "examples/scratchdet/score_scratchdet_pascal.py",
}
FROM_COCO = "--fine-tune COCO.caffemodel"


@dataclass(frozen=True)
class Published:
    """A line of a published table.

    Args:
        family: a `caffe.models.recipe.Family`.
        data: name of its training.
        variant: name of the net.
        score_percent: published mean average precision: VOC's, or COCO's over IoU 0.5 to 0.95.
        floats: numbers in its file of weights, where the published net is known exactly.
        file_mb: published size of that file, in millions of bytes.
        paper: key of `PAPERS`.
        flags: what the command has besides data set and variant.
        note: what tells it from others.
    """

    family: Any
    data: str
    variant: str
    score_percent: float
    floats: int | None = None
    file_mb: float | None = None
    paper: str | None = None
    flags: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """What tells the row from all others: `DSOD300-07+12-batch12`."""
        marks = "" if FROM_COCO in self.flags else self.recipe.job[len(self._plain_recipe.job) :]
        return f"{self.variant}-{self.trained_on}{marks.replace('_', '-')}"

    @property
    def trained_on(self) -> str:
        """`07+12+COCO`."""
        return NOTATION[self.data] + ("+COCO" if FROM_COCO in self.flags else "")

    @property
    def tested_on(self) -> str:
        """`VOC2007`, `VOC2012` or `COCO test-dev`."""
        return TESTED_ON[self.data]

    @property
    def source(self) -> str:
        """Title of the paper."""
        return PAPERS[self.family.name if self.paper is None else self.paper]

    @property
    def recipe(self) -> Any:
        """What the command trains, a `caffe.models.recipe.Recipe`; `places` says where."""
        parser = training_parser(self.family, self.data, "script")
        return chosen(parser, self.family, parser.parse_args(self._arguments("")))

    @property
    def _plain_recipe(self) -> Any:
        return self.family.recipe(self.data, self.variant)

    @property
    def places(self) -> Any:
        """Where the command's files go, a `caffe.models.recipe.Places`."""
        return default_places(self.recipe)

    @property
    def weights(self) -> str:
        """The last snapshot of the training."""
        recipe = self.recipe
        prefix = self.places.snapshot_prefix(recipe)
        return f"{prefix}_iter_{recipe.schedule.max_iter}.caffemodel"

    def _arguments(self, default_data: str) -> list[str]:
        """Flags for a script that takes `default_data` where none is named."""
        words = [] if self.data == default_data else ["--data", self.data]
        if self.variant != self.family.variants[0]:
            words += ["--variant", self.variant]
        return words + self.flags.split()

    def commands(self) -> dict[str, str]:
        """What to type in the project's folder to `train`, `score` and use (`detect`) the model."""
        name = self.family.name
        own = SCRIPTS.get((name, self.data))
        script = SCRIPTS[name, "VOC0712"] if own is None else own
        train = ["python", script, *self._arguments("VOC0712" if own is None else self.data)]
        score = ["python", SCORE_SCRIPTS[name], *self._arguments("VOC0712")]
        if FROM_COCO in self.flags:  # whose net depends on the model: it has to be named
            score = [*score[: -len(FROM_COCO.split())], "--weights", self.weights]
        detect = [
            *("caffe", "detect", "IMAGE", "-model", f"{self.places.model_dir}/deploy.prototxt"),
            *("-weights", self.weights, "-label_map", self.recipe.dataset.label_map),
        ]
        verbs = {"train": train, "score": score, "detect": detect}
        return {verb: " ".join(words) for verb, words in verbs.items()}


def _dsod_rows() -> list[Published]:
    rows = [
        Published(DSOD, "VOC0712", "smallest", 73.6, 5_872_372, 23.5),
        Published(DSOD, "VOC0712", "lite", 76.7, 10_436_854, 41.8),
        Published(DSOD, "VOC0712", "DSOD300", 77.7, 14_795_828, 59.2, note="4 images per GPU"),
        Published(DSOD, "VOC0712", "DSOD300", 78.9, 14_795_828, 59.2,
                  flags="--batch-size 12", note="12 images per GPU"),
        Published(DSOD, "VOC0712", "DSOD300", 81.7, 14_795_828, 59.2, flags=FROM_COCO),
        Published(DSOD, "VOC0712Plus", "DSOD300", 76.3, 14_795_828, 59.2),
        Published(DSOD, "VOC0712Plus", "DSOD300", 79.3, 14_795_828, 59.2, flags=FROM_COCO),
        Published(DSOD, "VOC12", "DSOD300", 70.8, 14_795_828, note="comp3"),
        Published(DSOD, "coco", "DSOD300", 29.3, 21_784_148, 87.2),
        Published(DSOD, "VOC0712", "plain", 77.3, note="plain front end"),
    ]  # fmt: skip
    rows += [
        Published(DSOD, "VOC0712", row.variant, row.map_percent, note=row.body.notation)
        for row in ABLATIONS[:8]  # the last three stand above
    ]
    return rows


def _other_rows() -> list[Published]:
    return [
        Published(GRP_DSOD, "VOC0712", "GRP_DSOD300", 78.5, 14_105_741, 56.5),
        Published(GRP_DSOD, "VOC0712", "few_priors", 78.7, 14_193_977, 56.8, note="320"),
        Published(GRP_DSOD, "VOC0712", "GRP_DSOD320", 79.0, 15_955_327, 63.9, note="320*"),
        Published(GRP_DSOD, "VOC0712Plus", "few_priors", 77.0, 14_193_977, 56.8, note="320"),
        Published(GRP_DSOD, "VOC12", "GRP_DSOD320", 72.5, 15_955_327, 63.9, note="320*, comp3"),
        Published(GRP_DSOD, "coco", "few_priors", 30.0, 21_202_817, note="320"),
        Published(SSD, "VOC0712", "SSD300", 77.2, 26_285_486, note="from ImageNet"),
        Published(SSD, "VOC0712", "scratch", 67.6, paper="ScratchDet", note="no batch norm"),
        Published(SSD, "VOC0712", "scratch_bn_head", 71.0, paper="ScratchDet",
                  note="batch norm in the head"),
        Published(SSD, "VOC0712", "scratch_bn_body", 71.8, paper="ScratchDet",
                  flags="--base-lr 0.001", note="batch norm in the body"),
        Published(SSD, "VOC0712", "scratch_bn_body", 77.3, paper="ScratchDet",
                  note="the same, 10 times faster"),
        Published(SSD, "VOC0712", "scratch_bn", 78.7, paper="ScratchDet",
                  note="in both, 50 times faster"),
        Published(SCRATCHDET, "VOC0712", "res34", 80.4, 24_570_584),
        Published(SCRATCHDET, "VOC0712", "res34", 84.0, 24_570_584, flags=FROM_COCO),
        Published(SCRATCHDET, "VOC0712Plus", "res34", 78.5, 24_570_584),
        Published(SCRATCHDET, "VOC0712Plus", "res34", 82.1, 24_570_584, flags=FROM_COCO),
        Published(SCRATCHDET, "coco", "res34", 32.7, 28_174_286),
    ]  # fmt: skip


CATALOGUE = (*_dsod_rows(), *_other_rows())
