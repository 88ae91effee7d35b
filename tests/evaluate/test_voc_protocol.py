"""VOC's protocol: cases counted by hand, a plain loop, and a recorded detector."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.annotations import read_image_list, read_voc_annotations
from caffe_ssd.evaluate.result_reader import read_results
from caffe_ssd.evaluate.results import Detection, ImageSize
from caffe_ssd.evaluate.test_set import AnnotatedObject, make_test_set
from caffe_ssd.evaluate.voc_protocol import score_voc
from tests.support.golden import GOLDEN

IMAGES = [ImageSize(name=name, height=80, width=100) for name in ("a", "b", "c")]
CATEGORIES = {"cat": "cat", "dog": "dog"}
YEARS = ("2007", "2012")


def an_object(image, box, *, category="cat", is_difficult=False):
    x, y, xmax, ymax = box
    return AnnotatedObject(image, category, x, y, xmax - x, ymax - y, is_difficult)


def a_detection(image, score, box, *, category="cat"):
    x, y, xmax, ymax = box
    return Detection(image, category, score, x, y, xmax - x, ymax - y)


def ap(objects, detections, year, category="cat"):
    test_set = make_test_set(IMAGES, CATEGORIES, objects)
    found = test_set.found(detections, source="a test")
    return score_voc(test_set, found, year=year).per_class["AP"][category]


TEN = (10, 10, 19, 19)  # ten pixels each way


def test_by_hand():
    """Found, missed, found again, false alarm: precisions 1, 1/2, 2/3 at recalls 1/3, 1/3, 2/3."""
    objects = [an_object("a", TEN), an_object("a", (50, 50, 69, 59)), an_object("b", TEN)]
    detections = [
        a_detection("b", 0.7, (50, 50, 69, 59)),
        a_detection("a", 0.9, TEN),
        a_detection("b", 0.5, TEN),
    ]
    assert ap(objects, detections, "2012") == pytest.approx((1 + 2 / 3) / 3)
    # Recalls 0 to .3 have precision 1, .4 to .6 have 2/3, the others 0.
    assert ap(objects, detections, "2007") == pytest.approx((4 + 3 * 2 / 3) / 11)


@pytest.mark.parametrize("year", YEARS)
@pytest.mark.parametrize(
    ("box", "want"),
    [
        ((10, 10, 19, 14), 1.0),  # 50 of 100 pixels; 9 * 4 of 81 were too few
        ((10, 10, 19, 13), 0.0),  # 40 of 100
        ((15, 10, 24, 19), 0.0),  # 50 of 150
        ((19, 19, 19, 19), 0.0),
    ],
)
def test_boxes_include_their_last_pixel(year, box, want):
    assert ap([an_object("a", TEN)], [a_detection("a", 0.9, box)], year) == pytest.approx(want)


@pytest.mark.parametrize("year", YEARS)
def test_one_detection_per_object(year):
    """The second one is a false alarm even where another object is near enough."""
    objects = [an_object("a", TEN), an_object("a", (10, 10, 19, 24))]
    detections = [a_detection("a", 0.9, TEN), a_detection("a", 0.8, TEN)]
    want = {"2007": 6 / 11, "2012": 0.5}  # recall 1/2, precision 1
    assert ap(objects, detections, year) == pytest.approx(want[year])


@pytest.mark.parametrize("year", YEARS)
def test_difficult_objects_do_not_count(year):
    far = (50, 50, 69, 59)
    objects = [an_object("a", TEN, is_difficult=True), an_object("a", far)]
    twice_difficult = [a_detection("a", 0.9, TEN), a_detection("a", 0.8, TEN)]
    assert ap(objects, [*twice_difficult, a_detection("a", 0.7, far)], year) == pytest.approx(1)


@pytest.mark.parametrize("year", YEARS)
def test_classes_and_images_do_not_mix(year):
    objects = [an_object("a", TEN), an_object("b", TEN, category="dog")]
    detections = [a_detection("b", 0.9, TEN), a_detection("a", 0.9, TEN, category="dog")]
    assert ap(objects, detections, year) == 0


def test_equal_scores_keep_the_order_of_the_file():
    objects = [an_object("a", TEN)]
    right, wrong = a_detection("a", 0.5, TEN), a_detection("c", 0.5, TEN)
    assert ap(objects, [right, wrong], "2012") == 1
    assert ap(objects, [wrong, right], "2012") == 0.5


def test_recall_of_exactly_three_tenths_falls_short():
    """Recall 3/10 with precision 1: MATLAB's 0:0.1:1 counts it for 0, .1 and .2 only."""
    objects = [an_object("a", (20 * i, 0, 20 * i + 9, 9)) for i in range(10)]
    detections = [a_detection("a", 0.9, (20 * i, 0, 20 * i + 9, 9)) for i in range(3)]
    assert ap(objects, detections, "2007") == pytest.approx(3 / 11)


