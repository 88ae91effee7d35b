"""The random augmentation has the reference's distributions.

A recorded case and as many samples of ours, read from the same database in the same order, are
compared quantity by quantity: a two-sample Kolmogorov-Smirnov test and the difference of means.
Boxes of one sample depend on each other, so their mean is the sample's quantity.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

from caffe_ssd.data.records import LmdbSource
from caffe_ssd.data.samples import parse_detection
from caffe_ssd.layers.data import RecordLayer
from caffe_ssd.proto.caffe_pb2 import NetParameter
from tests.data.databases import data_layer
from tests.data.view import view
from tests.support.golden import GOLDEN, needs_bccd

FOLDER = GOLDEN / "data" / "random"
IMAGES = 292
MEAN = np.float32([104, 117, 123])
# Cases that move boxes, not only colours.
GEOMETRY = {
    *("full", "expand_only", "mirror_only", "sampler_free_5", "sampler_iou_0.5", "sampler_iou_0.9"),
    *("sampler_no_emit", "sampler_object_coverage", "sampler_only"),
}
VIEW = ("Vx", "Vy", "vx0", "vy0", "mirror")
BOX = ("width", "height", "cx", "cy")
# Every seed fails a true hypothesis with this probability; there are about 20 quantities per case.
LEAST_P = 1e-4
STANDARD_ERRORS = 4.0

Quantities = dict[str, np.ndarray]


CASES: dict[str, Any] = json.loads((FOLDER / "random_stats.json").read_text())


def original_boxes(source: str) -> list[dict[tuple[int, int], Any]]:
    found = [
        parse_detection(value).annotations
        for value in map(LmdbSource(source).__getitem__, range(IMAGES))
    ]
    return [
        {
            (int(label), int(i)): box
            for label, i, box in zip(a.labels, a.instance_ids, a.boxes, strict=True)
        }
        for a in found
    ]


def layer_of(case: str, source: str, size: int = 0, **runtime: Any) -> RecordLayer:
    """The layer of a case; `size` is another one to resize to, which no box depends on."""
    param = text_format.Parse(CASES[case]["prototxt"], NetParameter()).layer[0]
    param.data_param.source = source
    if size:
        param.transform_param.resize_param.height = size
        param.transform_param.resize_param.width = size
    return data_layer(str(param), phase="TRAIN", seed=7, **runtime)


def ours(case: str, source: str, count: int) -> Quantities:
    """The quantities of `count` samples of ours, [count] each."""
    layer = layer_of(case, source)
    original = original_boxes(source)
    quantities: dict[str, list[float]] = {}
    sample = 0
    while sample < count:
        data, label = (top.numpy() for top in layer())
        for item, blob in enumerate(data[: count - sample]):
            rows = label[0, 0][label[0, 0, :, 0] == item]
            image = blob.transpose(1, 2, 0)
            values = {"nbox": len(rows), "fill": (np.abs(image) <= 3).all(axis=2).mean()}
            values |= dict(zip(VIEW, view(original[sample % IMAGES], rows), strict=True))
            values |= dict(zip(BOX, mean_box(rows[:, 3:7]), strict=True))
            for c in range(3):
                values[f"mean{c}"] = image[:, :, c].mean() + MEAN[c]
                values[f"std{c}"] = image[:, :, c].std()
            for name, value in values.items():
                quantities.setdefault(name, []).append(float(value))
            sample += 1
    return {name: np.array(values) for name, values in quantities.items()}


def mean_box(boxes: np.ndarray) -> np.ndarray:
    """Means of width, height, centre x and y; nan without boxes."""
    if not len(boxes):
        return np.full(4, np.nan)
    low, high = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([high - low, (low + high) / 2], axis=1).mean(axis=0)


def recorded(case: str, count: int) -> Quantities:
    """The same of the reference's first `count` samples."""
    arrays = dict(np.load(FOLDER / f"{case}.npz"))
    quantities = {name: arrays[name].astype(float) for name in ("nbox", "fill", *VIEW)}
    for c in range(3):
        quantities[f"mean{c}"], quantities[f"std{c}"] = arrays["mean"][:, c], arrays["std"][:, c]
    quantities = {name: values[:count] for name, values in quantities.items()}
    if "box_sample" in arrays:
        samples, boxes = arrays["box_sample"], arrays["box_whxy"].astype(float)
        with np.errstate(invalid="ignore"):
            for i, name in enumerate(BOX):
                sums = np.bincount(samples, boxes[:, i], minlength=len(arrays["nbox"]))
                quantities[name] = (sums / np.bincount(samples, minlength=len(sums)))[:count]
    return quantities


