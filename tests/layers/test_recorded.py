"""Every recorded case and refusal of the generic layer types, and shapes told before a run."""

from __future__ import annotations

import re

import numpy as np
import pytest
from google.protobuf import text_format
from torch import Tensor

from caffe_ssd.layers.registry import layer_types
from caffe_ssd.proto.caffe_pb2 import NetParameter
from tests.support.golden import needs_golden
from tests.support.layer_cases import (
    Chain,
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
    "Python",  # tests/pycaffe/test_python_layer.py
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
    "layer_type",
    [t for t in TYPES if t != "Filter"],  # whose tops depend on the selector's values
)
def test_tops_have_the_announced_shapes(layer_type):
    for path in layer_cases(layer_type):
        with np.load(path) as case:
            text, phase = str(case["prototxt"][()]), str(case["phase"][()])
        chain = Chain(net=text_format.Parse(text, NetParameter()), training=phase == "TRAIN")
        chain.build()
        blobs = dict(chain.inputs)
        for param, layer in chain.layers:
            bottoms = [blobs[name] for name in param.bottom]
            tops = layer(*bottoms)
            tops = (tops,) if isinstance(tops, Tensor) else tops
            announced = layer.top_shapes(*(tuple(bottom.shape) for bottom in bottoms))
            assert tuple(tuple(top.shape) for top in tops) == announced, path.stem
            blobs.update(zip(param.top, tops, strict=True))


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
