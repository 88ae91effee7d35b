"""Maps a prototxt layer `type` to the function that builds it, and says what the type accepts."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from torch import Tensor, nn

from caffe_ssd.errors import LayerError, LayerParamError, ShapeError, UnknownLayerError
from caffe_ssd.proto.caffe_pb2 import LayerParameter, Phase
from caffe_ssd.proto.extensions import refuse_fixed_fields
from caffe_ssd.random import CaffeRandom

Shape: TypeAlias = tuple[int, ...]

MANY = sys.maxsize
AT_LEAST_ONE = range(1, MANY)
EVERY_BOTTOM = range(MANY)


class Code(Enum):
    """What becomes of code that a prototxt names (Python layers)."""

    RUN = "imported and run"
    LOOK = "not imported; the layer is there, with tops of unknown shape"
    REFUSE = "not imported; the layer is an error"


class Grouping(Enum):
    """How a layer is run in a pass that stands for several; see `Groups` (run_context.py)."""

    ONE_BY_ONE = "once per group, with that group's part of the bottoms: always right"
    PER_IMAGE = "once: along axis 0, each part of the tops follows from that part of the bottoms"
    ITSELF = "once: it finds the groups in the context"
    REFUSED = "not at all"

    @classmethod
    def along(cls, axis: int) -> Grouping:
        """Of a layer that joins, cuts or sums along an axis, which is not negative."""
        return cls.PER_IMAGE if axis > 0 else cls.ONE_BY_ONE


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """What a net's surroundings give its layers; none of it stands in the prototxt.

    Args:
        rng: initial values, dropout masks and the seeds of data layers come from here.
        data_workers: worker processes per data layer; 0 loads in the calling process.
        rank: which of `world_size` devices this is; data layers deal records by it.
        world_size: number of devices that train together.
        code: what becomes of code that a net's definition names.
        jpeg_roundtrip: augmented images pass through JPEG between the stages, as in the reference;
            without it training and scoring are faster and differ by noise.
    """

    rng: CaffeRandom = field(default_factory=CaffeRandom)
    data_workers: int = 0
    rank: int = 0
    world_size: int = 1
    code: Code = Code.RUN
    jpeg_roundtrip: bool = True


@dataclass(frozen=True, kw_only=True)
class LayerSpec:
    """Everything a builder may look at.

    Args:
        param: the layer's message, with `phase` filled in and automatic tops added.
        bottoms: shapes of its bottoms, in order.
        runtime: the surroundings.
    """

    param: LayerParameter
    bottoms: tuple[Shape, ...]
    runtime: Runtime = field(default_factory=Runtime)

    @property
    def is_train(self) -> bool:
        """Whether the layer runs in phase TRAIN."""
        return self.param.phase == Phase.Value("TRAIN")

    @property
    def num_tops(self) -> int:
        """How many tops the layer has."""
        return len(self.param.top)


class Blobs(nn.ParameterList):
    """A layer's blobs; a few microseconds quicker than PyTorch's list, which counts in every call.

    A net of 300 layers asks a thousand times in a pass.
    """

    def __getitem__(self, index: Any) -> Any:
        found = self._parameters.get(_KEYS.get(index, "")) if type(index) is int else None
        return super().__getitem__(index) if found is None else found


_KEYS = {i: str(i) for i in range(8)}


class Layer(nn.Module):
    """A Caffe layer: a module from bottom tensors to top tensors.

    `forward(*bottoms)` returns one tensor, or a tuple when the layer has several tops or none. It
    never changes its bottoms. `blobs` holds blob i of the layer at index i, as in a caffemodel.

    `statistics` are the numbers of the blobs that the layer keeps itself rather than learns, such
    as BatchNorm's means; they have learning rate 0 whatever the prototxt says. A layer with
    `takes_context` is called with `context`, the pass's `RunContext`. One that does not
    `can_repeat` may do something else if it is run once more with the same bottoms; one that
    `draws_on_device` does so by the device's own random numbers alone. The tops of one that
    `reads_only_shapes` follow from the shapes of its bottoms. `backward_reads` are the bottoms
    whose content counts at the time of backward in the reference; what it keeps from forward does
    not. `grouping` says how it is run in a pass that stands for several; ITSELF wants
    `common_bottoms` to be the same for all groups. The bottom `reads_boxes` has rows that begin
    with an image's number, as the label of AnnotatedData; it is read on the host, and only by
    `RunContext.from_host`.
    """

    statistics: Collection[int] = ()
    takes_context: bool = False
    can_repeat: bool = True
    draws_on_device: bool = False
    reads_only_shapes: bool = False
    backward_reads: range = range(0)
    grouping: Grouping = Grouping.ONE_BY_ONE
    common_bottoms: Collection[int] = ()
    reads_boxes: int | None = None

    def __init__(self) -> None:
        super().__init__()
        self.blobs = Blobs()

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        """The shapes of the tops for these bottoms; by default one top shaped like bottom 0.

        Raises:
            ShapeError: the layer cannot take these shapes.
        """
        return (bottoms[0],)

    def running_state(self) -> Sequence[Tensor]:
        """The tensors that a forward pass changes; who runs the layer once more restores them."""
        return ()

    def made_once(self) -> Mapping[int, Tensor]:
        """Tops, by index, that are made at set-up and keep what somebody writes into them."""
        return {}

    def check(self) -> None:
        """Raise what past forward passes found wrong on a device without waiting for it."""

    def left_in_diffs(self, *bottoms: Tensor) -> Mapping[int, Tensor]:
        """What a forward pass leaves in the diffs of bottoms, by index; a quirk of few layers."""
        return {}

    def backward_from_top(self, top: Tensor, diff: Tensor) -> Tensor | None:
        """Bottom 0's diff where the reference finds it from the top's content; else None."""
        return None

    def reason_for_zero(self, *bottoms: Tensor) -> str:
        """Why a loss layer gives 0 where that means that nothing was learnt; empty if it does not.

        Args:
            bottoms: of the pass.
        """
        return ""


class SourceLayer(Layer):
    """A layer without bottoms that reads or makes data; one forward is one batch.

    Attributes:
        identity: tells its records from others, for processes that share them; empty if unknown.
        boxes_top: the top whose rows begin with an image's number; None: there is none.
    """

    can_repeat = False
    identity: bytes = b""
    boxes_top: int | None = None

    def seek(self, batch: int) -> None:
        """Go on as if `batch` batches had been read since the beginning.

        A layer that cannot do so warns that its data start again.
        """
        raise NotImplementedError

    def start(self) -> None:
        """Start what a device's driver should not be loaded before, such as worker processes."""

    def read_ahead(self, batches: int) -> None:
        """Prepare for `batches` forwards at a time; a hint that changes no number."""


