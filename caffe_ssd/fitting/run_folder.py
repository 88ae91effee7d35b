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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        return self.root / "fit.json"

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
    """Make sure that a new run overwrites nothing.

    Raises:
        UsageError: something is there already.
    """
    if run.notes.exists():
        raise UsageError(
            f"{run.root} holds a run already; -resume goes on with it, -output names another folder"
        )
    if run.root.exists() and (not run.root.is_dir() or any(run.root.iterdir())):
        raise UsageError(f"{run.root} is there and not empty; -output names another folder")
