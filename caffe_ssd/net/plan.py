"""Wires layers to blobs: who reads and writes what, before any shape is known.

Spec: caffe-net.md sections 5, 7 and 9.

A blob is what the prototxt names. In-place layers write one blob several times; each writing is a
value of its own, `Value(blob, version)`, so that a plan is in single-assignment form:

    conv1 -> conv1      Value(1, 0)
    relu1: conv1        Value(1, 0) -> Value(1, 1)

Quirk: a loss top that a layer with a backward pass reads loses its weight in the gradients.
Quirk: in the reference nothing runs backward in a net that has neither a loss nor
    `force_backward`. Here a net in phase TRAIN does: what a script writes into the diffs of its
    outputs goes back (docs/fidelity.md).
Quirk: the sweep that decides who runs backward takes a BatchNorm without `param` entries for one
    with learnable blobs, because it reads the message as written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from caffe_ssd.errors import (
    CaffeError,
    DataError,
    FileError,
    LayerError,
    LayerParamError,
    NetError,
    ProtoError,
)
from caffe_ssd.layers.registry import LayerType, layer_type_of
from caffe_ssd.net.splits import unknown_bottom
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, Phase

AUTOMATIC = "(automatic)"


class Value(NamedTuple):
    """One writing of a blob: the blob's index and how often it was written before."""

    blob: int
    version: int


@dataclass(frozen=True, kw_only=True)
class Step:
    """One layer at its place in the net.

    Args:
        param: its message with phase, automatic tops and loss weights filled in.
        bottoms: the values it reads.
        tops: the values it writes.
        loss_weights: one per top.
        needs_backward: whether it takes part in the backward pass.
        propagate_down: which bottoms receive a gradient.
        num_params: how many `param` entries the prototxt gives.
        param_flags: which learnt blobs receive a gradient.
    """

    param: LayerParameter
    bottoms: tuple[Value, ...]
    tops: tuple[Value, ...]
    loss_weights: tuple[float, ...]
    needs_backward: bool = False
    propagate_down: tuple[bool, ...] = ()
    num_params: int = 0
    param_flags: tuple[bool, ...] = ()

    @cached_property
    def type(self) -> LayerType:
        """What the layer's message means."""
        return layer_type_of(self.param)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A whole net, wired.

    Args:
        name: the net's name.
        steps: the layers in order.
        blob_names: names of the blobs in order of creation; automatic tops share one name.
        inputs: blobs made by Input layers, in order.
        outputs: blobs nobody reads, in byte order of their names.
        force_backward: whether gradients are sent to every bottom that allows it.
    """

    name: str
    steps: tuple[Step, ...]
    blob_names: tuple[str, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    force_backward: bool

    def readers(self, value: Value) -> list[str]:
        """Names of the layers that read a value."""
        return [step.param.name for step in self.steps if value in step.bottoms]

    def final_values(self) -> dict[int, Value]:
        """The last value of each blob."""
        return {value.blob: value for step in self.steps for value in step.tops}

    def overwritten_weights(self) -> frozenset[Value]:
        """Loss tops whose diff, the loss weight, a reader replaces by its own gradient.

        They count in the loss, but not in the gradients.
        """
        weighted = {
            value
            for step in self.steps
            for value, weight in zip(step.tops, step.loss_weights, strict=True)
            if weight
        }
        return frozenset(
            value
            for step in self.steps
            if step.needs_backward
            for value, flag in zip(step.bottoms, step.propagate_down, strict=True)
            if flag and value in weighted
        )


@contextmanager
def naming(step: Step) -> Iterator[None]:
    """Adds the layer's name and type to an error that passes through."""
    try:
        yield
    except CaffeError as error:
        better = named(error, step)
        if better is error:
            raise
        raise better from error


def named(error: CaffeError, step: Step) -> CaffeError:
    """The error with the layer's name and type in it."""
    if isinstance(error, DataError | FileError | ProtoError):
        where = f"layer {step.param.name!r} ({step.param.type}): "
        return error if str(error).startswith(where) else type(error)(where + str(error))
    if isinstance(error, LayerError) and not error.layer_type:
        error.layer, error.layer_type = step.param.name, step.param.type
    return error


def make_plan(param: NetParameter) -> Plan:
    """Wire a filtered net with its splits in place.

    Raises:
        NetError: a bottom without producer, or two layers that make the same blob.
        LayerError: an unknown type, or loss weights that do not fit the tops.
    """
    wiring = _Wiring()
    steps = [wiring.add(layer, param.state.phase) for layer in param.layer]
    names = wiring.blob_names
    return Plan(
        name=param.name,
        steps=tuple(steps),
        blob_names=tuple(names),
        inputs=tuple(v.blob for s in steps if s.param.type == "Input" for v in s.tops),
        outputs=tuple(sorted(wiring.available.values(), key=lambda blob: names[blob].encode())),
        force_backward=param.force_backward,
    )


