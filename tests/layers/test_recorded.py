"""Every recorded case and refusal of the generic layer types, and shapes told before a run."""

from __future__ import annotations

import re

import pytest

from caffe_ssd.layers.registry import layer_types
from tests.support.golden import needs_golden
from tests.support.layer_cases import (
    case_id,
    check_refusal,
    error_cases,
    layer_cases,
    run_layer_case,
)

# Types whose cases are run elsewhere: they read data, or come with boxes.
ELSEWHERE = {
    *("AnnotatedData", "Data", "Input"),
    *("DetectionEvaluate", "DetectionOutput", "MultiBoxLoss", "Normalize", "Permute", "PriorBox"),
    "SmoothL1Loss",
}
TYPES = [t for t in layer_types() if t not in ELSEWHERE]

# What needs a net: `phase` of a layer, gradients asked for by force_backward or propagate_down, and
# checks across layers. The net's tests run these.
NET_CASES = {
    "BatchNorm/phase_field_test",
    "Deconvolution/bilinear_by_2",
    "Dropout/phase_field",
    "EuclideanLoss/forced_despite_propagate_down",
}
NET_REFUSALS = re.compile(r"_gradient$|^SoftmaxWithLoss_too_many_weights$")


def _id(value):
    return value if isinstance(value, str) else case_id(value)


@needs_golden
@pytest.mark.parametrize(
    ("layer_type", "case"),
    [(t, case) for t in TYPES for case in layer_cases(t) if f"{t}/{case.stem}" not in NET_CASES],
    ids=_id,
)
def test_recorded_case(layer_type, case, tmp_path):
    run_layer_case(case, tmp_path)


@needs_golden
@pytest.mark.parametrize(
    "entry",
    [
        entry
        for t in TYPES
        for entry in error_cases(t)
        if entry["name"].startswith(f"{t}_") and not NET_REFUSALS.search(entry["name"])
    ],
    ids=case_id,
)
def test_refusal(entry, tmp_path):
    check_refusal(entry, tmp_path)
