"""The folder that one fit writes: where everything lies, and what was chosen.

RUN/fit.json               the plan with its reasons, the pictures' folder, versions
RUN/data/                  lists, label map, sizes, annotations in VOC form, LMDBs, check.html
RUN/model/                 train, test, deploy and solver prototxt
RUN/snapshots/             weights and solver states, NAME_best.caffemodel, NAME_results.jsonl
RUN/train.log              the original's complete log
RUN/detector.caffemodel    the weights to use
RUN/report.html            what they can do
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from caffe_ssd.datasets.folder import RUN_NOTES
from caffe_ssd.documents import parse_json
from caffe_ssd.errors import FileError, UsageError
from caffe_ssd.files import atomic_write, read_bytes


@dataclass(frozen=True)
class RunFolder:
    """Paths of a run.

    Args:
        root: the folder.
        name: of the nets, for file names.
    """

    root: Path
    name: str

    @property
    def notes(self) -> Path:
        """What was chosen; without this file the folder is no run."""
        return self.root / RUN_NOTES

    @property
    def data(self) -> Path:
        """Lists and databases."""
        return self.root / "data"

    @property
    def label_map(self) -> Path:
        """The names of the classes."""
        return self.data / "labelmap.prototxt"

    @property
    def sizes(self) -> Path:
        """`name height width` of the test pictures."""
        return self.data / "test_name_size.txt"

    def database(self, part: str) -> Path:
        """The LMDB of `trainval` or `test`."""
        return self.data / f"{part}_lmdb"

    @property
    def model(self) -> Path:
        """The folder of the prototxt files."""
        return self.root / "model"

    def prototxt(self, kind: str) -> Path:
        """The file of `train`, `test`, `deploy` or `solver`."""
        return self.model / f"{kind}.prototxt"

    @property
    def snapshots(self) -> Path:
        """The folder of weights and states."""
        return self.root / "snapshots"

    @property
    def prefix(self) -> Path:
        """The solver's snapshot_prefix."""
        return self.snapshots / self.name

    def snapshot(self, iteration: int) -> Path:
        """The weights after an iteration."""
        return self.snapshots / f"{self.name}_iter_{iteration}.caffemodel"

    @property
    def best(self) -> Path:
        """The weights with the best mAP of all tests while training."""
        return self.snapshots / f"{self.name}_best.caffemodel"

    @property
    def log(self) -> Path:
        """The training's log."""
        return self.root / "train.log"

    @property
    def detector(self) -> Path:
        """The weights to use."""
        return self.root / "detector.caffemodel"

    @property
    def report(self) -> Path:
        """The report."""
        return self.root / "report.html"

    @property
    def is_planned(self) -> bool:
        """Whether there is a plan to follow; without one a run was stopped before its training."""
        return self.notes.exists() and "plan" in self.read_notes()

    def begin(self, notes: dict[str, Any]) -> None:
        """Mark the folder as a run's, without what a stopped preparation left in it.

        Raises:
            FileError: the folder cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            if self.notes.exists():
                for folder in (self.data, self.model):
                    shutil.rmtree(folder, ignore_errors=True)
        except OSError as error:
            raise FileError(f"Could not write {self.root}: {error}") from error
        self.write_notes(notes)

    def write_notes(self, notes: dict[str, Any]) -> None:
        """Keep what was chosen.

        Raises:
            FileError: the file cannot be written.
        """
        atomic_write(self.notes, json.dumps(notes, indent=1, ensure_ascii=False) + "\n")

    def read_notes(self) -> dict[str, Any]:
        """What was chosen.

        Raises:
            FileError: the folder is no run.
            DataError: the file is damaged.
        """
        if not self.notes.exists():
            raise FileError(f"{self.root} is no folder of `caffe fit`: it has no {self.notes.name}")
        notes = parse_json(read_bytes(self.notes), str(self.notes))
        if not isinstance(notes, dict):
            raise FileError(f"{self.notes} holds no object")
        return notes


def run_folder(pictures: str | Path, output: str | Path | None) -> RunFolder:
    """The run of a folder of pictures: `output`, or `<name of the folder>_fit` where one stands."""
    name = re.sub(r"\W+", "_", Path(pictures).resolve().name).strip("_") or "pictures"
    return RunFolder(Path(f"{name}_fit" if output is None else output), name)


def check_new(run: RunFolder) -> None:
    """Make sure that a new run overwrites nothing but a run that was never planned.

    Raises:
        UsageError: something is there already.
    """
    if run.is_planned:
        raise UsageError(
            f"{run.root} holds a run already; -resume goes on with it, -output names another folder"
        )
    if run.notes.exists():
        return
    if run.root.exists() and (not run.root.is_dir() or any(run.root.iterdir())):
        raise UsageError(f"{run.root} is there and not empty; -output names another folder")


def check_same(
    run: RunFolder, pictures: str | Path, asked: Mapping[str, Any], notes: Mapping[str, Any]
) -> None:
    """Make sure that a run that goes on is the one that is meant.

    Args:
        run: the run.
        pictures: the folder that is named now.
        asked: the flags that are given now, but for those that may change.
        notes: what was kept when the run began.

    Raises:
        UsageError: another folder, another setting, or a place from which its files are not found.
    """
    root, source = str(notes.get("root", run.root)), str(notes.get("source", pictures))
    if Path(root).resolve() != run.root.resolve():
        raise UsageError(
            f"{run.root} was begun as {root}, and so its files name each other: "
            f"-resume it in a folder in which {root} is the run"
        )
    if Path(source).resolve() != Path(pictures).resolve():
        raise UsageError(
            f"{run.root} was begun with the pictures in {source}, not with those in {pictures}; "
            "-output names another folder"
        )
    before = notes.get("asked", {})
    for name, value in asked.items():
        if name not in before or before[name] != value:
            was = f"with -{name} {before[name]}" if name in before else f"without -{name}"
            raise UsageError(
                f"-{name} cannot change while a run goes on: {run.root} was begun {was}; leave it "
                "out, or -output names another folder"
            )
