"""One call of a net's program, and the bookkeeping of how long values live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import nn

from caffe_ssd.net.plan import Step, Value


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
        parts: for a call that stands for several layers: the calls that do the same one by one, for
            those who want to see what lies between. Empty for a layer by itself.
    """

    step: Step
    layer: nn.Module
    bottoms: tuple[Value, ...]
    tops: tuple[Value, ...]
    loss_weights: tuple[float, ...]
    needs_backward: bool
    propagate_down: tuple[bool, ...]
    last_uses: tuple[Value, ...] = ()
    parts: tuple[Instruction, ...] = ()


def with_last_uses(program: Sequence[Instruction]) -> tuple[Instruction, ...]:
    """Note with each instruction which values nobody needs after it."""
    seen: set[Value] = set()
    marked = []
    for op in reversed(program):
        mine = dict.fromkeys((*op.bottoms, *op.tops))
        marked.append(replace(op, last_uses=tuple(v for v in mine if v not in seen)))
        seen.update(mine)
    return tuple(reversed(marked))
