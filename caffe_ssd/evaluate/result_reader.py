"""Detections of a whole test set from result files of any format, ours or another tool's.

Spec: ssd-data.md section 7 (names and formats).

A folder holds VOC files, one per class; a `.json` file is COCO's; a `.txt` file is ILSVRC's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from caffe_ssd.errors import DataError, FileError, UsageError
from caffe_ssd.evaluate.results import Detection, read_coco, read_ilsvrc, read_voc
from caffe_ssd.evaluate.test_set import Found, TestSet
from caffe_ssd.proto.label_map import LabelMap

logger = logging.getLogger(__name__)

PREFIXES = ("comp4_det_test_", "comp3_det_test_")
"""How the files of a VOC submission begin: trained with other data too, or on VOC alone."""


def read_results(
    path: str | os.PathLike[str],
    test_set: TestSet,
    *,
    prefix: str | None = None,
    label_map: LabelMap | None = None,
) -> Found:
    """Read the detections of a test set.

    Args:
        path: a folder of VOC files, a `.json` file (COCO) or a `.txt` file (ILSVRC).
        test_set: what they are about.
        prefix: beginning of the names of VOC files; None finds it out.
        label_map: names of the labels in an ILSVRC file.

    Raises:
        FileError: there is no such file.
        DataError: a file is damaged, or it is about another test set.
        UsageError: the format cannot be told, or an ILSVRC file comes without a label map.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"Could not open {path}: there is no such file or folder")
    if path.is_dir():
        return test_set.found(_read_folder(path, test_set, prefix), source=str(path))
    if path.suffix == ".json":
        return test_set.found(read_coco(path), source=str(path))
    if path.suffix != ".txt":
        raise UsageError(
            f"{path}: results are a folder of VOC files, a .json file (COCO) or a .txt file "
            "(ILSVRC)"
        )
    if label_map is None:
        raise UsageError(
            f"{path} is read as an ILSVRC file, whose labels need a label map; for VOC files give "
            "their folder"
        )
    return test_set.found(_named(read_ilsvrc(path), label_map, path), source=str(path))


def voc_files(
    folder: Path, categories: tuple[str, ...], prefix: str | None = None
) -> dict[str, Path]:
    """The file of each category that has one.

    Raises:
        FileError: there is none at all.
    """
    for start in PREFIXES if prefix is None else (prefix,):
        files = {name: folder / f"{start}{name}.txt" for name in categories}
        files = {name: file for name, file in files.items() if file.is_file()}
        if files:
            return files
    tried = " or ".join(PREFIXES) if prefix is None else prefix
    raise FileError(
        f"{folder}: no result file of a class, such as {tried}{categories[0]}.txt; another prefix "
        "can be given"
    )


def _read_folder(folder: Path, test_set: TestSet, prefix: str | None) -> Iterator[Detection]:
    files = voc_files(folder, tuple(test_set.categories), prefix)
    for name in test_set.categories:
        if name not in files:
            logger.warning("%s has no result file of class %s; nothing was found", folder, name)
            continue
        yield from read_voc(files[name], name)


def _named(detections: list[Detection], label_map: LabelMap, path: Path) -> Iterator[Detection]:
    labels = {str(label): name for label, name in label_map.label_to_name.items()}
    for each in detections:
        name = labels.get(each.category)
        if name is None:
            raise DataError(f"{path}: label {each.category} is not in the label map")
        yield each._replace(category=name)
