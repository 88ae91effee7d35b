"""Checkpoints change the memory of a training step, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from caffe_ssd.net import Net, build_net
from caffe_ssd.net.checkpoints import Segment
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.text import parse_text

INPUTS = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 dim: 8 dim: 7 } } }
layer { name: "t" type: "Input" top: "t" input_param { shape { dim: 3 dim: 2 dim: 8 dim: 7 } } }
"""
DENSE = """
layer {{ name: "bn{0}" type: "BatchNorm" bottom: "{1}" top: "bn{0}" }}
layer {{ name: "scale{0}" type: "Scale" bottom: "bn{0}" top: "bn{0}"
  scale_param {{ bias_term: true }} }}
layer {{ name: "relu{0}" type: "ReLU" bottom: "bn{0}" top: "bn{0}" }}
layer {{ name: "conv{0}" type: "Convolution" bottom: "bn{0}" top: "conv{0}" convolution_param {{
  num_output: {3} kernel_size: 3 pad: 1 weight_filler {{ type: "xavier" }} }} }}
{2}
layer {{ name: "y{0}" type: "Concat" bottom: "{1}" bottom: "conv{0}" top: "y{0}" }}
"""
DROPOUT = 'layer {{ name: "drop{0}" type: "Dropout" bottom: "conv{0}" top: "conv{0}" }}'
LOSS = """
layer {{ name: "last" type: "Convolution" bottom: "{0}" top: "last" convolution_param {{
  num_output: 2 kernel_size: 1 weight_filler {{ type: "xavier" }} }} }}
layer {{ name: "loss" type: "EuclideanLoss" bottom: "last" bottom: "t" top: "loss" }}
"""


def dense_net(num_layers: int = 9, *, dropout: bool = False) -> Net:
    """Concatenations of ever more channels, the same net at each call."""
    text, bottom = INPUTS, "x"
    for i in range(num_layers):
        noise = DROPOUT.format(i) if dropout and i % 3 == 1 else ""
        text += DENSE.format(i, bottom, noise, 1 + i % 3)
        bottom = f"y{i}"
    net = build_net(
        parse_text(text + LOSS.format(bottom), NetParameter(), "net.prototxt"),
        NetState(phase="TRAIN"),
    )
    net.runtime.rng.seed(3)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, blobs in net.layer_blobs():
            for blob in blobs:
                if not name.startswith("bn"):
                    blob.uniform_(-1, 1, generator=rng)
    return net


def inputs() -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)
    return {name: torch.randn(3, 2, 8, 7, generator=rng) for name in ("x", "t")}


def segments(net: Net) -> list[Segment]:
    return [op.layer for op in net.program if isinstance(op.layer, Segment)]


def saved_elements(net: Net) -> int:
    """How many elements autograd keeps for the backward pass; shared memory counts once."""
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes() // tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        net(inputs())
    return sum(saved.values())


@pytest.mark.parametrize("dropout", [False, True])
def test_a_step_is_the_same_bit_for_bit(dropout: bool) -> None:
    plain, thrifty = dense_net(dropout=dropout), dense_net(dropout=dropout)
    thrifty.use_checkpoints()
    assert len(segments(thrifty)) >= 2
    for _ in range(2):
        results = [net(inputs()) for net in (plain, thrifty)]
        assert results[0].loss == results[1].loss
        assert results[0].blobs.keys() == results[1].blobs.keys()
        for net, result in zip((plain, thrifty), results, strict=True):
            net.clear_diffs()
            result.loss.backward()
        for (name, ours), (_, theirs) in zip(
            plain.layer_blobs(), thrifty.layer_blobs(), strict=True
        ):
            for mine, other in zip(ours, theirs, strict=True):
                assert torch.equal(mine, other), name  # running statistics among them
                assert (mine.grad is None) == (other.grad is None), name
                if mine.grad is not None and other.grad is not None:
                    assert torch.equal(mine.grad, other.grad), name


def test_dropout_stays_outside() -> None:
    net = dense_net(dropout=True)
    net.use_checkpoints()
    inside = {op.step.param.type for segment in segments(net) for op in segment.program}
    assert "Convolution" in inside
    assert "Dropout" not in inside


def test_less_is_kept() -> None:
    net = dense_net(12)
    before = saved_elements(net)
    net.use_checkpoints()
    assert saved_elements(net) < 0.6 * before


def test_without_gradients_nothing_is_repeated() -> None:
    plain, thrifty = dense_net(), dense_net()
    thrifty.use_checkpoints()
    with torch.no_grad():
        assert torch.equal(plain(inputs()).loss, thrifty(inputs()).loss)
