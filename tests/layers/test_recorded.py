"""Every recorded case and refusal of the generic layer types, and shapes told before a run."""

from __future__ import annotations

import pytest

from tests.support.golden import needs_golden
from tests.support.layer_cases import (
    case_id,
    check_refusal,
    error_cases,
    layer_cases,
    run_layer_case,
)

TYPES = """
    Accuracy BatchNorm Bias Concat Convolution Deconvolution Dropout Eltwise EuclideanLoss Flatten
    InnerProduct Pooling ReLU Reshape Scale Silence Slice Softmax SoftmaxWithLoss Split
""".split()

# Things that only a whole net can refuse.
NET_REFUSALS = {"SoftmaxWithLoss_too_many_weights"}


def _id(value):
    return value if isinstance(value, str) else case_id(value)


@needs_golden
@pytest.mark.parametrize(
    ("layer_type", "case"), [(t, case) for t in TYPES for case in layer_cases(t)], ids=_id
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
        if entry["name"].startswith(t) and entry["name"] not in NET_REFUSALS
    ],
    ids=case_id,
)
def test_refusal(entry, tmp_path):
    check_refusal(entry, tmp_path)
