"""Every kind of file that a user may hand over: valid samples of it, and who reads it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import caffe
import cv2
import h5py
import numpy as np

from caffe_ssd.data.annotation_files import read_annotation_file
from caffe_ssd.data.mean import Mean
from caffe_ssd.data.window_list import read_windows
from caffe_ssd.datasets.summary import summarise
from caffe_ssd.errors import DataError
from caffe_ssd.evaluate.annotations import (
    read_coco_annotations,
    read_image_list,
    read_voc_annotations,
)
from caffe_ssd.evaluate.results import read_coco, read_ilsvrc, read_name_sizes, read_voc
from caffe_ssd.evaluate.test_set import TestSet
from caffe_ssd.layers.image_data import ImageList
from caffe_ssd.proto.blobs import array_to_blob
from caffe_ssd.proto.caffe_pb2 import TransformationParameter
from caffe_ssd.proto.label_map import read_label_map
from lmdb_tools.annoset import read_list
from lmdb_tools.annotations import to_annotations
from lmdb_tools.create_label_map import label_map_from_lines
from lmdb_tools.split_coco import split_coco
from tests.data.databases import write_small_database
from tests.layers.minimal_files import write_files
from tests.layers.minimal_nets import CONFIGS

MOST_VALUES = 3_000_000
"""A net with more values in its blobs is built, but not run: it may take what time it needs."""

_NOT_RUN = {"HDF5Output", "Python", "VideoData"}  # they write files, are code, or open a camera

NET = """name: "n" layer { name: "d" type: "DummyData" top: "d" dummy_data_param {
shape { dim: 2 dim: 3 dim: 8 dim: 8 } data_filler { value: 1 } } }
layer { name: "c1" type: "Convolution" bottom: "d" top: "c1" convolution_param { num_output: 4
kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "l" type: "Reduction" bottom: "c1" top: "l" loss_weight: 1 }
"""
SOLVER = """net: "net.prototxt" base_lr: 0.01 lr_policy: "multistep" stepvalue: 2 stepvalue: 4
max_iter: 5 snapshot_prefix: "x" momentum: 0.9 random_seed: 1 weight_decay: 0.0005 gamma: 0.1
"""
LABEL_MAP = """item { name: "none_of_the_above" label: 0 display_name: "background" }
item { name: "cat" label: 1 display_name: "Cat" } item { name: "dog" label: 2 }
"""
XML = """<?xml version="1.0" encoding="UTF-8"?><annotation><size><width>40</width>
<height>30</height></size><object><name>cat</name><difficult>0</difficult><bndbox><xmin>3</xmin>
<ymin>4</ymin><xmax>20</xmax><ymax>22</ymax></bndbox></object><object><name>dog</name><bndbox>
<xmin>1.5</xmin><ymin>2</ymin><xmax>30</xmax><ymax>25</ymax></bndbox><difficult>1</difficult>
</object></annotation>"""
DATA_NET = """layer { name: "data" type: "AnnotatedData" top: "data" top: "label" data_param {
source: "db" backend: LMDB batch_size: 3 } transform_param { force_color: true resize_param {
prob: 1 resize_mode: WARP height: 20 width: 24 interp_mode: LINEAR } } }
"""
RECORDS_NET = """layer { name: "d" type: "HDF5Data" top: "t0" top: "t1"
hdf5_data_param { source: "h5.txt" batch_size: 3 } }
"""
LABELS = {"cat": 1, "dog": 2}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of file.

    Args:
        file: its name in the working folder; what is beside it, `prepare` wrote.
        samples: valid ones.
        read: what reads it, in the working folder.
    """

    file: str
    samples: Sequence[bytes]
    read: Callable[[Path], object]


def prepare(folder: Path) -> dict[str, Kind]:
    """Write what samples are made of and what is read with them; the working folder is `folder`."""
    write_files(folder)
    (folder / "net.prototxt").write_text(NET)
    (folder / "solver.prototxt").write_text(SOLVER)
    (folder / "data.prototxt").write_text(DATA_NET)
    (folder / "records.prototxt").write_text(RECORDS_NET)
    (folder / "h5.txt").write_text("rows.h5\n")
    for name in ("db", "split"):
        (folder / name).mkdir()
    return {**_weights(folder), **_messages(), **_containers(folder), **_texts()}


def _weights(folder: Path) -> dict[str, Kind]:
    saved = {}
    for form in ("BINARYPROTO", "HDF5"):
        text = f"{SOLVER} snapshot_format: {form}"
        (folder / "solver.prototxt").write_text(text)
        solver = caffe.get_solver("solver.prototxt")
        solver.step(2)
        solver.snapshot()
        for path in folder.glob("x_iter_2.*"):
            saved[path.name.removeprefix("x_iter_2.")] = path.read_bytes()  # a state names weights
    (folder / "solver.prototxt").write_text(SOLVER)

    def load(path: Path) -> None:
        caffe.Net("net.prototxt", caffe.TEST).copy_from(str(path))

    def restore(path: Path) -> None:
        caffe.get_solver("solver.prototxt").restore(str(path))

    readers = {"caffemodel": load, "solverstate": restore}
    return {
        ending: Kind(file=f"a.{ending}", samples=[data], read=readers[ending.split(".")[0]])
        for ending, data in saved.items()
    }


def _messages() -> dict[str, Kind]:
    nets = [
        config.text(name, Path(), batch=2).encode()
        for name, configs in CONFIGS.items()
        if name not in _NOT_RUN
        for config in configs
    ]
    mean = array_to_blob(np.full((1, 3, 5, 4), 100)).SerializeToString()
    return {
        "net": Kind(file="a.prototxt", samples=nets, read=_run_net),
        "solver": Kind(
            file="s.prototxt", samples=[SOLVER.encode()], read=lambda p: caffe.get_solver(str(p))
        ),
        "label_map": Kind(
            file="m.prototxt",
            samples=[LABEL_MAP.encode()],
            read=lambda p: read_label_map(p, strict=True),
        ),
        "mean": Kind(
            file="mean.binaryproto",
            samples=[mean],
            read=lambda p: Mean.from_param(TransformationParameter(mean_file=str(p))),
        ),
    }


def _run_net(path: Path) -> None:
    net = caffe.Net(str(path), caffe.TRAIN)
    shapes = [tuple(blob.shape) for blob in net.blobs.values()]
    if sum(math.prod(shape) for shape in shapes) <= MOST_VALUES:
        net.forward()


def _containers(folder: Path) -> dict[str, Kind]:
    write_small_database(folder / "good")
    image = cv2.resize(np.random.default_rng(0).integers(0, 255, (5, 4, 3), np.uint8), (80, 64))
    pictures = []
    for extension in ("jpg", "png", "bmp", "webp", "tiff", "ppm", "gif", "jp2", "ras", "hdr"):
        pixels = image.astype(np.float32) if extension == "hdr" else image
        pictures.append(cv2.imencode(f".{extension}", pixels)[1].tobytes())
    with h5py.File(folder / "rows.h5", "w") as file:
        file["t0"] = np.arange(12, dtype=np.float32).reshape(4, 3)
        file.create_dataset("t1", data=np.arange(4, dtype=np.float64), compression="gzip")
    rows = [(folder / name).read_bytes() for name in ("rows.h5", "data.h5")]
    lmdb = (folder / "good" / "data.mdb").read_bytes()

    used = -(-len(lmdb.rstrip(b"\0")) // 4096) * 4096  # whole pages

    def read_database(path: Path) -> None:
        summary = summarise("db")
        if not summary.broken:
            caffe.Net("data.prototxt", caffe.TRAIN).forward()

    def read_rows(path: Path) -> None:
        caffe.Net("records.prototxt", caffe.TRAIN).forward()

    return {
        "lmdb": Kind(
            file="db/data.mdb",
            samples=[lmdb[:used]],
            read=read_database,
        ),
        "h5_data": Kind(file="rows.h5", samples=rows, read=read_rows),
        "picture": Kind(file="a.img", samples=pictures, read=lambda p: caffe.io.load_image(str(p))),
    }


def _texts() -> dict[str, Kind]:
    per_image = {
        "image": {"height": 30, "width": 40},
        "annotation": [{"category_id": 18, "bbox": [1.5, 2, 3, 4], "iscrowd": 0}],
    }
    coco = {
        "images": [{"id": 42, "height": 30, "width": 40, "file_name": "COCO_val_42.jpg"}],
        "categories": [{"id": 18, "name": "dog"}],
        "annotations": [{"image_id": 42, "category_id": 18, "bbox": [1.5, 2, 3, 4], "area": 9}],
    }
    found = [{"image_id": 42, "category_id": 18, "bbox": [1, 2, 3, 4], "score": 0.9}]

    def annotation(label_type: str) -> Callable[[Path], object]:
        def read(path: Path) -> None:
            file = read_annotation_file(path, label_type=label_type)
            names = {**LABELS, "18": 1}
            to_annotations(file, label_type=label_type, image_size=(30, 40), name_to_label=names)
            if file.faults:
                raise DataError(file.faults[0])

        return read

    def coco_annotations(path: Path) -> None:
        read_coco_annotations(path)
        split_coco("split", path)

    def voc_annotations(path: Path) -> TestSet:
        return read_voc_annotations(path.parent, [path.stem])

    readers: dict[str, tuple[str, str, Callable[[Path], object]]] = {
        "voc_xml": ("a.xml", XML, annotation("xml")),
        "voc_test_set": ("b.xml", XML, voc_annotations),
        "image_json": ("a.json", json.dumps(per_image), annotation("json")),
        "txt": ("a.txt", "1 3 4 20 22\n2 1.5 2 30 25\n", annotation("txt")),
        "coco": ("coco.json", json.dumps(coco), coco_annotations),
        "list": ("list.txt", "a.jpg a.xml\nb.jpg b.xml\n", lambda p: read_list(p, detection=True)),
        "class_list": ("list.txt", "a.jpg 3\nb 4\n", lambda p: read_list(p, detection=False)),
        "image_data_list": ("l.txt", "0.png 0\n1.png 1\n", lambda p: ImageList(str(p), seed=1)[1]),
        "image_names": ("names.txt", "a 1\nb.jpg -1\n", read_image_list),
        "name_sizes": ("sizes.txt", "a 30 40\nb 31 41\n", read_name_sizes),
        "windows": (
            "w.txt",
            "# 0\n0.png\n3\n20\n30\n2\n1 0.9 2 1 20 12\n0 0.1 0 0 9 15\n",
            lambda p: read_windows(str(p)),
        ),
        "voc_results": ("r.txt", "a 0.9 1 2 30 35\nb 0.5 3 4 5 6\n", lambda p: read_voc(p, "cat")),
        "ilsvrc_results": ("i.txt", "a 1 0.9 1 2 30 35\n", read_ilsvrc),
        "coco_results": ("r.json", json.dumps(found), read_coco),
        "class_names": (
            "map.txt",
            "cat,1,Cat\ndog,2,Dog\n",
            lambda p: label_map_from_lines(
                p.read_text(errors="replace").splitlines(), delimiter=",", include_background=True
            ),
        ),
    }
    return {
        name: Kind(file=file, samples=[text.encode()], read=read)
        for name, (file, text, read) in readers.items()
    }
