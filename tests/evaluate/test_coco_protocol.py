"""COCO's protocol: what is handed to the official code, and what it says of cases done by hand."""

from __future__ import annotations

import math
import sys

import pytest

from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.coco_protocol import NUMBERS, check_pycocotools, score_coco
from caffe_ssd.evaluate.results import Detection, ImageSize
from caffe_ssd.evaluate.test_set import AnnotatedObject, make_test_set

CATEGORIES = {"18": "dog", "44": "bottle"}


def scored(objects, detections, names=("139", "42")):
    images = [ImageSize(name=name, height=300, width=400) for name in names]
    test_set = make_test_set(images, CATEGORIES, objects)
    return score_coco(test_set, test_set.found(detections, source="a test"))


def test_by_hand(capsys):
    """One of two dogs found with an overlap of .78, which 6 of the 10 thresholds accept.

    The 101 recalls from 0 to .5 have precision 1.
    """
    pytest.importorskip("pycocotools")
    objects = [
        AnnotatedObject("139", "18", 20, 30, 10, 10, False),
        AnnotatedObject("42", "18", 50, 60, 10, 10, False),
    ]
    result = scored(objects, [Detection("139", "18", 0.9, 20, 30, 10, 7.8)])
    want = 0.6 * 51 / 101
    numbers = dict(result.numbers)
    assert tuple(numbers) == NUMBERS
    assert numbers["COCO AP@[.50:.95]"] == pytest.approx(want)
    assert numbers["COCO AP@.50"] == numbers["COCO AP@.75"] == pytest.approx(51 / 101)
    assert numbers["COCO AP@[.50:.95] small"] == pytest.approx(want)
    assert math.isnan(numbers["COCO AP@[.50:.95] large"])
    assert numbers["COCO AR@[.50:.95] 100 per image"] == pytest.approx(0.3)
    assert result.per_class["AP"]["18"] == pytest.approx(want)
    assert math.isnan(result.per_class["AP75"]["44"])
    assert capsys.readouterr().out == ""


def test_crowds_and_stated_areas():
    pytest.importorskip("pycocotools")
    objects = [
        AnnotatedObject("139", "18", 20, 30, 10, 10, True),
        AnnotatedObject("139", "18", 100, 100, 40, 30, False, area_px=1000),
    ]
    detections = [
        Detection("139", "18", 0.9, 20, 30, 10, 5),  # inside the crowd: not counted
        Detection("139", "18", 0.8, 20, 35, 10, 5),
        Detection("139", "18", 0.7, 100, 100, 40, 30),
    ]
    numbers = scored(objects, detections).numbers
    assert numbers["COCO AP@[.50:.95]"] == pytest.approx(1)
    assert numbers["COCO AP@[.50:.95] small"] == pytest.approx(1)  # 1000 < 32 * 32 <= 1200
    assert math.isnan(numbers["COCO AP@[.50:.95] medium"])


def test_nothing_found():
    pytest.importorskip("pycocotools")
    result = scored([AnnotatedObject("x", "18", 20, 30, 10, 10, False)], [], names=("x", "y"))
    assert result.numbers["COCO AP@[.50:.95]"] == 0


def test_equal_scores_rank_by_the_number_of_the_image():
    """The wrong one comes first because 42 < 139, whatever the order of files and images."""
    pytest.importorskip("pycocotools")
    objects = [AnnotatedObject("139", "18", 20, 30, 10, 10, False)]
    right = Detection("139", "18", 0.5, 20, 30, 10, 10)
    wrong = Detection("42", "18", 0.5, 20, 30, 10, 10)
    for detections in ([right, wrong], [wrong, right]):
        result = scored(objects, detections)
        assert result.numbers["COCO AP@.50"] == pytest.approx(0.5)


def test_without_pycocotools(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.coco", None)
    with pytest.raises(UsageError, match=r"needs.*pycocotools: pip install 'ssd-caffe\[coco\]'"):
        check_pycocotools()
