"""What the actions of `caffe data` share: a folder or a database named on the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from caffe_ssd.datasets import FORMATS, Dataset, read_folder
from caffe_ssd.datasets.database import read_database
from caffe_ssd.datasets.dataset import TEST, TRAIN
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import UsageError


def add_format_flag(parser: FlagParser) -> None:
    """Add -format."""
    parser.add_flag(
        "format", choices=tuple(FORMATS), help="of the annotations; recognised if not given"
    )


def is_database(path: str) -> bool:
    """Whether a path is an LMDB."""
    return Path(path, "data.mdb").is_file()


def label_map_near(database: str) -> str | None:
    """The one label map in the folder where a database lies; None if there is none, or several."""
    found = sorted(Path(database).absolute().parent.glob("labelmap*.prototxt"))
    return str(found[0]) if len(found) == 1 else None


def read_sources(paths: list[str], format: str | None, label_map: str | None) -> Dataset:
    """A folder, a database, or two databases: for training and for testing.

    Raises:
        UsageError: there are more, or they do not go together.
        CaffeError: one cannot be read.
    """
    databases = [path for path in paths if is_database(path)]
    if not databases and len(paths) == 1:
        if label_map is not None:
            raise UsageError("-label_map is for databases; a folder's own annotations have names")
        return read_folder(paths[0], format)
    if len(databases) != len(paths) or len(paths) > 2 or format is not None:
        raise UsageError(
            "give one folder, one LMDB, or the LMDB of training and the one of testing; -format is "
            "for folders"
        )
    splits = (TRAIN, TEST) if len(paths) == 2 else ("",)
    parts = [
        read_database(path, label_map_near(path) if label_map is None else label_map, split=split)
        for path, split in zip(paths, splits, strict=True)
    ]
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: list[Dataset]) -> Dataset:
    """Two databases as one data set; names of records are told apart by their database."""
    names = list(dict.fromkeys(name for part in parts for name in part.classes))
    pictures = [
        replace(picture, name=f"{part.root}:{picture.name}")
        for part in parts
        for picture in part.pictures
    ]
    return replace(
        parts[0],
        root=" and ".join(part.root for part in parts),
        pictures=pictures,
        classes=names,
        findings=[finding for part in parts for finding in part.findings],
    )
