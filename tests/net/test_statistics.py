"""Recomputed running statistics are those of the data under the present weights."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.errors import NetError
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.statistics import recompute_statistics
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase
from caffe_ssd.proto.text import parse_text

TEXT = """
layer { name: "data" type: "DummyData" top: "x" dummy_data_param {
  shape { dim: 8 dim: 3 dim: 4 dim: 5 } data_filler { type: "gaussian" mean: 2 std: 3 } } }
layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }
"""


def build(phase: str) -> Net:
    return build_net(parse_text(TEXT, NetParameter()), NetState(phase=Phase.Value(phase)))


def test_old_statistics_are_forgotten() -> None:
    net = build("TRAIN")
    mean_sum, variance_sum, factor = net.layers[1].blobs
    with torch.no_grad():
        mean_sum.fill_(1e6)
        variance_sum.fill_(1e6)
        factor.fill_(900)
    recompute_statistics(net, 30)
    assert factor.item() == pytest.approx(sum(0.999**i for i in range(30)), rel=1e-5)
    assert (mean_sum / factor).tolist() == pytest.approx([2] * 3, abs=0.3)
    assert (variance_sum / factor).tolist() == pytest.approx([9] * 3, abs=1)


def test_a_net_that_gathers_nothing_is_refused() -> None:
    with pytest.raises(NetError, match="give the training net"):
        recompute_statistics(build("TEST"), 1)
