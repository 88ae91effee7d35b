"""Exact rewrites of a net in phase TEST: the same function of the input with less to do.

Each pass takes a program and gives a shorter one; `x -> f -> y` reads "f makes y of x":

    skip_copies        x -> Split -> a, b              a and b are x
                       x -> Dropout -> y               y is x
    freeze_affine      x -> BatchNorm -> Scale -> y    x -> affine -> y
                       x -> Convolution -> affine -> y x -> convolution -> y
    fuse_relu          x -> f -> ReLU -> y             x -> f with ReLU -> y
    clamp_before_1x1   x -> affine, ReLU -> 1x1 -> y   x -> clamp -> 1x1 -> y
    multiply_out       the last pass before something runs: what was folded enters the weights

"Exact" is meant as in algebra; rounding differs in the last places. Passes only join layers where
nothing else reads what lies between them, and never make a wanted value vanish.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from caffe_ssd.engines.frozen_layers import (
    ChannelAffine,
    ChannelClamp,
    FrozenConvolution,
    FrozenInnerProduct,
    FrozenNormalize,
)
from caffe_ssd.layers.batch_norm import BatchNorm
from caffe_ssd.layers.bias import Bias
from caffe_ssd.layers.convolution import Convolution
from caffe_ssd.layers.deconvolution import Deconvolution
from caffe_ssd.layers.dropout import Dropout
from caffe_ssd.layers.extensions.bn import PSPNetBN, SegNetBN
from caffe_ssd.layers.inner_product import InnerProduct
from caffe_ssd.layers.normalize import Normalize
from caffe_ssd.layers.relu import ReLU
from caffe_ssd.layers.scale import Scale
from caffe_ssd.layers.silence import Silence
from caffe_ssd.layers.split import Split
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.plan import Value

Program = Sequence[Instruction]
_Affine = tuple[Tensor, Tensor]
_Join = Callable[[nn.Module, nn.Module], "nn.Module | None"]


def skip_copies(program: Program, wanted: Collection[Value]) -> tuple[Instruction, ...]:
    """Let readers of a copy read the original.

    Args:
        program: in phase TEST.
        wanted: values that must keep their names.
    """
    original: dict[Value, Value] = {}
    kept = []
    for op in program:
        bottoms = tuple(original.get(value, value) for value in op.bottoms)
        copies = isinstance(op.layer, Split | Dropout) and not set(op.tops) & set(wanted)
        if copies:
            original.update(dict.fromkeys(op.tops, bottoms[0]))
        elif not isinstance(op.layer, Silence):
            kept.append(replace(op, bottoms=bottoms))
    return tuple(kept)


def freeze_affine(program: Program, wanted: Collection[Value]) -> tuple[Instruction, ...]:
    """Replace layers by frozen ones, and fold affine maps into what makes their bottom."""
    frozen = [replace(op, layer=freeze_layer(op)) for op in program]
    return _join_neighbours(frozen, wanted, _with_affine)


def fuse_relu(program: Program, wanted: Collection[Value]) -> tuple[Instruction, ...]:
    """Join each plain ReLU with what makes its bottom, where that is a frozen module."""
    return _join_neighbours(program, wanted, _with_relu)


def clamp_before_1x1(program: Program, wanted: Collection[Value]) -> tuple[Instruction, ...]:
    """Leave a clamp of an affine map and a ReLU; the weights of the 1x1 behind take the rest.

    With s != 0 and c = -t / s:  relu(s x + t) = s (max(x, c) - c) for s > 0 and
    s (min(x, c) - c) for s < 0. The weights absorb s, the bias absorbs -s c = t.
    """
    program = list(program)
    readers = _readers(program)
    makers = {value: index for index, op in enumerate(program) for value in op.tops}
    for index, op in enumerate(program):
        conv = op.layer
        before = makers.get(op.bottoms[0]) if op.bottoms else None
        if before is None or not isinstance(conv, FrozenConvolution) or not conv.reads_no_padding:
            continue
        affine = program[before].layer
        if not isinstance(affine, ChannelAffine) or not affine.relu or conv.group != 1:
            continue
        if readers[op.bottoms[0]] != 1 or op.bottoms[0] in wanted:
            continue
        clamp, absorbed = _clamped(affine, conv)
        program[before] = replace(program[before], layer=clamp)
        program[index] = replace(op, layer=absorbed)
    return tuple(program)


def multiply_out(program: Program, wanted: Collection[Value]) -> tuple[Instruction, ...]:
    """Give each convolution its final weight, a copy where something was folded into it."""
    return tuple(
        replace(op, layer=op.layer.multiplied) if isinstance(op.layer, FrozenConvolution) else op
        for op in program
    )


def freeze_layer(op: Instruction) -> nn.Module:
    """The frozen module for a layer, or the layer itself."""
    layer = op.layer
    if isinstance(layer, Convolution):
        plane = layer.geometry.axis == 1 and len(layer.geometry.kernel) == 2
        return _frozen_convolution(layer) if plane and len(op.bottoms) == 1 else layer
    if isinstance(layer, InnerProduct):
        weight, *bias = _values(layer)
        return FrozenInnerProduct(
            weight.t().contiguous() if layer.transpose else weight,
            bias[0] if bias else None,
            axis=layer.axis,
        )
    if isinstance(layer, Normalize) and not layer.across_spatial:
        return FrozenNormalize(_values(layer)[0], eps=layer.eps)
    affine = _affine_of(op)
    return layer if affine is None else ChannelAffine(*affine)


def _values(layer: nn.Module) -> list[Tensor]:
    return [blob.detach() for blob in layer.blobs]  # type: ignore[union-attr]


def _frozen_convolution(layer: Convolution) -> FrozenConvolution:
    weight, *bias = _values(layer)
    return FrozenConvolution(
        weight,
        bias[0] if bias else None,
        geometry=layer.geometry,
        group=layer.group,
        transposed=isinstance(layer, Deconvolution),
    )


def _affine_of(op: Instruction) -> _Affine | None:
    """Scale and shift per channel, where a layer is nothing else."""
    layer = op.layer
    if len(op.bottoms) != 1:
        return None
    if isinstance(layer, BatchNorm | PSPNetBN | SegNetBN):
        return layer.channel_affine() if len(op.tops) == 1 else None
    if isinstance(layer, Scale) and layer.is_per_channel:
        scale, *bias = _values(layer)
        return scale, bias[0] if bias else torch.zeros_like(scale)
    if isinstance(layer, Bias) and layer.is_per_channel:
        (shift,) = _values(layer)
        return torch.ones_like(shift), shift
    return None


def _with_affine(first: nn.Module, second: nn.Module) -> nn.Module | None:
    """One module for `first` and an affine map behind it, or None."""
    if not isinstance(second, ChannelAffine) or getattr(first, "relu", True):
        return None
    if isinstance(first, ChannelAffine):
        shift = torch.addcmul(second.shift, first.shift, second.scale)
        return ChannelAffine(first.scale * second.scale, shift)
    if isinstance(first, FrozenConvolution):
        bias = _folded_bias(first.bias, second)
        return first.scaled(_per_output(second.scale, first), bias)
    if isinstance(first, FrozenInnerProduct) and first.axis == 1:
        bias = _folded_bias(first.bias, second)
        return FrozenInnerProduct(first.weight * second.scale[:, None], bias, axis=first.axis)
    return None


def _folded_bias(bias: Tensor | None, affine: ChannelAffine) -> Tensor:
    if bias is None:
        return affine.shift
    return torch.addcmul(affine.shift, bias, affine.scale)


def _per_output(scale: Tensor, conv: FrozenConvolution) -> Tensor:
    """(M,) shaped to be spread over the convolution's weight."""
    kernel = (1,) * len(conv.geometry.kernel)
    if not conv.transposed:
        return scale.reshape(-1, 1, *kernel)
    per_group = scale.reshape(conv.group, 1, -1)
    channels = conv.unscaled.shape[0] // conv.group
    return per_group.expand(-1, channels, -1).reshape(conv.unscaled.shape[0], -1, *kernel)


