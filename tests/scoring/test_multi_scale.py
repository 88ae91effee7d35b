"""Several looks of one detector, against each look by itself."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
import torch

from caffe_ssd.boxes.merging import merge_detections, mirrored, of_size
from caffe_ssd.errors import NetError
from caffe_ssd.net.part import NetPart
from caffe_ssd.scoring.multi_scale import MultiScaleDetector, MultiScaleRule, merge_rule
from caffe_ssd.scoring.picture_detector import PictureDetector, found_rows
from tests.support.tiny_detector import BODY, INPUT, tiny_detector

SIZES = ((24, 40), (32, 48), (44, 52))


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    small = [rng.integers(0, 256, (5, 6, 3), np.uint8) for _ in range(2)]
    return [cv2.resize(small[0], (61, 37)), cv2.resize(small[1], (45, 80))]


def part(net, fed="data", wanted="found"):
    value = next(step for step in net.steps if step.param.name == fed).tops[0]
    return NetPart(net, fed=value, wanted=net.final_value(wanted))


def with_layers(more, body=BODY):
    return tiny_detector(INPUT + body + more)


def test_one_look_is_the_plain_detector():
    net = tiny_detector()
    plain = PictureDetector(net)
    rule = MultiScaleRule(sizes=((32, 48),), merge=merge_rule(net))
    rows = MultiScaleDetector(net, rule).rows(pictures())
    batch = plain.batch(pictures(), (32, 48))
    assert len(rows) > 20
    assert torch.equal(rows, net({"data": batch}).blobs["found"][0, 0])


@pytest.mark.parametrize("merge", ["vote", "nms"])
@pytest.mark.parametrize("flip", [False, True])
def test_looks_are_merged(flip, merge):
    net = tiny_detector()
    looks = []
    for size in SIZES:
        detector = PictureDetector(net, size=size)
        looks.append(detector.rows(pictures()))
        if flip:
            flipped = [cv2.flip(picture, 1) for picture in pictures()]
            batch = detector.batch(flipped, size)
            # Resizing a mirrored picture may round otherwise than mirroring a resized one.
            same = detector.batch(pictures(), size).flip(3)
            assert (batch - same).abs().max() <= 1
            looks.append(mirrored(found_rows(net({"data": same}).blobs["found"])))
    rule = MultiScaleRule(sizes=SIZES, flip=flip, merge=merge_rule(net, merge))
    assert rule.merge.nms_threshold == pytest.approx(0.4)
    assert (rule.merge.vote_threshold is None) == (merge == "nms")
    have = MultiScaleDetector(net, rule).rows(pictures())
    assert torch.equal(have, merge_detections(looks, rule.merge))
    assert torch.bincount(have[:, 0].long()).max() <= 40


def test_objects_are_believed_by_size():
    net = tiny_detector()
    ranges = ((0.3, 2.0), (0.0, 9.0), (0.0, 0.25))
    looks = [PictureDetector(net, size=size).rows(pictures()) for size in SIZES]
    looks = [of_size(rows, *limits) for rows, limits in zip(looks, ranges, strict=True)]
    assert [len(rows) > 0 for rows in looks] == [True] * 3
    rule = MultiScaleRule(sizes=SIZES, merge=merge_rule(net), object_sizes=ranges)
    have = MultiScaleDetector(net, rule).rows(pictures())
    assert torch.equal(have, merge_detections(looks, rule.merge))


def test_a_size_that_the_net_does_not_take():
    head = 'layer { name: "fc" type: "InnerProduct" bottom: "f" top: "fc" inner_product_param '
    head += '{ num_output: 4 } } layer { name: "x" type: "Silence" bottom: "fc" }'
    part(with_layers(head)).check_size((1, 3, 36, 48))  # that layer is not on the way
    body = BODY.replace("pad: 2 stride: 4", "pad: 0 stride: 4")
    with pytest.raises(
        NetError, match=r"not take pictures of 1 x 48 \(height x width\): layer 'f'"
    ):
        part(with_layers("", body)).check_size((1, 3, 1, 48))
    rows = BODY.replace("dim: 0 dim: -1 dim: 3", "dim: 0 dim: 96 dim: 3")
    net = with_layers("", rows)
    rule = MultiScaleRule(sizes=((32, 48), (36, 48)), merge=merge_rule(net))
    with pytest.raises(NetError, match=r"36 x 48 .* layer 'conf_rows' \(Reshape\)"):
        MultiScaleDetector(net, rule)


def test_priors_of_a_fixed_picture():
    net = with_layers("", BODY.replace("min_size: 12", "min_size: 12 img_h: 32 img_w: 48"))
    part(net).check_size((2, 3, 32, 48))
    with pytest.raises(NetError, match=r"'priors' \(PriorBox\) makes priors for pictures of 32 x"):
        part(net).check_size((2, 3, 36, 48))


def test_steps_that_miss_the_picture_are_reported(caplog):
    body = BODY.replace("pad: 2 stride: 4", "pad: 0 stride: 2").replace("12 }", "12 step: 3.3 }")
    net = with_layers("", body)
    with caplog.at_level(logging.WARNING):
        part(net).check_size((2, 3, 12, 12))
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        part(net).check_size((2, 3, 24, 32))
    (record,) = caplog.records
    assert "'priors' (PriorBox): 10 cells of 3.3 pixels (step) cover 33 pixels" in record.message


def test_what_is_wanted_must_come_from_what_is_fed():
    with pytest.raises(NetError, match=r"'priors' \(PriorBox\) reads 'data.*not come from 'f'"):
        part(tiny_detector(), fed="f")
