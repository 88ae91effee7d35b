"""Programs for passes that stand for several, each image of which belongs to one of them.

    source         called once per group; what it makes is laid end to end along axis 0
    convolution    called once with all images
    BatchNorm      called once; it finds the groups in the context
    other losses   called once per group, with the group's part of the bottoms

A layer says which of these suits it (`Grouping`); what says nothing runs group by group, which is
always right. A blob that is the same in every pass, such as the priors, is made once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from enum import Enum, auto
from functools import partial

import torch
from torch import Tensor

from caffe_ssd.data.batches import join_boxes, part_of_boxes
from caffe_ssd.errors import NetError
from caffe_ssd.layers.input import Input
from caffe_ssd.layers.registry import Grouping, Layer, Shape, SourceLayer
from caffe_ssd.layers.run_context import Groups, RunContext
from caffe_ssd.layers.split import Split
from caffe_ssd.net.instruction import Instruction, with_last_uses
from caffe_ssd.net.plan import Value
from caffe_ssd.net.runner import call_layer, state_kept


class Kind(Enum):
    """How a value holds what several passes make."""

    COMMON = auto()
    """All of them make the same; it is there once."""
    PARTS = auto()
    """Laid end to end along axis 0."""
    NUMBERS = auto()
    """[groups]: each makes a scalar."""
    BOXES = auto()
    """Rows that begin with the number of an image, counted over all groups."""


def value_kinds(program: Sequence[Instruction], shapes: Sequence[Shape]) -> Mapping[Value, Kind]:
    """The kind of every value.

    Args:
        program: one instruction per layer.
        shapes: of the blobs in a pass that stands for itself.

    Raises:
        NetError: a layer cannot be run in a pass that stands for several.
    """
    boxes = _read_as_boxes(program)
    kinds: dict[Value, Kind] = {}
    for op in program:
        layer = _layer(op)
        if layer.grouping is Grouping.REFUSED:
            raise NetError(
                f"layer {op.step.param.name!r} ({op.step.param.type}) cannot run in a pass that "
                "stands for several: what its code keeps from pass to pass is not known"
            )
        for i, value in enumerate(op.tops):
            if _makes_common(op, layer, kinds):
                kinds[value] = Kind.COMMON
            elif (value in boxes and not op.bottoms) or i == getattr(layer, "boxes_top", None):
                kinds[value] = Kind.BOXES
            elif isinstance(layer, Split):
                kinds[value] = kinds[op.bottoms[0]]
            else:
                kinds[value] = Kind.PARTS if shapes[value.blob] else Kind.NUMBERS
    return kinds


def grouped_program(
    program: Sequence[Instruction],
    kinds: Mapping[Value, Kind],
    others: Sequence[Mapping[str, SourceLayer]] = (),
) -> tuple[Instruction, ...]:
    """The same program for passes that stand for several, and as before for others.

    Args:
        program: with or without joined instructions, but with no checkpoints.
        kinds: of `value_kinds`.
        others: of each further device that this process stands for, its sources by name.
    """
    made: list[Instruction] = []
    for op in program:
        parts = grouped_program(op.parts, kinds, others)
        if not parts:
            made.append(replace(op, layer=_grouped(op, kinds, others)))
        elif all(new.layer is old.layer for new, old in zip(parts, op.parts, strict=True)):
            made.append(op)
        else:
            made += parts
    return with_last_uses(made)


def _grouped(
    op: Instruction, kinds: Mapping[Value, Kind], others: Sequence[Mapping[str, SourceLayer]]
) -> Layer:
    """What takes the place of a layer."""
    layer = _layer(op)
    top_kinds = [kinds[value] for value in op.tops]
    if isinstance(layer, SourceLayer | Input):
        twins = [sources.get(op.step.param.name, layer) for sources in others]
        return JoinedSource([layer, *twins], top_kinds)
    bottom_kinds = [kinds[value] for value in op.bottoms]
    is_common = bool(op.tops) and all(kind is Kind.COMMON for kind in top_kinds)
    if not op.bottoms or is_common or _runs_once(layer, bottom_kinds):
        return layer
    return OneByOne(layer, bottom_kinds)


def _runs_once(layer: Layer, kinds: Sequence[Kind]) -> bool:
    """Whether a layer takes all groups of bottoms of these kinds in one call."""
    if isinstance(layer, Split):
        return True
    if layer.grouping is Grouping.PER_IMAGE:
        return all(kind is Kind.PARTS for kind in kinds)
    wanted = [Kind.COMMON if i in layer.common_bottoms else Kind.PARTS for i in range(len(kinds))]
    if layer.reads_boxes is not None:
        wanted[layer.reads_boxes] = Kind.BOXES
    return layer.grouping is Grouping.ITSELF and list(kinds) == wanted


def _makes_common(op: Instruction, layer: Layer, kinds: Mapping[Value, Kind]) -> bool:
    """Whether every pass makes the same, and one call is as good as several."""
    if not op.bottoms:
        return not isinstance(layer, SourceLayer | Input)
    if layer.reads_only_shapes:
        return True
    repeats = layer.can_repeat and not layer.running_state()
    return repeats and all(kinds[value] is Kind.COMMON for value in op.bottoms)


def _read_as_boxes(program: Sequence[Instruction]) -> set[Value]:
    """Values whose rows somebody takes for those of images."""
    found: set[Value] = set()
    for op in reversed(program):
        layer = _layer(op)
        if layer.reads_boxes is not None and layer.reads_boxes < len(op.bottoms):
            found.add(op.bottoms[layer.reads_boxes])
        if isinstance(layer, Split) and not found.isdisjoint(op.tops):
            found.add(op.bottoms[0])
    return found


def _layer(op: Instruction) -> Layer:
    assert isinstance(op.layer, Layer)
    return op.layer


class JoinedSource(Layer):
    """The batches of one source, or of one source per device, in the order of the groups.

    Args:
        sources: of each device that this process stands for.
        kinds: of the tops.
    """

    takes_context = True
    can_repeat = False

    def __init__(self, sources: Sequence[Layer], kinds: Sequence[Kind]) -> None:
        super().__init__()
        self._sources = tuple(sources)  # a tuple: nothing is registered twice
        self._kinds = kinds

    def forward(self, context: RunContext) -> tuple[Tensor, ...]:
        groups = context.groups
        if groups is None:
            return call_layer(self._sources[0], (), context)
        batches = [call_layer(self._sources[device], (), context) for device in groups.devices]
        size = next((top.shape[0] for top in batches[0] if top.dim()), 1)
        return tuple(
            join_boxes(parts, size) if kind is Kind.BOXES else _end_to_end(parts)
            for kind, parts in zip(self._kinds, zip(*batches, strict=True), strict=True)
        )


class OneByOne(Layer):
    """A layer that is called for each group in turn, as if it were a pass of its own.

    Args:
        layer: the layer.
        kinds: of its bottoms.
    """

    takes_context = True

    def __init__(self, layer: Layer, kinds: Sequence[Kind]) -> None:
        super().__init__()
        self._layer = (layer,)  # a tuple: its blobs are not registered twice
        self._kinds = kinds
        self.blobs = layer.blobs
        self.can_repeat = layer.can_repeat
        self.draws_on_device = layer.draws_on_device
        self.reads_boxes = layer.reads_boxes

    @property
    def layer(self) -> Layer:
        """The layer itself."""
        return self._layer[0]

    def running_state(self) -> Sequence[Tensor]:
        return self.layer.running_state()

    def forward(self, *bottoms: Tensor, context: RunContext) -> tuple[Tensor, ...]:
        groups = context.groups
        if groups is None:
            return call_layer(self.layer, bottoms, context)
        made = []
        for i in range(len(groups)):
            inside = context.of_one_group(_boxes_of(i, groups, context.batch_size))
            parts = [self._part(j, bottom, i, context, inside) for j, bottom in enumerate(bottoms)]
            with state_kept(self.running_state(), when=not groups.keeps_statistics(i)):
                made.append(call_layer(self.layer, parts, inside))
        return tuple(_end_to_end(parts) for parts in zip(*made, strict=True))

    def _part(
        self, index: int, bottom: Tensor, group: int, whole: RunContext, inside: RunContext
    ) -> Tensor:
        """One group's part of a bottom, with which its own context is acquainted."""
        match self._kinds[index]:
            case Kind.COMMON:
                return bottom
            case Kind.NUMBERS:
                return bottom[group]
            case Kind.BOXES:
                if index == self.layer.reads_boxes:  # by `from_host`, which knows the group's rows
                    return bottom
                assert inside.boxes_of is not None
                return inside.received([inside.boxes_of(whole.on_host(bottom))])[0]
            case Kind.PARTS:
                assert whole.groups is not None
                size = bottom.shape[0] // len(whole.groups)
                return bottom.narrow(0, group * size, size)


def _boxes_of(group: int, groups: Groups, batch_size: int | None) -> Callable[[Tensor], Tensor]:
    """What finds a group's rows in a label, on the host."""
    assert batch_size is not None
    return partial(part_of_boxes, part=group, batch_size=batch_size // len(groups))


def _end_to_end(parts: Sequence[Tensor]) -> Tensor:
    """What each group makes, along axis 0."""
    if len(parts) == 1 and parts[0].dim():
        return parts[0]
    return torch.cat(list(parts)) if parts[0].dim() else torch.stack(list(parts))
