"""Small nets in phase TEST for the engines."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.net import Net, build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase
from caffe_ssd.proto.text import parse_text

INPUT = """
layer {{ name: "in" type: "Input" top: "x"
  input_param {{ shape {{ dim: {0} dim: {1} dim: {2} dim: {3} }} }} }}
"""


def make_net(text: str, shape: tuple[int, ...] = (2, 6, 9, 7)) -> Net:
    """A net of one Input `x` and the given layers, with random blobs."""
    param = parse_text(INPUT.format(*shape) + text, NetParameter(), "net.prototxt")
    net = build_net(param, NetState(phase=Phase.Value("TEST")))
    randomise(net)
    return net


def randomise(net: Net, seed: int = 5) -> None:
    """Give every blob random values; variances and factors of BatchNorm positive ones."""
    rng = torch.Generator().manual_seed(seed)
    for step, layer in zip(net.steps, net.layers, strict=True):
        for i, blob in enumerate(layer.blobs):
            if step.param.type in ("BatchNorm", "BN") and i > 0:
                blob.data.copy_(torch.rand(blob.shape, generator=rng) + 0.5)
            else:
                spread = max(1.0, blob[0].numel() ** 0.5) if blob.dim() > 1 else 1.0
                blob.data.copy_(torch.randn(blob.shape, generator=rng) / spread)


def picture(shape: tuple[int, ...] = (2, 6, 9, 7), seed: int = 3) -> Tensor:
    """Random input."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
