"""From a folder of annotated pictures to a run's lists, label map, sizes and databases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.datasets import Dataset, Finding, check, read_folder, repaired, split, write_voc
from caffe_ssd.datasets.dataset import ERROR, TEST, TRAIN, AnnotatedPicture
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.fitting.plan import DataFacts
from caffe_ssd.fitting.priors import Shapes
from caffe_ssd.fitting.quiet import quiet
from caffe_ssd.fitting.run_folder import RunFolder
from caffe_ssd.proto.label_map import read_label_map
from lmdb_tools.annoset import ConvertOptions, convert
from lmdb_tools.images import ImageOptions

Labels = NDArray[np.int64]

_SHOWN = 3


def prepare(
    source: str | Path,
    run: RunFolder,
    *,
    format: str | None,
    classes: Sequence[str] | None,
    test_share: float,
    seed: int,
    anyway: bool,
    notes: dict[str, Any],
    show: Callable[[str], None],
) -> DataFacts:
    """Read, check, split and store a folder of pictures.

    Args:
        source: the folder.
        run: where everything goes.
        format: of the annotations; None for what is found.
        classes: the only ones to take; None for all.
        test_share: of the pictures, where the folder is not split.
        seed: of the split.
        anyway: go on in spite of errors in the data.
        notes: that mark the run's folder before anything else is written.
        show: told what was found.

    Raises:
        CaffeError: the folder cannot be read, or a detector trained on it would be wrong.
    """
    dataset = read_folder(source, format)
    if classes is not None:
        dataset = _only(dataset, classes)
    show(f"pictures  {len(dataset.pictures)} in {source} ({dataset.format})")
    was_split = dataset.is_split
    dataset = split(dataset, test_share=test_share, seed=seed)
    findings = check(dataset)
    dataset = repaired(dataset)
    train, test = dataset.part(TRAIN), dataset.part(TEST)
    how = "as the folder is divided" if was_split else "every class in both, likenesses together"
    show(f"split     {len(train)} to train on, {len(test)} to score on: {how}")
    show("classes   " + ", ".join(f"{name} ({n})" for name, n in dataset.boxes_of_class().items()))
    _tell(findings, show)
    if not anyway and (errors := [each for each in findings if each.severity == ERROR]):
        what = "an error" if len(errors) == 1 else f"{len(errors)} errors"
        raise DataError(
            f"{source}: {what} in the data, see above; mend the files, or -anyway trains on them"
        )
    if not train or not test:
        missing = "train on" if not train else "score on"
        raise DataError(f"{source}: no pictures are left to {missing}; see -test_share")
    run.begin(notes)
    _store(dataset, run)
    objects, labels = _shapes(train, dataset.classes)
    return DataFacts(
        num_train=len(train),
        num_test=len(test),
        classes=tuple(dataset.classes),
        objects=objects,
        labels=labels,
    )


def _only(dataset: Dataset, classes: Sequence[str]) -> Dataset:
    """The data set with some of its classes; pictures without them stay, as background."""
    if unknown := [name for name in classes if name not in dataset.classes]:
        known = ", ".join(dataset.classes)
        raise UsageError(f"-classes: no class {unknown[0]!r} in {dataset.root}; it has: {known}")
    pictures = [
        replace(picture, boxes=[box for box in picture.boxes if box.category in classes])
        for picture in dataset.pictures
    ]
    return replace(dataset, pictures=pictures, classes=list(classes))


def _tell(findings: Sequence[Finding], show: Callable[[str], None]) -> None:
    for finding in findings:
        shown = ", ".join(finding.where[:_SHOWN])
        more = f" and {len(finding.where) - _SHOWN} more" if len(finding.where) > _SHOWN else ""
        show(f"{finding.severity:<9} {finding.text}" + (f" [{shown}{more}]" if shown else ""))


def _shapes(pictures: Sequence[AnnotatedPicture], classes: Sequence[str]) -> tuple[Shapes, Labels]:
    """Widths and heights of all objects, as shares of their picture's, and their classes."""
    shapes, labels = [], []
    for picture in pictures:
        height, width = picture.size
        for box in picture.boxes:
            sides = (box.xmax_px - box.xmin_px) / width, (box.ymax_px - box.ymin_px) / height
            shapes.append(sides)
            labels.append(classes.index(box.category))
    if not shapes:
        raise DataError("no picture to train on has an object")
    return np.array(shapes, np.float64), np.array(labels, np.int64)


def _store(dataset: Dataset, run: RunFolder) -> None:
    """Write annotations in VOC form, lists, label map, sizes and databases."""
    lists = write_voc(dataset, run.data)
    options = ConvertOptions(
        root=f"{run.data}/",
        detection=True,
        name_to_label=read_label_map(run.label_map, unique_names=True).name_to_label,
        image=ImageOptions(encoded=True, encode_type="jpg"),
    )
    with quiet():
        for part, lines in zip(("trainval", "test"), lists, strict=True):
            pairs = [(image, annotation) for image, annotation in map(str.split, lines)]
            convert(pairs, str(run.database(part)), options, replace=True)
