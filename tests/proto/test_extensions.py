"""Where nets use what the original does not know."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_ssd.errors import FileError, ProtoError
from caffe_ssd.layers.registry import layer_types
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.proto.extensions import (
    LAYER_TYPES,
    Extension,
    extensions_in,
    extensions_in_text,
    refuse_in_text,
    summary,
)
from caffe_ssd.proto.text import parse_text

TEXT = """name: "net"
layer { name: "a" type: "BatchNorm" bottom: "x" top: "a" }
layer {  # type: "GroupNorm" in a comment
  type: "GroupNorm" bottom: "group_norm_param" top: "b"
  group_norm_param { num_groups: 2 } name: "b"
}
layer < name: "c" type: "ReLU" group_norm_param: { eps: 1 } >
layer { type: 'GroupNorm' }
"""
USES = [
    Extension(what='type: "GroupNorm"', layer="b", line=4, column=3),
    Extension(what="group_norm_param", layer="b", line=5, column=3),
    Extension(what="group_norm_param", layer="c", line=7, column=32),
    Extension(what='type: "GroupNorm"', layer="", line=8, column=9),
]
# The original registers these (caffe-layers.md, first page).
ORIGINAL_TYPES = """
    AbsVal Accuracy AnnotatedData ArgMax BNLL BatchNorm BatchReindex Bias Concat ContrastiveLoss
    Convolution Crop Data Deconvolution DetectionEvaluate DetectionOutput Dropout DummyData ELU
    Eltwise Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss Im2col ImageData
    InfogainLoss InnerProduct Input LRN LSTM LSTMUnit Log MVN MemoryData MultiBoxLoss
    MultinomialLogisticLoss Normalize PReLU Parameter Permute Pooling Power PriorBox Python RNN ReLU
    Reduction Reshape SPP Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice SmoothL1Loss Softmax
    SoftmaxWithLoss Split TanH Threshold Tile VideoData WindowData
"""


def test_uses_in_text_have_a_place() -> None:
    assert extensions_in_text(TEXT, NetParameter.DESCRIPTOR) == USES


def test_uses_in_messages() -> None:
    net = parse_text(TEXT, NetParameter())
    want = [(use.what, use.layer) for use in USES]
    assert [(use.what, use.layer) for use in extensions_in(net)] == want
    solver = SolverParameter(net_param=net)
    assert summary(extensions_in(solver)) == 'type: "GroupNorm" (2), group_norm_param (2)'
    assert not summary(extensions_in(SolverParameter(net="a.prototxt")))


def test_refusal_names_every_use(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(TEXT)
    with pytest.raises(ProtoError) as caught:
        refuse_in_text(path)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith(f"{path}:4:3: layer 'b': type: \"GroupNorm\" is an extension that")
    assert lines[2:] == [
        f"{path}:7:32: layer 'c': group_norm_param",
        f"{path}:8:9: layer '': type: \"GroupNorm\"",
    ]
    path.write_text('layer { type: "GroupNorm" }\n' * 13)
    with pytest.raises(ProtoError, match=r"\n\.\.\. and 3 more$"):
        refuse_in_text(path)
    path.write_text('layer { type: "BatchNorm" }')
    refuse_in_text(path)
    with pytest.raises(FileError, match="Could not open file"):
        refuse_in_text(tmp_path / "none")


def test_every_added_layer_type_is_listed() -> None:
    assert set(layer_types()) - set(ORIGINAL_TYPES.split()) == LAYER_TYPES
