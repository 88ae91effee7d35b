"""Data sets whose pictures were not copied: with pictures without content in their place."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from caffe_ssd.data.records import LmdbSource
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum
from lmdb_tools.convert_annoset import main as convert_annoset
from tests.support.golden import GOLDEN


def blank_bccd(folder: Path) -> Path:
    """The BCCD data set with black pictures of the right size, in a new folder."""
    shutil.copytree(GOLDEN / "bccd", folder)
    (folder / "JPEGImages").mkdir()
    picture = cv2.imencode(".jpg", np.zeros((480, 640, 3), np.uint8))[1].tobytes()
    for split in ("trainval", "test"):
        for line in (folder / f"{split}.txt").read_text().splitlines():
            (folder / line.split()[0]).write_bytes(picture)
    return folder


def converted(data_set: Path, split: str, target: Path) -> str:
    """The database of a split of BCCD, made as the reference's was; returns its path."""
    label_map = f"--label_map_file={data_set}/labelmap_bccd.prototxt"
    flags = ["--anno_type=detection", label_map, "--check_label", "--encode_type=jpg", "--encoded"]
    assert convert_annoset([*flags, f"{data_set}/", f"{data_set}/{split}.txt", str(target)]) == 0
    return str(target)


def drawn_shapes(folder: Path) -> Path:
    """The data set of squares and discs: its pictures are in the recorded databases."""
    recorded = GOLDEN / "logs" / "detection" / "shapes"
    shutil.copytree(recorded, folder)
    (folder / "images").mkdir()
    for split in ("train", "test"):
        source = LmdbSource(recorded / f"{split}_lmdb")
        for index, line in enumerate((folder / f"{split}.txt").read_text().splitlines()):
            datum = AnnotatedDatum.FromString(source[index]).datum
            (folder / line.split()[0]).write_bytes(datum.data)
    return folder
