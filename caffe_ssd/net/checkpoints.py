"""Trades time for memory in training: parts of the net forget their blobs and compute them again.

    forward     keeps the bottoms of a segment and drops what is made inside it
    backward    runs the segment once more, then backward through it

The numbers stay the same. Where to cut is chosen so that what is kept, plus the largest segment,
takes the least memory: in a dense net the cuts fall behind transitions, not inside blocks.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost"; for dense nets Pleiss et al.,
"Memory-Efficient Implementation of DenseNets".
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from math import inf, prod

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from caffe_ssd.layers.registry import Shape
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.net.instruction import Instruction, with_last_uses
from caffe_ssd.net.joined import JoinedLayers, joined
from caffe_ssd.net.plan import Value
from caffe_ssd.net.runner import statistics_kept

_VIEWS = ("Split", "Flatten", "Reshape")  # their tops are their bottoms' memory
_MOST_SEGMENTS = 48


class Segment(JoinedLayers):
    """Some instructions that are run again in the backward pass."""

    def forward(self, *bottoms: Tensor, context: RunContext) -> tuple[Tensor, ...]:
        if not torch.is_grad_enabled():
            return self.one_by_one(bottoms, context)
        repeats = iter((False,))

        def run(*given: Tensor) -> tuple[Tensor, ...]:
            with statistics_kept(self.program, when=next(repeats, True)):
                return self.one_by_one(given, context)

        tops: tuple[Tensor, ...] = checkpoint(
            run, *bottoms, use_reentrant=False, preserve_rng_state=False
        )
        return tops


def with_checkpoints(
    program: Sequence[Instruction], shapes: Sequence[Shape]
) -> tuple[Instruction, ...]:
    """A program that keeps less of its blobs for the backward pass.

    Args:
        program: of a net in phase TRAIN.
        shapes: of the net's blobs.
    """
    groups = [list(ops) for _, ops in groupby(program, key=_can_repeat)]
    result: list[Instruction] = []
    for i, ops in enumerate(groups):
        if not _can_repeat(ops[0]):
            result += ops
            continue
        needed = {value for group in groups[i + 1 :] for op in group for value in op.bottoms}
        *segments, last = _segments(ops, needed, shapes)
        for number, segment in enumerate(segments):
            behind = [*segments[number + 1 :], last]
            used = needed | {v for other in behind for op in other for v in op.bottoms}
            result += segment if len(segment) == 1 else [joined(Segment, segment, used)]
        result += last  # the backward pass begins with it: nothing is gained by forgetting
    return with_last_uses(result)


def _can_repeat(op: Instruction) -> bool:
    """Whether an instruction does the same the second time, and may be run inside a segment."""
    repeats = getattr(op.layer, "can_repeat", True)
    differentiable = op.step.type.has_backward or not op.needs_backward
    return bool(op.bottoms) and not any(op.loss_weights) and repeats and differentiable


# Where to cut ------------------------------------------------------------------------------------


def _segments(
    ops: Sequence[Instruction], needed: set[Value], shapes: Sequence[Shape]
) -> list[list[Instruction]]:
    """The segments for which kept elements plus those of the largest segment are fewest."""
    inside, kept = _costs(ops, needed, shapes)
    total = inside[0][len(ops)]
    plans = (_cheapest(inside, kept, total / count) for count in range(1, _MOST_SEGMENTS + 1))
    _, cuts = min(plans, key=lambda plan: plan[0])
    return [list(ops[low:high]) for low, high in pairwise(cuts)]


def _costs(
    ops: Sequence[Instruction], needed: set[Value], shapes: Sequence[Shape]
) -> tuple[list[list[float]], list[list[float]]]:
    """By begin and end of a segment: elements made inside, and those of them used behind."""
    size: dict[Value, int] = {}
    root: dict[Value, Value] = {}
    last_use: dict[Value, int] = {}
    for place, op in enumerate(ops):
        for value in op.bottoms:
            last_use[root.get(value, value)] = place
        for value in op.tops:
            is_view = op.step.param.type in _VIEWS
            root[value] = root.get(op.bottoms[0], op.bottoms[0]) if is_view else value
            size[value] = 0 if is_view else prod(shapes[value.blob])
    for value in needed & set(root):
        last_use[root[value]] = len(ops)
    count = len(ops) + 1
    inside, kept = ([[0.0] * count for _ in range(count)] for _ in range(2))
    for begin in range(count):
        living: dict[Value, int] = {}
        for end in range(begin, len(ops)):
            made = {value: size[value] for value in ops[end].tops if size[value]}
            inside[begin][end + 1] = inside[begin][end] + sum(made.values())
            living = {v: n for v, n in (living | made).items() if last_use.get(v, 0) > end}
            kept[begin][end + 1] = sum(living.values())
    return inside, kept


def _cheapest(
    inside: list[list[float]], kept: list[list[float]], limit: float
) -> tuple[float, list[int]]:
    """Elements held at most, and the cuts, with no segment above the limit (or of one op)."""
    count = len(inside)
    cost, previous = [0.0] + [inf] * (count - 1), [0] * count
    for end in range(1, count):
        for begin in range(end - 1, -1, -1):
            if inside[begin][end] > limit and begin < end - 1:
                break
            if cost[begin] + kept[begin][end] < cost[end]:
                cost[end], previous[end] = cost[begin] + kept[begin][end], begin
    cuts = [count - 1]
    while cuts[0] > 0:
        cuts.insert(0, previous[cuts[0]])
    largest = max(inside[a][b] for a, b in pairwise(cuts))
    return cost[-1] + largest, cuts