def shifts(case: str, quantities: Quantities) -> Quantities:
    """How much the distortion moved the mean of each image, which tells more than the mean."""
    base = np.load(FOLDER / f"{case}.npz")["base_mean"]
    count = len(quantities["nbox"])
    repeated = base[np.arange(count) % IMAGES]
    return {f"shift{c}": quantities[f"mean{c}"] - repeated[:, c] for c in range(3)}


def kolmogorov_smirnov(a: np.ndarray, b: np.ndarray) -> float:
    """The asymptotic p-value of the two-sample test."""
    a, b = np.sort(a), np.sort(b)
    at = np.concatenate([a, b])
    below_a = np.searchsorted(a, at, "right") / len(a)
    below_b = np.searchsorted(b, at, "right") / len(b)
    n = len(a) * len(b) / (len(a) + len(b))
    distance = (np.sqrt(n) + 0.12 + 0.11 / np.sqrt(n)) * np.abs(below_a - below_b).max()
    if distance < 0.2:
        return 1.0
    k = np.arange(1, 101)
    return float(np.clip(2 * np.sum((-1.0) ** (k - 1) * np.exp(-2 * (k * distance) ** 2)), 0, 1))


def compare(mine: Quantities, reference: Quantities) -> list[str]:
    """What differs, in words."""
    wrong = []
    for name, other in reference.items():
        # Equal views differ in the last bits; rounding keeps them equal.
        a, b = (np.round(values[np.isfinite(values)], 3) for values in (mine[name], other))
        if name == "mirror":
            a, b = a[a >= 0], b[b >= 0]
        p = kolmogorov_smirnov(a, b)
        difference = abs(a.mean() - b.mean())
        bound = STANDARD_ERRORS * np.sqrt(a.var() / len(a) + b.var() / len(b)) + 1e-3
        if p < LEAST_P or difference > bound:
            wrong.append(f"{name}: p {p:.2g}, means {a.mean():.4f} and {b.mean():.4f}")
    return wrong


def check(case: str, source: str, count: int) -> None:
    mine, reference = ours(case, source, count), recorded(case, count)
    if "distort" in case or case.startswith("only_"):
        mine, reference = mine | shifts(case, mine), reference | shifts(case, reference)
    assert compare(mine, reference) == []


def boxes_of_ours(case: str, source: str, count: int) -> Quantities:
    """What can be told without pictures, of `count` samples of ours."""
    layer, original = layer_of(case, source, size=8, jpeg_roundtrip=False), original_boxes(source)
    found: list[tuple[float, ...]] = []
    while len(found) < count:
        data, label = (top.numpy() for top in layer())
        for item in range(len(data)):
            rows = label[0, 0][label[0, 0, :, 0] == item]
            seen = view(original[len(found) % IMAGES], rows)
            found.append((len(rows), *seen, *mean_box(rows[:, 3:7])))
    return dict(zip(("nbox", *VIEW, *BOX), np.array(found[:count], float).T, strict=True))


@pytest.mark.parametrize("case", [name for name in CASES if name in GEOMETRY])
def test_boxes(case, blank_trainval):
    """Pictures without content have their boxes moved as photographs have."""
    mine = boxes_of_ours(case, blank_trainval, IMAGES)
    reference = recorded(case, CASES[case]["samples"])
    assert compare(mine, {name: reference[name] for name in mine}) == []


@needs_bccd
@pytest.mark.parametrize("case", ["full"])
def test_a_part_of_a_recorded_case(case, bccd_trainval):
    check(case, bccd_trainval, IMAGES)


@pytest.mark.slow
@needs_bccd
@pytest.mark.parametrize("case", CASES)
def test_all_of_a_recorded_case(case, bccd_trainval):
    check(case, bccd_trainval, CASES[case]["samples"])


def test_the_comparison_sees_a_difference():
    values = np.random.default_rng(0).normal(size=(2, 3000))
    assert compare({"q": values[0]}, {"q": values[1]}) == []
    assert compare({"q": values[0] + 0.2}, {"q": values[1]}) != []
    assert compare({"q": values[0] * 1.3}, {"q": values[1]}) != []
