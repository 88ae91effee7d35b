"""Exact rewrites of a net's steps into the program that runs.

`plain_program` keeps every layer. `fuse_batch_norm` joins what always goes together:

    BatchNorm -> Scale -> ReLU   (in place or not)      becomes      one native batch norm + ReLU

with the same blobs, the same running statistics and the same gradients.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn
from torch.nn import functional as F

from caffe_ssd.layers.batch_norm import BatchNorm
from caffe_ssd.layers.peers import Peers
from caffe_ssd.layers.registry import Layer
from caffe_ssd.layers.relu import ReLU
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.layers.scale import Scale
from caffe_ssd.net.instruction import Instruction, with_last_uses
from caffe_ssd.net.plan import Step


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
                    parts=with_last_uses([*(last.parts or [last]), op]),
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

    takes_context = True

    def __init__(self, batch_norm: BatchNorm, scale: Scale, *, relu: bool = False) -> None:
        super().__init__()
        self._layers = (batch_norm, scale)  # a tuple: the blobs are not registered twice
        self.relu = relu

    @property
    def batch_norm(self) -> BatchNorm:
        """The BatchNorm layer."""
        return self._layers[0]

    @property
    def peers(self) -> Peers | None:
        """Devices that BatchNorm shares its statistics with."""
        return self.batch_norm.peers

    @peers.setter
    def peers(self, peers: Peers | None) -> None:
        self.batch_norm.peers = peers

    @property
    def scale(self) -> Scale:
        """The Scale layer."""
        return self._layers[1]

    def running_state(self) -> Sequence[Tensor]:
        """What a forward pass changes; see `Layer.running_state`."""
        return self.batch_norm.running_state()

    def forward(self, bottom: Tensor, context: RunContext | None = None) -> Tensor:
        weight, *bias = self.scale.blobs
        top = self.batch_norm.normalize(bottom, weight, *bias, context=context)
        return F.relu_(top) if self.relu else top
