"""Builds one layer out of a few lines of prototxt."""

from __future__ import annotations

import torch
from google.protobuf import text_format
from torch import Tensor

from caffe_ssd.layers.registry import Layer, LayerSpec, Runtime, Shape, build_layer
from caffe_ssd.proto.caffe_pb2 import LayerParameter, Phase
from caffe_ssd.random import CaffeRandom


def build(
    layer_type: str,
    text: str = "",
    *bottoms: Shape,
    phase: str = "TEST",
    tops: int = 1,
    seed: int = 1701,
) -> Layer:
    """The layer `layer`, with bottoms b0, b1, ... and as many tops as asked for."""
    param = text_format.Parse(text, LayerParameter())
    param.name, param.type, param.phase = "layer", layer_type, Phase.Value(phase)
    if not param.bottom:
        param.bottom.extend(f"b{i}" for i in range(len(bottoms)))
    if not param.top:
        param.top.extend(f"t{i}" for i in range(tops))
    runtime = Runtime(rng=CaffeRandom(seed))
    return build_layer(LayerSpec(param=param, bottoms=bottoms, runtime=runtime))


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal values, the same at every call."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
