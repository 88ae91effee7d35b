"""Shared blobs stay shared when a net moves."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.net import Net, build_net
from caffe_ssd.proto.caffe_pb2 import TRAIN, NetParameter, NetState
from caffe_ssd.proto.text import parse_text

# The blobs of `b` are those of `a` in another shape: (2, 6) and (3, 4).
PERMISSIVE = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 5 dim: 6 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 5 dim: 4 } } }
layer {
  name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" }
  inner_product_param { num_output: 2 bias_term: false weight_filler { type: "xavier" } }
}
layer {
  name: "b" type: "InnerProduct" bottom: "y" top: "b"
  param { name: "w" share_mode: PERMISSIVE }
  inner_product_param { num_output: 3 bias_term: false }
}
layer { name: "as" type: "Reduction" bottom: "a" top: "as" loss_weight: 1 }
layer { name: "bs" type: "Reduction" bottom: "b" top: "bs" loss_weight: 1 }
"""


@pytest.fixture
def net() -> Net:
    return build_net(parse_text(PERMISSIVE, NetParameter()), NetState(phase=TRAIN))


def test_permissive_sharers_stay_one_blob_when_the_net_moves(net: Net) -> None:
    net.double()  # stands for .cuda(): each parameter gets new storage
    (_, owner), (_, view) = [(name, blobs[0]) for name, blobs in net.layer_blobs() if blobs]
    with torch.no_grad():
        owner.fill_(3)
    assert view.shape == (3, 4)
    assert view.dtype == torch.float64
    assert bool((view == 3).all())


def test_permissive_sharers_add_up_one_gradient_after_a_move(net: Net) -> None:
    net.clear_diffs()
    net.double()
    x, y = torch.ones(5, 6).double(), torch.full((5, 4), 2.0).double()
    net({"x": x, "y": y}).loss.backward()
    (entry,) = net.learnable
    assert entry.blob.grad is not None
    assert bool((entry.blob.grad == 5 * 1 + 5 * 2).all())