def _with_relu(first: nn.Module, second: nn.Module) -> nn.Module | None:
    """One module for `first` and a ReLU behind it, or None."""
    if not isinstance(second, ReLU) or second.negative_slope != 0 or getattr(first, "relu", True):
        return None
    if isinstance(first, ChannelAffine):
        return ChannelAffine(first.scale, first.shift, relu=True)
    if isinstance(first, FrozenConvolution):
        return first.with_relu()
    if isinstance(first, FrozenInnerProduct):
        return FrozenInnerProduct(first.weight, first.bias, axis=first.axis, relu=True)
    return None


def _clamped(
    affine: ChannelAffine, conv: FrozenConvolution
) -> tuple[ChannelClamp, FrozenConvolution]:
    scale, shift = affine.scale, affine.shift
    edge = torch.where(scale != 0, -shift / scale, 0.0)
    clamp = ChannelClamp(
        torch.where(scale < 0, -torch.inf, edge),
        torch.where(scale > 0, torch.inf, edge) if bool((scale <= 0).any()) else None,
    )
    # A channel without scale is the constant relu(shift): its weight goes, its share stays.
    share = torch.where(scale != 0, shift, shift.clamp(min=0))
    weight = conv.weight.flatten(1)
    bias = (weight.double() @ share.double()).to(weight.dtype)
    bias = bias if conv.bias is None else conv.bias + bias
    return clamp, conv.scaled(scale.reshape(1, -1, 1, 1), bias)


def _join_neighbours(
    program: Program, wanted: Collection[Value], join: _Join
) -> tuple[Instruction, ...]:
    """Join pairs of calls where the second alone reads what the first makes."""
    readers = _readers(program)
    joined: list[Instruction | None] = []
    maker: dict[Value, int] = {}
    for op in program:
        index = maker.get(op.bottoms[0]) if len(op.bottoms) == 1 else None
        first = None if index is None else joined[index]
        if index is not None and first is not None and len(first.tops) == 1:
            alone = readers[first.tops[0]] == 1 and first.tops[0] not in wanted
            module = join(first.layer, op.layer) if alone else None
            if module is not None:
                joined[index] = replace(first, layer=module, tops=op.tops)
                maker.update(dict.fromkeys(op.tops, index))
                continue
        maker.update(dict.fromkeys(op.tops, len(joined)))
        joined.append(op)
    return tuple(op for op in joined if op is not None)


def _readers(program: Program) -> Counter[Value]:
    return Counter(value for op in program for value in op.bottoms)
