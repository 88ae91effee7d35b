"""A row of a published table: what it trains, where its files go, what to type."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from caffe.models.flags import chosen
from caffe.models.recipe import default_places
from caffe.models.script import training_parser

PAPERS = {
    "DSOD": "DSOD: Learning Deeply Supervised Object Detectors from Scratch",
    "GRP-DSOD": "Improving Object Detection from Scratch via Gated Feature Reuse",
    "SSD": "SSD: Single Shot MultiBox Detector",
    "ScratchDet": "ScratchDet: Training Single-Shot Object Detectors from Scratch",
}
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
SCORE_SCRIPTS = {
    "DSOD": "examples/dsod/score_DSOD300_pascal.py",
    "GRP-DSOD": "examples/grp_dsod/score_GRP_DSOD320_pascal.py",
    "SSD": "examples/ssd/score_ssd_pascal.py",
    "ScratchDet": "examples/scratchdet/score_scratchdet_pascal.py",
}
# Training sets as papers write them.
NOTATION = {"VOC0712": "07+12", "VOC0712Plus": "07++12", "VOC12": "12", "coco": "COCO"}
TESTED_ON = {
    "VOC0712": "VOC2007",
    "VOC0712Plus": "VOC2012",
    "VOC12": "VOC2012",
    "coco": "COCO test-dev",
}
# Flags of `caffe test` for the rows tested at several scales; the paper does not give its scales.
LOOKS = "--scales 0.75,1,1.25,1.5,2 --flip"


@dataclass(frozen=True)
class Published:
    """A row of a published table: one training, or another way to test one.

    Args:
        family: a `caffe.models.recipe.Family`.
        data: name of its training.
        variant: name of the net.
        score_percent: published mean average precision: VOC's, or COCO's over IoU 0.5 to 0.95;
            None for released or described nets without a published score.
        floats: numbers in its file of weights, where the published net is known exactly.
        file_mb: published size of that file, in millions of bytes.
        paper: key of `PAPERS`.
        flags: what the command has besides data set and variant.
        note: what tells it from others.
        from_coco: starts from the model that the same net trained on COCO has become.
        at_scales: another test of the training of the row without it: at several scales.
    """

    family: Any
    data: str
    variant: str
    score_percent: float | None
    floats: int | None = None
    file_mb: float | None = None
    paper: str | None = None
    flags: str = ""
    note: str = ""
    from_coco: bool = False
    at_scales: bool = False

    @property
    def name(self) -> str:
        """What tells the row from all others: `DSOD300-07+12-batch12`."""
        plain = replace(self, from_coco=False, flags="").recipe.job
        marks = replace(self, from_coco=False).recipe.job[len(plain) :].replace("_", "-")
        return f"{self.variant}-{self.trained_on}{marks}{'-multi' if self.at_scales else ''}"

    @property
    def trained_on(self) -> str:
        """`07+12+COCO`."""
        return NOTATION[self.data] + ("+COCO" if self.from_coco else "")

    @property
    def tested_on(self) -> str:
        """`VOC2007`, `VOC2012` or `COCO test-dev`."""
        return TESTED_ON[self.data]

    @property
    def source(self) -> str:
        """Title of the paper."""
        return PAPERS[self.family.name if self.paper is None else self.paper]

    @property
    def start(self) -> Published | None:
        """The row whose model this one starts from, if there is one; without its scores."""
        return Published(self.family, "coco", self.variant, None) if self.from_coco else None

    @property
    def training(self) -> Published:
        """What trains what this row tests: itself, but for a test at several scales."""
        return replace(self, at_scales=False)

    @property
    def recipe(self) -> Any:
        """What the command trains, a `caffe.models.recipe.Recipe`; `places` says where."""
        parser = training_parser(self.family, self.data, self.script)
        recipe = chosen(parser, self.family, parser.parse_args(self.arguments()))
        if self.start is None:
            return recipe
        return recipe.with_head_batch_norm(self.start.recipe.detector.head_batch_norm)

    @property
    def places(self) -> Any:
        """Where the row's files go, a `caffe.models.recipe.Places`."""
        return default_places(self.recipe, self._postfix if self.at_scales else "")

    @property
    def weights(self) -> str:
        """The last snapshot of the training."""
        recipe = self.recipe
        path: str = recipe.last_snapshot(default_places(recipe))
        return path

    @property
    def script(self) -> str:
        """The script that trains it."""
        own = SCRIPTS.get((self.family.name, self.data))
        return SCRIPTS[self.family.name, "VOC0712"] if own is None else own

    @property
    def score_script(self) -> str:
        """The script that scores it."""
        return SCORE_SCRIPTS[self.family.name]

    @property
    def is_on_server(self) -> bool:
        """Whether only the makers of the test set can score it."""
        return self.tested_on != "VOC2007"

    @property
    def _postfix(self) -> str:
        test_dev = "_test-dev" * (self.data == "coco")
        return f"_score{test_dev}{'_multi' * self.at_scales}"

    def arguments(self, default_data: str = "") -> list[str]:
        """Flags for a script that takes `default_data` where none is named."""
        words = [] if self.data == default_data else ["--data", self.data]
        if self.variant != self.family.variants[0]:
            words += ["--variant", self.variant]
        words += self.flags.split()
        return words if self.start is None else [*words, "--fine-tune", self.start.weights]

    def score_arguments(self, default_data: str = "") -> list[str]:
        """Flags for the script that scores it."""
        words = self.arguments(default_data)
        words += ["--test-dev"] if self.data == "coco" else []
        return words + (LOOKS.split() if self.at_scales else [])

    def commands(self) -> dict[str, str]:
        """What to type in the project's folder to `train`, `score` and use (`detect`) the model."""
        own = (self.family.name, self.data) in SCRIPTS
        train = ["python", self.script, *self.arguments(self.data if own else "VOC0712")]
        score = ["python", self.score_script, *self.score_arguments("VOC0712")]
        places = default_places(self.recipe)
        detect = [
            *("caffe", "detect", "IMAGE", "-model", f"{places.model_dir}/deploy.prototxt"),
            *("-weights", self.weights, "-label_map", self.recipe.dataset.label_map),
        ]
        verbs = {"train": train, "score": score, "detect": detect}
        if self.is_on_server:
            verbs["pack"] = self._pack_command()
        return {verb: " ".join(words) for verb, words in verbs.items()}

    def _pack_command(self) -> list[str]:
        """What packs the result files of `score` for the server."""
        recipe = self.recipe
        folder = default_places(recipe, self._postfix).output_dir
        home = os.path.expanduser("~")
        folder = "~" + folder[len(home) :] if folder.startswith(home) else folder
        if self.data == "coco":
            file = f"{folder}/detections_test-dev2015_{recipe.name}_results.json"
            return ["caffe", "evaluate", file, "-pack", f"{self.name}.zip"]
        label_map = recipe.dataset.label_map
        return ["caffe", "evaluate", folder, "-label_map", label_map, "-pack", f"{self.name}.tgz"]
