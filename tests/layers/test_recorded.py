"""Every recorded case of a single layer, and shapes told before a run."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format
from torch import Tensor

from caffe_ssd.layers.registry import layer_types
from caffe_ssd.proto.caffe_pb2 import NetParameter
from tests.support.golden import needs_golden
from tests.support.layer_cases import Chain, case_id, layer_cases, run_layer_case

# What needs a net: `phase` of a layer, gradients asked for by force_backward or propagate_down. The
# net's tests run these, and those of pycaffe the Python layers.
NET_CASES = {
    "BatchNorm/phase_field_test",
    "Deconvolution/bilinear_by_2",
    "Dropout/phase_field",
    "EuclideanLoss/forced_despite_propagate_down",
}
TYPES = [t for t in layer_types() if t != "Python" and layer_cases(t)]
CASES = [(t, c) for t in TYPES for c in layer_cases(t) if f"{t}/{c.stem}" not in NET_CASES]

# Layers that refuse the zeros this file feeds, or whose tops depend on values.
BY_VALUES = {"DetectionEvaluate", "DetectionOutput", "Filter", "MultiBoxLoss"}


def _id(value):
    return value if isinstance(value, str) else case_id(value)


@needs_golden
@pytest.mark.parametrize(("layer_type", "case"), CASES, ids=_id)
def test_recorded_case(layer_type, case, tmp_path):
    run_layer_case(case, tmp_path)


@needs_golden
@pytest.mark.parametrize("layer_type", [t for t in TYPES if t not in BY_VALUES])
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
