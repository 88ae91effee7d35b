"""Writes a data set to a folder: `write_folder` in any format, `write_voc` to make LMDBs of."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from caffe_ssd.datasets.dataset import Dataset
from caffe_ssd.datasets.formats import FORMATS
from caffe_ssd.datasets.formats.voc import write_voc_layout
from caffe_ssd.errors import FileError, UsageError
from caffe_ssd.files import temporary_name


def write_folder(dataset: Dataset, root: str | os.PathLike[str], format: str) -> dict[str, int]:
    """Write a data set to a new folder: pictures, annotations, splits and a label map.

    Pictures are copied as they are, but for those that an EXIF tag turns: they are stored turned,
    without the tag, so that every program sees the boxes in their place.

    Args:
        dataset: what to write.
        root: the folder; absent or empty.
        format: a key of `FORMATS`.

    Returns:
        What the format cannot hold, counted.

    Raises:
        UsageError: there is no such format.
        FileError: the folder holds something, or cannot be written; nothing is left behind.
    """
    if format not in FORMATS:
        raise UsageError(f"format is {format!r}; allowed: {', '.join(FORMATS)}")
    with _new_folder(root) as folder:
        return FORMATS[format].write(dataset, str(folder))


def write_voc(
    dataset: Dataset, root: str | os.PathLike[str], *, seed: int = 0
) -> tuple[list[str], list[str]]:
    """Write what LMDBs are made of: VOC annotations, lists, label map and test sizes.

    `convert_annoset ROOT/ ROOT/trainval.txt` and the like make the databases. Pictures are links to
    the originals (copies, where links cannot be made); those that data layers would see otherwise
    than people do (turned by EXIF, gray, with transparency or more than 8 bits) are stored anew as
    colour JPEG.

    Args:
        dataset: what to write; its pictures must be divided into train and test.
        root: a folder; files of these names must not be in it.
        seed: of the order of the training list, as records are never shuffled later.

    Returns:
        The lines of trainval.txt and of test.txt: picture and annotation, relative to `root`.

    Raises:
        UsageError: the data set is not divided.
        FileError: something cannot be written.
    """
    if not dataset.is_split:
        raise UsageError(f"{dataset.root} is not divided into train and test; call split first")
    used = [picture for picture in dataset.pictures if picture.split]
    folder = Path(root)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_voc_layout(replace(dataset, pictures=used), folder, link=True, seed=seed)
        lists = [
            (folder / f"{name}.txt").read_text(encoding="utf-8") for name in ("trainval", "test")
        ]
    except OSError as error:
        raise FileError(f"Could not write {folder}: {error}") from error
    return lists[0].splitlines(), lists[1].splitlines()


@contextmanager
def _new_folder(root: str | os.PathLike[str]) -> Iterator[Path]:
    """A folder that takes its name when the block ends well."""
    target = Path(os.path.abspath(root))
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileError(f"{root} exists and is not empty; choose a new folder")
    temporary = temporary_name(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rmdir()
        temporary.rename(target)
    except OSError as error:
        raise FileError(f"Could not write the folder {root}: {error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
