"""Exact rewrites of a net's steps into the program that runs.

`plain_program` keeps every layer. `fuse_batch_norm` joins what always goes together:

    BatchNorm -> Scale -> ReLU   (in place or not)      becomes      one native batch norm + ReLU

with the same blobs, the same running statistics and the same gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caffe_ssd.layers.batch_norm import BatchNorm
from caffe_ssd.layers.registry import Layer
from caffe_ssd.layers.relu import ReLU
from caffe_ssd.layers.scale import Scale
from caffe_ssd.net.no_backward import name_maker
from caffe_ssd.net.plan import Step, Value, naming


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One call of the program.

    Args:
        step: the layer it stands for, the first one if several were joined.
        layer: the module to call.
        bottoms: values to pass.
        tops: values it makes.
        loss_weights: one per top.
        needs_backward: whether it takes part in the backward pass.
        propagate_down: which bottoms receive a gradient.
        last_uses: values that nobody needs afterwards.
    """

    step: Step
    layer: nn.Module
    bottoms: tuple[Value, ...]
    tops: tuple[Value, ...]
    loss_weights: tuple[float, ...]
    needs_backward: bool
    propagate_down: tuple[bool, ...]
    last_uses: tuple[Value, ...] = ()


def run_instruction(
    op: Instruction,
    values: Mapping[Value, Tensor],
    layer: Callable[..., tuple[Tensor, ...] | Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Make an instruction's tops, with gradients as far as it takes part in the backward pass.

    Args:
        op: the instruction.
        values: its bottoms among them.
        layer: what to call; None for the instruction's own module.

    Raises:
        CaffeError: the layer cannot take its bottoms; the layer is named.
    """
    bottoms = [
        values[value] if flag else values[value].detach()
        for value, flag in zip(op.bottoms, op.propagate_down, strict=True)
    ]
    takes_part = torch.is_grad_enabled() and op.needs_backward
    with torch.set_grad_enabled(takes_part), naming(op.step):
        made = (op.layer if layer is None else layer)(*bottoms)
    tops = (made,) if isinstance(made, Tensor) else tuple(made)
    return name_maker(tops, op.step) if takes_part else tops


def plain_program(steps: Sequence[Step], layers: Sequence[Layer]) -> tuple[Instruction, ...]:
    """One instruction per layer."""
    program = [
        Instruction(
            step=step,
            layer=layer,
            bottoms=step.bottoms,
            tops=step.tops,
            loss_weights=step.loss_weights,
            needs_backward=step.needs_backward,
            propagate_down=step.propagate_down,
        )
        for step, layer in zip(steps, layers, strict=True)
    ]
    return with_last_uses(program)


def fuse_batch_norm(program: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """Join BatchNorm with the Scale, and the ReLU, that alone read its top."""
    readers = Counter(value for op in program for value in op.bottoms)
    fused: list[Instruction] = []
    for op in program:
        last = fused[-1] if fused else None
        if last is not None and op.bottoms == last.tops and readers[last.tops[0]] == 1:
            module = _join(last, op)
            if module is not None:
                fused[-1] = replace(
                    last,
                    layer=module,
                    tops=op.tops,
                    loss_weights=op.loss_weights,
                    needs_backward=op.needs_backward,
                )
                continue
        fused.append(op)
    return with_last_uses(fused)


def _join(first: Instruction, second: Instruction) -> nn.Module | None:
    """One module for two instructions, or None where they must stay apart."""
    frozen = first.needs_backward != second.needs_backward or not all(second.propagate_down)
    if any(first.loss_weights) or (second.needs_backward and frozen):
        return None
    if isinstance(first.layer, BatchNorm) and isinstance(second.layer, Scale):
        return FusedBatchNorm(first.layer, second.layer) if second.layer.is_per_channel else None
    if isinstance(first.layer, FusedBatchNorm) and isinstance(second.layer, ReLU):
        if first.layer.relu or second.layer.negative_slope != 0:
            return None
        return FusedBatchNorm(first.layer.batch_norm, first.layer.scale, relu=True)
    return None


class FusedBatchNorm(nn.Module):
    """BatchNorm, Scale and perhaps ReLU in one native call; the blobs stay with their layers.

    Args:
        batch_norm: the BatchNorm layer.
        scale: the Scale layer behind it.
        relu: whether a ReLU follows.
    """

    def __init__(self, batch_norm: BatchNorm, scale: Scale, *, relu: bool = False) -> None:
        super().__init__()
        self._layers = (batch_norm, scale)  # a tuple: the blobs are not registered twice
        self.relu = relu

    @property
    def batch_norm(self) -> BatchNorm:
        """The BatchNorm layer."""
        return self._layers[0]

    @property
    def scale(self) -> Scale:
        """The Scale layer."""
        return self._layers[1]

    def forward(self, bottom: Tensor) -> Tensor:
        weight, *bias = self.scale.blobs
        top = self.batch_norm.normalize(bottom, weight, bias[0] if bias else None)
        return F.relu_(top) if self.relu else top


def with_last_uses(program: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """Note with each instruction which values nobody needs after it."""
    seen: set[Value] = set()
    marked = []
    for op in reversed(program):
        mine = dict.fromkeys((*op.bottoms, *op.tops))
        marked.append(replace(op, last_uses=tuple(v for v in mine if v not in seen)))
        seen.update(mine)
    return tuple(reversed(marked))