LayerBuilder: TypeAlias = Callable[[LayerSpec], Layer]


@dataclass(frozen=True, kw_only=True)
class LayerType:
    """One registered type.

    Args:
        name: the prototxt's `type`.
        build: makes the module; the only part that reads the message.
        bottoms: the numbers of bottoms it accepts.
        tops: the numbers of tops it accepts.
        is_loss: top 0 has loss weight 1 unless the prototxt says otherwise, and missing tops are
            added.
        not_forced: bottoms that `force_backward` does not reach, such as labels.
        has_backward: False makes a requested backward pass an error.
        when: for a variant, whether a message means this one.
        told_by: for a variant, what in the message tells it from the original's type.
    """

    name: str
    build: LayerBuilder
    bottoms: range
    tops: range
    is_loss: bool = False
    not_forced: frozenset[int] = frozenset()
    has_backward: bool = True
    when: Callable[[LayerParameter], bool] | None = None
    told_by: str = ""


_TYPES: dict[str, LayerType] = {}
_VARIANTS: dict[str, list[LayerType]] = {}


def register_layer(
    name: str,
    *,
    bottoms: int | range = 1,
    tops: int | range = 1,
    is_loss: bool = False,
    not_forced: Sequence[int] = (),
    has_backward: bool = True,
    when: Callable[[LayerParameter], bool] | None = None,
    told_by: str = "",
) -> Callable[[LayerBuilder], LayerBuilder]:
    """Register the builder of one layer type, or with `when` of a variant; see `LayerType`.

    A variant is another fork's layer of the same name, which the message tells from the original's.

    Raises:
        ValueError: the name is taken, which is a programming error.
    """

    def register(build: LayerBuilder) -> LayerBuilder:
        if when is None and name in _TYPES:
            raise ValueError(f"layer type {name!r} is already registered")
        kind = LayerType(
            name=name,
            build=build,
            bottoms=_as_range(bottoms),
            tops=_as_range(tops),
            is_loss=is_loss,
            not_forced=frozenset(not_forced),
            has_backward=has_backward,
            when=when,
            told_by=told_by,
        )
        if when is None:
            _TYPES[name] = kind
        else:
            _VARIANTS.setdefault(name, []).append(kind)
        return build

    return register


def layer_types() -> tuple[str, ...]:
    """The registered type names in byte order, as `caffe.layer_type_list()` reports them."""
    return tuple(sorted(_TYPES))


def layer_type(name: str) -> LayerType:
    """Look one type up.

    Raises:
        UnknownLayerError: nothing is registered under this name.
    """
    try:
        return _TYPES[name]
    except KeyError:
        raise UnknownLayerError(name, _TYPES) from None


def variants(name: str) -> tuple[LayerType, ...]:
    """The variants of a type, in the order of their registration."""
    return tuple(_VARIANTS.get(name, ()))


def layer_type_of(param: LayerParameter) -> LayerType:
    """What a layer's message means: its type, or the variant that the message tells.

    Raises:
        UnknownLayerError: nothing is registered under its type.
        LayerParamError: the message tells two variants at once.
    """
    kind = layer_type(param.type)
    found = [each for each in variants(param.type) if each.when is not None and each.when(param)]
    if len(found) > 1:
        both = " and ".join(each.told_by for each in found)
        raise LayerParamError(f"{both} belong to different layers of this name; give one of them")
    return found[0] if found else kind


def build_layer(spec: LayerSpec) -> Layer:
    """Build the module of one layer.

    Raises:
        UnknownLayerError: no such type.
        LayerError: the message or the shapes are refused; names the layer.
    """
    param = spec.param
    try:
        kind = layer_type_of(param)
        refuse_fixed_fields(param)
        _check_count("bottom", len(spec.bottoms), kind.bottoms)
        _check_count("top", len(param.top), kind.tops)
        return kind.build(spec)
    except LayerError as error:
        error.layer, error.layer_type = param.name, param.type
        raise


def _as_range(count: int | range) -> range:
    return range(count, count + 1) if isinstance(count, int) else count


def _check_count(what: str, count: int, allowed: range) -> None:
    if count in allowed:
        return
    if allowed.stop == MANY:
        wanted = f"at least {allowed.start}"
    else:
        wanted = " or ".join(map(str, allowed))
    plural = "" if wanted.split()[-1] == "1" else "s"
    raise ShapeError(f"takes {wanted} {what}{plural}, got {count}")