@pytest.mark.parametrize("num_found", [1, 2, 4, 5, 6, 7, 8, 9, 10])
def test_recalls_of_other_tenths_suffice(num_found):
    objects = [an_object("a", (20 * i, 0, 20 * i + 9, 9)) for i in range(10)]
    detections = [a_detection("a", 0.9, (20 * i, 0, 20 * i + 9, 9)) for i in range(num_found)]
    assert ap(objects, detections, "2007") == pytest.approx((num_found + 1) / 11)


def test_a_class_without_objects_is_left_out_of_the_mean():
    test_set = make_test_set(IMAGES, CATEGORIES, [an_object("a", TEN)])
    detections = [a_detection("a", 0.9, TEN), a_detection("a", 0.9, TEN, category="dog")]
    result = score_voc(test_set, test_set.found(detections, source="a test"), year="2007")
    assert math.isnan(result.per_class["AP"]["dog"])
    assert result.numbers == {"VOC2007 protocol mAP": pytest.approx(1)}
    nothing = score_voc(test_set, test_set.found([], source="a test"), year="2012")
    assert nothing.numbers == {"VOC2012 protocol mAP": 0}


def test_an_unknown_year_is_refused():
    test_set = make_test_set(IMAGES, CATEGORIES, [])
    with pytest.raises(UsageError, match="unknown year of VOC '2006'; known: 2007, 2012"):
        score_voc(test_set, test_set.found([], source="a test"), year="2006")


def loop_ap(objects, detections, year):
    """The same rules, one detection after the other."""
    claimed = set()
    num_pos = sum(not each.is_difficult for each in objects)
    tp = fp = 0
    points = []
    for det in sorted(detections, key=lambda each: -each.score):
        best, overlap = None, -1.0
        for number, each in enumerate(objects):
            if each.image != det.image:
                continue
            width = min(each.x_px + each.width_px, det.x_px + det.width_px) + 1
            width -= max(each.x_px, det.x_px)
            height = min(each.y_px + each.height_px, det.y_px + det.height_px) + 1
            height -= max(each.y_px, det.y_px)
            if width <= 0 or height <= 0:
                continue
            union = (each.width_px + 1) * (each.height_px + 1) - width * height
            union += (det.width_px + 1) * (det.height_px + 1)
            if width * height / union > overlap:
                best, overlap = number, width * height / union
        if best is not None and overlap >= 0.5:
            if objects[best].is_difficult:
                continue
            if best not in claimed:
                claimed.add(best)
                tp += 1
            else:
                fp += 1
        else:
            fp += 1
        points.append((tp / num_pos, tp / (tp + fp)))
    if year == "2007":
        tenths = [0, 0.1, 0.2, 0.1 * 3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1]
        return sum(max([p for r, p in points if r >= t], default=0) for t in tenths) / 11
    area, last = 0.0, 0.0
    for place, (recall, _) in enumerate(points):
        area += (recall - last) * max(p for _, p in points[place:])
        last = recall
    return area


# Few positions, so that boxes often share objects, overlaps tie, and scores are equal.
boxes = st.tuples(*[st.integers(0, 4)] * 2, *[st.integers(5, 9)] * 2)
names = st.sampled_from("abc")


@given(
    st.lists(st.tuples(names, boxes, st.booleans()), max_size=9),
    st.lists(st.tuples(names, st.sampled_from([0.1, 0.5, 0.9]), boxes), max_size=12),
    st.sampled_from(YEARS),
)
def test_like_a_plain_loop(truth, results, year):
    objects = [an_object("b", (0, 0, 8, 7))]  # at least one that counts
    objects += [an_object(image, box, is_difficult=hard) for image, box, hard in truth]
    detections = [a_detection(*each) for each in results]
    assert ap(objects, detections, year) == pytest.approx(loop_ap(objects, detections, year))


@pytest.mark.parametrize(("year", "version"), [("2007", "11point"), ("2012", "MaxIntegral")])
def test_recorded_detector(year, version):
    """Near the mAP that the reference gives in pixels. What remains, 2e-4 at most and only in RBC
    (805 often overlapping objects), comes from the files, which hold whole pixels."""
    data_set = GOLDEN / "bccd"
    images = read_image_list(data_set / "test.txt")
    test_set = read_voc_annotations(data_set / "Annotations", images)
    found = read_results(GOLDEN / "eval" / "results", test_set)
    results = json.loads((GOLDEN / "eval" / "eval.json").read_text())["results"]
    want = results[f"name_size_file/{version}"]
    have = score_voc(test_set, found, year=year)
    assert have.numbers[f"VOC{year} protocol mAP"] == pytest.approx(want["mAP"], abs=2e-4)
    per_class = have.per_class["AP"]
    assert per_class["RBC"] == pytest.approx(want["class1"], abs=6e-4)
    assert per_class["WBC"] == pytest.approx(want["class2"], abs=1e-6)
    assert per_class["Platelets"] == pytest.approx(want["class3"], abs=1e-6)
    assert np.isclose(len(found), 72 * 200)  # keep_top_k
