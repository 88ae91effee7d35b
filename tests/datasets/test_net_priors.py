"""Priors of nets without weights and data, what they reach, and the batches of a data layer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe_ssd.boxes.ground_truth import read_ground_truth
from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets import NetPriors, check, priors_of_net, write_voc
from caffe_ssd.datasets.database import read_database
from caffe_ssd.datasets.prior_checks import reach, size_class
from caffe_ssd.datasets.training_batches import training_examples
from caffe_ssd.errors import NetError
from caffe_ssd.layers.multibox_examples import MatchRule
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.net.net import build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase
from caffe_ssd.random import CaffeRandom
from lmdb_tools.convert_annoset import main as convert_annoset
from tests.support.annotated import drawn_dataset

HEAD = """
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 stride: 8 pad: 1
    weight_filler { type: "xavier" } } }
layer { name: "loc" type: "Convolution" bottom: "conv" top: "loc"
  convolution_param { num_output: 16 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "conf" type: "Convolution" bottom: "conv" top: "conf"
  convolution_param { num_output: 16 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loc_p" type: "Permute" bottom: "loc" top: "loc_p"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_f" type: "Flatten" bottom: "loc_p" top: "loc_f" flatten_param { axis: 1 } }
layer { name: "conf_p" type: "Permute" bottom: "conf" top: "conf_p"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_f" type: "Flatten" bottom: "conf_p" top: "conf_f" flatten_param { axis: 1 } }
layer { name: "small" type: "PriorBox" bottom: "conv" bottom: "data" top: "small"
  prior_box_param { min_size: 16 max_size: 30 variance: 0.1 } }
layer { name: "large" type: "PriorBox" bottom: "conv" bottom: "data" top: "large"
  prior_box_param { min_size: 40 aspect_ratio: 2 flip: false variance: 0.1 } }
layer { name: "priors" type: "Concat" bottom: "small" bottom: "large" top: "priors"
  concat_param { axis: 2 } }
"""
LOSS = """
layer { name: "loss" type: "MultiBoxLoss" bottom: "loc_f" bottom: "conf_f" bottom: "priors"
  bottom: "label" top: "loss" include { phase: TRAIN }
  multibox_loss_param { num_classes: 4 overlap_threshold: 0.4 use_difficult_gt: false } }
"""
DATA = """
name: "small"
layer { name: "data" type: "AnnotatedData" top: "data" top: "label" include { phase: TRAIN }
  transform_param { mirror: true mean_value: 104 mean_value: 117 mean_value: 123
    resize_param { height: 64 width: 96 interp_mode: LINEAR } }
  data_param { source: "SOURCE" batch_size: 3 backend: LMDB } }
"""


def net_of(text: str, source: str = "none_lmdb") -> NetParameter:
    return text_format.Parse(text.replace("SOURCE", source), NetParameter())


@pytest.fixture
def database(tmp_path: Path) -> str:
    """An LMDB of seven drawn pictures; the third has a difficult object."""
    dataset = drawn_dataset(tmp_path / "drawn", count=8, num_test=1)
    third = dataset.pictures[2]
    boxes = [third.boxes[0]._replace(is_difficult=True), *third.boxes[1:]]
    dataset.pictures[2] = replace(third, boxes=boxes)
    write_voc(dataset, tmp_path / "voc")
    flags = [
        "-anno_type=detection",
        f"-label_map_file={tmp_path}/voc/labelmap.prototxt",
        "-encode_type=png",
    ]
    path = str(tmp_path / "trainval_lmdb")
    assert convert_annoset([*flags, f"{tmp_path}/voc/", f"{tmp_path}/voc/trainval.txt", path]) == 0
    return path


def test_priors_are_those_of_a_net_that_runs(database: str) -> None:
    """The database need not be there for the priors, but is for the whole net."""
    without = priors_of_net(net_of(DATA + HEAD + LOSS))
    whole = build_net(net_of(DATA + HEAD + LOSS, database), NetState(phase=Phase.TRAIN))
    want = whole(keep=["priors"]).blobs["priors"][0, 0].reshape(-1, 4)
    assert without.boxes.shape == (8 * 12 * 4, 4)
    assert torch.equal(without.boxes, want)
    assert without.input_size == (64, 96)
    assert without.rule == MatchRule(overlap_threshold=float(np.float32(0.4)))
    assert not without.use_difficult


def test_priors_of_other_nets() -> None:
    deploy = """
    layer { name: "data" type: "Input" top: "data"
      input_param { shape { dim: 1 dim: 3 dim: 64 dim: 96 } } }"""
    output = """
    layer { name: "out" type: "DetectionOutput" bottom: "loc_f" bottom: "conf_f" bottom: "priors"
      top: "out" detection_output_param { num_classes: 4 } }"""
    got = priors_of_net(net_of(deploy + HEAD + output))
    assert torch.equal(got.boxes, priors_of_net(net_of(DATA + HEAD + LOSS)).boxes)
    assert got.rule == MatchRule()
    with pytest.raises(NetError, match="has no priors: it has neither a MultiBoxLoss nor"):
        priors_of_net(net_of(deploy + HEAD))
    unsized = DATA.replace("resize_param { height: 64 width: 96 interp_mode: LINEAR }", "")
    with pytest.raises(NetError, match=r"layer 'data' \(AnnotatedData\) does not state the size"):
        priors_of_net(net_of(unsized + HEAD + LOSS))


def plain_overlap(a: list[float], b: list[float]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / (sum(areas) - shared)


def test_reach_is_the_best_overlap_of_each_object(tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path, count=6)
    priors = priors_of_net(net_of(DATA + HEAD + LOSS))
    found = reach(dataset, priors)
    place = 0
    for index, picture in enumerate(dataset.pictures):
        height, width = picture.size
        for box in picture.boxes:
            sides = (width, height, width, height)
            corners = [value / side for value, side in zip(box.corners_px, sides, strict=True)]
            best = max(plain_overlap(corners, prior) for prior in priors.boxes.tolist())
            assert found.overlaps[place] == pytest.approx(best, abs=1e-5)
            assert (found.pictures[place], found.classes[place]) == (index, box.category)
            area = (corners[2] - corners[0]) * (corners[3] - corners[1])
            assert found.sizes[place] == pytest.approx(area**0.5, abs=1e-6)
            place += 1
    assert place == len(found.overlaps) > 8


def test_objects_out_of_reach_are_told(tmp_path: Path) -> None:
    dataset = drawn_dataset(tmp_path, count=3, num_test=0, same_size=(100, 100))
    boxes = [
        [AnnotatedBox("ring", 10, 10, 30, 30, False)],
        [AnnotatedBox("ring", 50, 50, 53, 53, False), AnnotatedBox("blåbær", 9, 9, 9, 20, False)],
        [AnnotatedBox("green square", 11, 10, 31, 30, False)],
    ]
    pictures = [replace(p, boxes=b) for p, b in zip(dataset.pictures, boxes, strict=True)]
    one = NetPriors(boxes=torch.tensor([[0.1, 0.1, 0.3, 0.3]]), input_size=(300, 300))
    found = [f for f in check(replace(dataset, pictures=pictures), one) if f.kind == "priors"]
    assert [(f.severity, [*f.where]) for f in found] == [("warning", [pictures[1].name])]
    assert found[0].text == (
        "1 of 3 objects (33.3%) is reached by none of the net's 1 priors (input 300 x 300) with "
        "an overlap of 0.5; each is learnt by one prior only. By class: ring 1. By size: "
        "0 to 0.05: 1 of 1"
    )


def test_size_classes() -> None:
    assert size_class(np.array([0, 0.049, 0.05, 0.2, 0.74, 0.75, 3])).tolist() == [
        0,
        0,
        1,
        3,
        5,
        6,
        6,
    ]


def test_a_database_is_a_data_set(database: str, tmp_path: Path) -> None:
    """Classes by name, boxes in pixels, a broken record as a finding."""
    dataset = read_database(database, tmp_path / "voc" / "labelmap.prototxt", split="train")
    drawn = drawn_dataset(tmp_path / "again", count=8, num_test=1)
    want = {Path(p.name).stem: p for p in drawn.pictures}
    assert len(dataset.pictures) == 7
    assert dataset.classes == drawn.classes
    for picture in dataset.pictures:
        same = want[Path(picture.name).stem]
        key = lambda box: (box.category, box.corners_px)  # noqa: E731 - records group by class
        assert sorted(map(key, picture.boxes)) == sorted(map(key, same.boxes))
        assert picture.size == same.size
    assert read_database(database).classes == ["1", "2", "3"]


def test_examples_are_what_a_training_would_see(database: str) -> None:
    """Pictures, boxes and matches of the whole net's first batches, by a second way."""
    param = net_of(DATA + HEAD + LOSS, database)
    examples = training_examples(param, 5, seed=11)
    assert len(examples) == 5
    whole = build_net(param, NetState(phase=Phase.TRAIN), Runtime(rng=CaffeRandom(11)))
    priors = priors_of_net(param).boxes
    place = 0
    for _ in range(2):
        blobs = whole(keep=["data", "label"]).blobs
        gts = read_ground_truth(
            blobs["label"], num_images=3, background_label_id=0, use_difficult=True
        )
        for index in range(3 if place == 0 else 2):
            example = examples[place]
            mean = torch.tensor([104.0, 117, 123])[:, None, None]
            image = (blobs["data"][index] + mean).round().clamp(0, 255).byte().permute(1, 2, 0)
            assert np.array_equal(example.image, image.numpy())
            count = int(gts.counts[index])
            assert np.array_equal(example.boxes, gts.boxes[index, :count].numpy())
            assert example.labels == gts.labels[index, :count].tolist()
            for box, difficult, matched in zip(
                example.boxes, example.difficult, example.priors, strict=True
            ):
                assert difficult or len(matched) >= 1
                assert not (difficult and len(matched))
                overlaps = [plain_overlap(box.tolist(), prior) for prior in matched.tolist()]
                assert sum(overlap < 0.4 for overlap in overlaps) <= 1  # the bipartite one
            matched_here = sum(len(each) for each in example.priors)
            assert matched_here <= len(priors)
            place += 1
    again = training_examples(param, 5, seed=11)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(examples, again, strict=True))


def test_a_net_that_reads_no_database() -> None:
    text = 'name: "x" layer { name: "data" type: "Input" top: "data" }'
    with pytest.raises(NetError, match=r"has no AnnotatedData layer in phase TRAIN"):
        training_examples(net_of(text), 1)
