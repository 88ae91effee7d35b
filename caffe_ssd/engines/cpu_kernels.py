"""Rewrites that pay on a CPU without a compiler; the torch engine runs them, exporters do not.

pack_convolutions    weights stand ready in oneDNN's own layout, and its ReLU costs nothing
grow_in_place        a, b -> Concat -> ab; ab, c -> Concat -> abc: one buffer that grows, so
                     that a dense block copies each new channel once
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from caffe_ssd.engines.folding import Program
from caffe_ssd.engines.frozen_layers import FrozenConvolution
from caffe_ssd.layers.concat import Concat
from caffe_ssd.layers.registry import Shape
from caffe_ssd.net.passes import Instruction
from caffe_ssd.net.plan import Value


def pack_convolutions(program: Program, wanted: Collection[Value]) -> tuple[Instruction, ...]:
    """Give each convolution that oneDNN takes its packed form, where PyTorch offers that."""
    if not _offers_packing():
        return tuple(program)
    return tuple(replace(op, layer=_packed(op.layer)) for op in program)


def _offers_packing() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight") and hasattr(
        torch.ops.mkldnn, "_convolution_pointwise"
    )


def _packed(layer: nn.Module) -> nn.Module:
    if not isinstance(layer, FrozenConvolution) or layer.transposed:
        return layer
    on_cpu = layer.weight.device.type == "cpu" and layer.weight.dtype == torch.float32
    return PackedConvolution(layer) if on_cpu else layer


class PackedConvolution(nn.Module):
    """A frozen convolution whose weight is packed for the shape of its bottom.

    Args:
        conv: the convolution. Its weight stays with its owner and is read for each new shape.
    """

    def __init__(self, conv: FrozenConvolution) -> None:
        super().__init__()
        self._conv = conv.weight, conv.bias
        self.geometry = conv.geometry
        self.group = conv.group
        self._after = "relu" if conv.relu else "none"
        self._shape: torch.Size | None = None
        self._packed = torch.empty(0)

    def forward(self, bottom: Tensor) -> Tensor:
        if bottom.shape != self._shape:
            self._pack(bottom.shape)
        geometry = self.geometry
        settings = geometry.pad, geometry.stride, geometry.dilation, self.group
        top: Tensor = torch.ops.mkldnn._convolution_pointwise(
            bottom, self._packed, self._conv[1], *settings, self._after, [], ""
        )
        return top

    def _pack(self, shape: torch.Size) -> None:
        geometry = self.geometry
        settings = geometry.pad, geometry.stride, geometry.dilation, self.group
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self._packed = reorder(self._conv[0].to_mkldnn(), *settings, shape)
        self._shape = shape


def grow_in_place(
    program: Program, wanted: Collection[Value], *, shapes: Mapping[Value, Shape]
) -> tuple[Instruction, ...]:
    """Let chains of Concat over channels, each appending to the last, share one buffer.

    Args:
        program: the calls.
        wanted: kept either way; a growing value is never changed, only appended to.
        shapes: of the values.
    """
    grown = list(program)
    appends: dict[Value, int] = {}  # the Concat that appends to a value, by its index
    for index, op in enumerate(program):
        if isinstance(op.layer, Concat) and op.layer.axis == 1 and len(op.bottoms) > 1:
            appends.setdefault(op.bottoms[0], index)
    made = {program[index].tops[0] for index in appends.values()}
    for first in (index for value, index in appends.items() if value not in made):
        chain = [first]
        while (top := program[chain[-1]].tops[0]) in appends:
            chain.append(appends[top])
        last = shapes[program[chain[-1]].tops[0]]
        if len(chain) > 1 and len(last) == 4:
            for index in chain:
                layer = GrowingConcat(channels=last[1], opens=index == first)
                grown[index] = replace(program[index], layer=layer)
    return tuple(grown)


class GrowingConcat(nn.Module):
    """One Concat of a chain: its top is the front of a buffer with room for those to come.

    Args:
        channels: of the whole buffer.
        opens: whether it makes the buffer; if not, bottom 0 is the front of it.
    """

    def __init__(self, *, channels: int, opens: bool) -> None:
        super().__init__()
        self.channels = channels
        self.opens = opens

    def forward(self, *bottoms: Tensor) -> Tensor:
        front = bottoms[0]
        images, done, *plane = front.shape
        if self.opens:
            shape = (images, self.channels, *plane)
            buffer = torch.empty(
                shape, dtype=front.dtype, device=front.device, memory_format=_format(front)
            )
            done, pieces = 0, bottoms
        else:
            buffer = front.as_strided((images, self.channels, *plane), front.stride())
            pieces = bottoms[1:]
        for piece in pieces:
            buffer[:, done : done + piece.shape[1]] = piece
            done += piece.shape[1]
        return buffer[:, :done]


def _format(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format
