"""Rewrites that pay on a CPU without a compiler; the torch engine runs them, exporters do not.

pack_convolutions    weights stand ready in oneDNN's own layout, and its ReLU costs nothing
grow_in_place        a, b -> Concat -> ab; ab, c -> Concat -> abc: one buffer that grows, so
                     that a dense block copies each new channel once
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from caffe_ssd.devices import has_bfloat16
from caffe_ssd.engines.folding import Program
from caffe_ssd.engines.frozen_layers import FrozenConvolution
from caffe_ssd.layers.concat import Concat
from caffe_ssd.layers.registry import Shape
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.plan import Value


def pack_convolutions(
    program: Program, wanted: Collection[Value], *, shapes: Mapping[Value, Shape]
) -> tuple[Instruction, ...]:
    """Give each convolution that oneDNN takes its packed form, where PyTorch offers that.

    Args:
        program: the calls.
        wanted: kept either way.
        shapes: of the values; the packed form is for bottoms of these shapes only.
    """
    if not _offers_packing():
        return tuple(program)
    return tuple(
        replace(op, layer=PackedConvolution(op.layer, shapes[op.bottoms[0]]))
        if _can_be_packed(op.layer)
        else op
        for op in program
    )


def _offers_packing() -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return hasattr(torch._C._nn, "mkldnn_reorder_conv2d_weight") and hasattr(
        torch.ops.mkldnn, "_convolution_pointwise"
    )


def _can_be_packed(layer: nn.Module) -> TypeGuard[FrozenConvolution]:
    if not isinstance(layer, FrozenConvolution) or layer.transposed:
        return False
    if layer.geometry.far_pad is not None:
        return False
    weight = layer.unscaled
    if weight.device.type != "cpu":
        return False
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and has_bfloat16(weight.device)
    )


class PackedConvolution(nn.Module):
    """A frozen convolution whose weight is packed for the shape of its bottom.

    Args:
        conv: the convolution; its weight is copied.
        bottom: (N, C, H, W).
    """

    def __init__(self, conv: FrozenConvolution, bottom: Shape) -> None:
        super().__init__()
        geometry = conv.geometry
        self._settings = geometry.pad, geometry.stride, geometry.dilation, conv.group
        self._after = "relu" if conv.relu else "none"
        self._bias = conv.bias
        reorder: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        self._packed = reorder(conv.weight.to_mkldnn(), *self._settings, bottom)

    def forward(self, bottom: Tensor) -> Tensor:
        top: Tensor = torch.ops.mkldnn._convolution_pointwise(
            bottom, self._packed, self._bias, *self._settings, self._after, [], ""
        )
        return top


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
