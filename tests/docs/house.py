"""A folder with everything that the pages' commands name, tiny: nets, weights, pictures, data."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from caffe.models.grp_dsod_recipes import GRP_DSOD
from caffe.models.recipe import make_nets

from caffe_ssd.cli.main import main as caffe
from caffe_ssd.net.weights import save_binary
from caffe_ssd.proto.caffe_pb2 import SolverState
from caffe_ssd.scoring.loading import load_net
from lmdb_tools.shapes import make_shapes
from tests.data.databases import picture, write_small_database
from tests.support.tiny_detector import BODY, DATA, INPUT, JUDGE, tiny_detector
from tests.support.videos import write_video

ROOT = Path(__file__).resolve().parents[2]
VOC_SETS = {"VOC2007": ("trainval", "test"), "VOC2012": ("trainval", "test")}
LOSS = """
layer { name: "loss" type: "MultiBoxLoss" bottom: "loc_flat" bottom: "conf_flat" bottom: "priors"
  bottom: "label" top: "loss" include { phase: TRAIN } propagate_down: true propagate_down: true
  propagate_down: false propagate_down: false
  multibox_loss_param { num_classes: 3 use_prior_for_matching: true } }
"""
SOLVER = """
train_net: "train.prototxt"
base_lr: 0.001 lr_policy: "fixed" max_iter: 3 snapshot: 1 snapshot_prefix: "PREFIX" random_seed: 1
solver_mode: CPU
"""
LABELS = (("none_of_the_above", "background"), ("cat", "cat"), ("dog", "dog"))
VOC_XML = """<annotation><filename>{name}.jpg</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>5</xmin><ymin>6</ymin><xmax>25</xmax><ymax>28</ymax></bndbox></object></annotation>
"""


def furnish(folder: Path) -> None:
    """Fill an empty folder."""
    for name in ("examples", "data"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    _nets(folder)
    _pictures(folder)
    for name in ("train_lmdb", "test_lmdb"):
        write_small_database(folder / name)
    make_shapes(folder / "my_pictures", num_train=6, num_test=3, size=64, seed=1)
    _voc(folder / "home" / "data" / "VOCdevkit")
    _coco(folder / "home" / "data" / "coco")
    _trained(folder)


def _nets(folder: Path) -> None:
    body = BODY.replace('"found"', '"detection_out"')
    judge = JUDGE.replace('"found"', '"detection_out"')
    test = DATA.replace('"lmdb"', '"test_lmdb"')
    train = DATA.replace('"lmdb"', '"train_lmdb"')
    before_output = body.partition('layer { name: "detection_out"')[0]
    files = {
        "deploy.prototxt": INPUT + body,
        "test.prototxt": test + body + judge,
        "train.prototxt": train + before_output + LOSS,
        "solver.prototxt": SOLVER,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    labels = "".join(
        f'item {{ name: "{name}" label: {i} display_name: "{shown}" }}\n'
        for i, (name, shown) in enumerate(LABELS)
    )
    for name in ("labelmap.prototxt", "labelmap_voc.prototxt"):
        (folder / name).write_text(labels)
    net = tiny_detector(INPUT + body)
    for name in ("net", "x", "model"):
        save_binary(net, folder / f"{name}.caffemodel")


def _trained(folder: Path) -> None:
    """A snapshot of the solver's training, and weights of the small GRP-DSOD for the shapes."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        assert caffe(["train", "-solver", "solver.prototxt", "-workers", "0"]) == 0
        state = SolverState.FromString(Path("PREFIX_iter_3.solverstate").read_bytes())
        Path("PREFIX_iter_3.caffemodel").rename("PREFIX_iter_8000.caffemodel")
        state.iter, state.learned_net = 8000, "PREFIX_iter_8000.caffemodel"
        Path("PREFIX_iter_8000.solverstate").write_bytes(state.SerializeToString())
    finally:
        os.chdir(before)
    for path in folder.glob("PREFIX_iter_[1-3].*"):
        path.unlink()
    (folder / "PREFIX_results.jsonl").unlink()
    deploy = make_nets(GRP_DSOD.recipe("shapes", "tiny"), "results")["deploy"]
    small = folder / "small.prototxt"
    small.write_text(str(deploy))
    save_binary(load_net(small, is_deploy=True), folder / "shapes_iter_1000.caffemodel")
    items = (f'item {{ name: "{n}" label: {n} display_name: "{n}" }}\n' for n in range(8))
    (folder / "my_labelmap.prototxt").write_text("".join(items))


def _pictures(folder: Path) -> None:
    names = ("street.jpg", "picture.jpg", "a.jpg", "folder/b.jpg", "folder/c.png", "pictures/d.jpg")
    for seed, name in enumerate(names):
        _write(folder / name, picture(height=60, width=80, seed=seed))
    write_video(folder / "drive.avi", (picture(32, 48, seed=seed) for seed in range(3)))
    (folder / "drive.avi").rename(folder / "drive.mp4")


def _voc(root: Path) -> None:
    for number, (year, sets) in enumerate(VOC_SETS.items()):
        for index, image_set in enumerate(sets):
            names = [f"{number}{index}{n:04d}" for n in range(2)]
            _lines(root / year / "ImageSets" / "Main" / f"{image_set}.txt", names)
            for seed, name in enumerate(names):
                _write(root / year / "JPEGImages" / f"{name}.jpg", picture(seed=seed))
                _lines(root / year / "Annotations" / f"{name}.xml", [VOC_XML.format(name=name)])


def _coco(root: Path) -> None:
    for number, part in enumerate(("train2014", "val2014")):
        images, annotations = [], []
        for n in range(2):
            key = 10 * number + n + 1
            name = f"COCO_{part}_{key:012d}.jpg"
            _write(root / "images" / part / name, picture(seed=key))
            images.append({"id": key, "file_name": name, "height": 30, "width": 40})
            box = {"id": key, "image_id": key, "category_id": 18, "bbox": [5, 6, 20, 18]}
            annotations.append({**box, "area": 360, "iscrowd": 0})
        categories = [{"id": 18, "name": "dog", "supercategory": "animal"}]
        held = {"images": images, "annotations": annotations, "categories": categories}
        for name in _coco_sets(part):
            _lines(root / "annotations" / f"instances_{name}.json", [json.dumps(held)])


def _coco_sets(part: str) -> tuple[str, ...]:
    return (part,) if part == "train2014" else ("minival2014", "valminusminival2014")


def _write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image)


def _lines(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
