"""Fused programs give what the layers one by one give: tops, gradients and running statistics."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.net import Net, build_net
from caffe_ssd.net.passes import FusedBatchNorm
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase
from caffe_ssd.proto.text import parse_text
from caffe_ssd.proto.upgrade import upgrade_net

HEAD = """
layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 dim: 5 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "b" }
"""
SCALE = """
layer { name: "scale" type: "Scale" bottom: "b" top: "b"
  scale_param { bias_term: true filler { type: "uniform" min: 0.5 max: 2 } } }
"""
RELU = 'layer { name: "relu" type: "ReLU" bottom: "b" top: "b" }'
LOSS = 'layer { name: "sum" type: "Reduction" bottom: "b" top: "l" loss_weight: 1 reduction_param { operation: SUMSQ } }'  # noqa: E501


def build(text: str, phase: str) -> Net:
    torch.manual_seed(0)
    param = upgrade_net(parse_text(text, NetParameter()))
    net = build_net(param, NetState(phase=Phase.Value(phase)))
    with torch.no_grad():
        for i, entry in enumerate(net.learnable):
            generator = torch.Generator().manual_seed(i)
            entry.blob.copy_(torch.rand(entry.blob.shape, generator=generator) + 0.5)
    return net


def fused(net: Net) -> list[FusedBatchNorm]:
    return [op.layer for op in net.program if isinstance(op.layer, FusedBatchNorm)]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("tail", [SCALE, SCALE + RELU])
def test_fused_equals_plain(phase: str, tail: str) -> None:
    nets = [build(HEAD + tail + LOSS, phase) for _ in range(2)]
    assert len(fused(nets[0])) == 1
    nets[1].program = nets[1]._plain
    assert not fused(nets[1])
    x = torch.randn(4, 3, 5, 7, generator=torch.Generator().manual_seed(9))
    losses = [net({"x": x}).loss for net in nets]
    torch.testing.assert_close(losses[0], losses[1])
    for loss in losses:
        loss.backward()
    for ours, plain in zip(nets[0].learnable, nets[1].learnable, strict=True):
        torch.testing.assert_close(ours.blob, plain.blob)
        if plain.lr_mult:
            torch.testing.assert_close(ours.blob.grad, plain.blob.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("tail", "why"),
    [
        (SCALE.replace("bias_term: true", "axis: 2"), "the scale is not per channel"),
        (SCALE + 'layer { name: "s2" type: "Silence" bottom: "c" }', "splits lie elsewhere"),
        (SCALE.replace('top: "b"', 'top: "s" loss_weight: 1').replace("filler", "bias_filler"), ""),
    ],
)
def test_what_is_fused_never_changes_the_outputs(tail: str, why: str) -> None:
    if 'top: "s"' in tail:
        tail += 'layer { name: "q" type: "Silence" bottom: "s" }'
    else:
        tail += LOSS
    net = build(HEAD + tail, "TRAIN")
    plain = build(HEAD + tail, "TRAIN")
    plain.program = plain._plain
    x = torch.randn(4, 3, 5, 7, generator=torch.Generator().manual_seed(9))
    torch.testing.assert_close(net({"x": x}).loss, plain({"x": x}).loss)


def test_a_batch_norm_read_by_others_stays_alone() -> None:
    text = HEAD + SCALE.replace('top: "b"', 'top: "s"') + LOSS
    text += 'layer { name: "q" type: "Silence" bottom: "s" }'
    assert not fused(build(text, "TRAIN"))


def test_inner_blobs_are_recomputed_on_request() -> None:
    net = build(HEAD + SCALE + RELU + LOSS, "TEST")
    x = torch.randn(4, 3, 5, 7)
    kept = net({"x": x}, keep=["b", "c"]).blobs
    assert kept["b"].shape == kept["c"].shape == (4, 6, 3, 5)
    assert (kept["b"] >= 0).all()