class _Wiring:
    """The blobs known so far while layers are added in order."""

    def __init__(self) -> None:
        self.blob_names: list[str] = []
        self.available: dict[str, int] = {}  # blobs nobody has read yet
        self._known: set[str] = set()
        self._versions: list[int] = []

    def add(self, layer: LayerParameter, phase: int) -> Step:
        param = LayerParameter()
        param.CopyFrom(layer)
        if not param.HasField("phase"):
            param.phase = phase  # type: ignore[assignment]
        try:
            kind = layer_type_of(param)
            if param.propagate_down and len(param.propagate_down) != len(param.bottom):
                raise LayerParamError(
                    f"propagate_down has {len(param.propagate_down)} entries, "
                    f"allowed: none, or one per bottom ({len(param.bottom)})"
                )
            bottoms = tuple(self._bottom(param, j) for j in range(len(param.bottom)))
            tops = [self._top(param, j, bottoms) for j in range(len(param.top))]
            while kind.is_loss and len(tops) < kind.tops.start:
                param.top.append(AUTOMATIC)
                tops.append(self._new(AUTOMATIC))
            weights = _loss_weights(param, kind)
        except LayerError as error:
            error.layer, error.layer_type = param.name, param.type
            raise
        return Step(
            param=param,
            bottoms=bottoms,
            tops=tuple(tops),
            loss_weights=weights,
            num_params=len(layer.param),
        )

    def _bottom(self, param: LayerParameter, j: int) -> Value:
        name = param.bottom[j]
        if name not in self.available:
            raise NetError(unknown_bottom(name, param.name, j, self.available))
        blob = self.available.pop(name)
        return Value(blob, self._versions[blob])

    def _top(self, param: LayerParameter, j: int, bottoms: tuple[Value, ...]) -> Value:
        name = param.top[j]
        if j < len(param.bottom) and param.bottom[j] == name:  # in place
            blob = bottoms[j].blob
            self._versions[blob] += 1
            value = Value(blob, self._versions[blob])
        elif name in self._known:
            raise NetError(
                f"Top blob '{name}' produced by multiple sources: layer '{param.name}' makes a "
                "blob that exists already; rename its top (in place needs the same position "
                "among bottoms and tops, and no other reader before)"
            )
        else:
            self._known.add(name)
            value = self._new(name)
        self.available[name] = value.blob
        return value

    def _new(self, name: str) -> Value:
        self.blob_names.append(name)
        self._versions.append(0)
        return Value(len(self.blob_names) - 1, 0)


def _loss_weights(param: LayerParameter, kind: LayerType) -> tuple[float, ...]:
    """One weight per top; a loss layer's implicit 1 is written into the message."""
    if kind.is_loss and not param.loss_weight:
        param.loss_weight.append(1.0)
    if param.loss_weight and len(param.loss_weight) != len(param.top):
        raise LayerParamError(
            f"loss_weight has {len(param.loss_weight)} entries, "
            f"allowed: none, or one per top ({len(param.top)})"
        )
    return tuple(param.loss_weight) or (0.0,) * len(param.top)


def plan_backward(plan: Plan, num_blobs: list[int]) -> Plan:
    """Decide which layers run backward and which bottoms receive gradients.

    Args:
        plan: the wired net.
        num_blobs: how many learnt blobs each layer has.
    """
    steps = _sweep_forward(plan.steps, num_blobs)
    steps = _sweep_backward(steps, plan.blob_names, _roots(plan))
    if plan.force_backward:
        steps = [
            replace(
                step,
                needs_backward=True,
                propagate_down=tuple(
                    flag or i not in step.type.not_forced
                    for i, flag in enumerate(step.propagate_down)
                ),
                param_flags=(True,) * len(step.param_flags),
            )
            for step in steps
        ]
    return replace(plan, steps=tuple(steps))


def _sweep_forward(steps: tuple[Step, ...], num_blobs: list[int]) -> list[Step]:
    """Who could run backward: everything behind a learnable blob."""
    needed: set[int] = set()
    swept = []
    for step, blobs in zip(steps, num_blobs, strict=True):
        reached = [value.blob in needed for value in step.bottoms]
        learnt = tuple(
            i >= step.num_params or step.param.param[i].lr_mult != 0 for i in range(blobs)
        )
        flags = step.param.propagate_down or reached
        needs = any(learnt) or any(reached)
        if needs:
            needed.update(value.blob for value in step.tops)
        swept.append(
            replace(step, needs_backward=needs, propagate_down=tuple(flags), param_flags=learnt)
        )
    return swept


def _roots(plan: Plan) -> set[str]:
    """Outputs of a training net without a loss, from whose diffs its backward pass begins."""
    if any(any(step.loss_weights) for step in plan.steps):
        return set()
    return {
        plan.blob_names[value.blob]
        for step in plan.steps
        for value in step.tops
        if value.blob in plan.outputs
        and step.type.has_backward
        and step.param.phase == Phase.Value("TRAIN")
    }


def _sweep_backward(steps: list[Step], names: tuple[str, ...], roots: set[str]) -> list[Step]:
    """Who does run backward: what contributes to a loss and is not skipped by its readers."""
    under_loss = set(roots)
    skip: set[str] = set()
    swept = []
    for step in reversed(steps):
        tops = [names[value.blob] for value in step.tops]
        contributes = any(step.loss_weights) or any(top in under_loss for top in tops)
        needs, flags = step.needs_backward, list(step.propagate_down)
        if needs and all(top in skip for top in tops):
            needs, flags = False, [False] * len(flags)
        needs = needs and contributes
        for i, value in enumerate(step.bottoms):
            if contributes:
                under_loss.add(names[value.blob])
            else:
                flags[i] = False
            if not flags[i]:
                skip.add(names[value.blob])
        swept.append(replace(step, needs_backward=needs, propagate_down=tuple(flags)))
    return swept[::-1]
