"""What loading weights has in common, whatever the file's form: find all faults, then copy.

Spec: caffe-net.md section 11.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from caffe_ssd.errors import WeightsError
from caffe_ssd.layers.blob import diff_of
from caffe_ssd.proto.blobs import FloatArray

logger = logging.getLogger(__name__)

PathLike: TypeAlias = str | os.PathLike[str]
RENAME_ADVICE = "Give a layer of the net another name to train it afresh."
OTHER_NET_ADVICE = "The weights belong to another net than the prototxt describes."
_MOST_SHOWN = 20

LayerBlobs: TypeAlias = Sequence[tuple[str, Sequence[nn.Parameter]]]


class HasBlobs(Protocol):
    """What a net must offer for weights to be copied in or out."""

    def layer_blobs(self) -> LayerBlobs:
        """Every layer's name and blobs in net order; layers without blobs included.

        Shared parameters appear in each layer that shares them.
        """


@dataclass(frozen=True, kw_only=True)
class CopyReport:
    """What a load did.

    Args:
        source: where the weights came from.
        copied: layers that received blobs, in file order.
        ignored: layers of the file that the net does not have, in file order.
        foreign: those of them that have blobs.
        learnable: layers of the net that have blobs, in net order.
        untouched: those with a blob that the file did not give.
        not_finite: layers that received numbers that are not finite, in file order.
    """

    source: str
    copied: tuple[str, ...]
    ignored: tuple[str, ...]
    foreign: tuple[str, ...]
    learnable: tuple[str, ...]
    untouched: tuple[str, ...]
    not_finite: tuple[str, ...]


Refuse: TypeAlias = Callable[[CopyReport], None]


def nothing_refused(report: CopyReport) -> None:
    """Have every copy made."""


@dataclass(frozen=True)
class BlobCopy:
    """One blob that fits its target; the values are read when they are wanted."""

    layer: str
    target: nn.Parameter
    data: Callable[[], FloatArray]
    diff: Callable[[], FloatArray] | None = None

    @cached_property
    def values(self) -> FloatArray:
        """The values, which are read once."""
        return self.data()

    def is_finite(self) -> bool:
        """Whether all values are numbers."""
        return bool(np.isfinite(self.values).all())


def apply_copies(
    net: HasBlobs,
    copies: Sequence[BlobCopy],
    ignored: Mapping[str, bool],
    source: str,
    refuse: Refuse = nothing_refused,
) -> CopyReport:
    """Copy what has been found to fit, in order: a later blob for the same target wins.

    Args:
        net: the net that the targets belong to.
        copies: what to copy.
        ignored: layers of the file that the net does not have, and whether they have blobs.
        source: where the values come from, for errors.
        refuse: looks at what would be done, and raises to have nothing done.
    """
    given = {identity(copy.target) for copy in copies}
    blobs_of = [(name, blobs) for name, blobs in net.layer_blobs() if blobs]
    report = CopyReport(
        source=source,
        copied=tuple(dict.fromkeys(copy.layer for copy in copies)),
        ignored=tuple(ignored),
        foreign=tuple(name for name, has_blobs in ignored.items() if has_blobs),
        learnable=tuple(name for name, _ in blobs_of),
        untouched=tuple(
            name for name, blobs in blobs_of if any(identity(blob) not in given for blob in blobs)
        ),
        not_finite=tuple(dict.fromkeys(copy.layer for copy in copies if not copy.is_finite())),
    )
    refuse(report)
    for copy in copies:
        _assign(copy.target, copy.values)
        if copy.diff is not None:
            _assign(diff_of(copy.target), copy.diff())
    return report


def note_ignored(name: str, ignored: dict[str, bool], *, has_blobs: bool) -> None:
    """Log and collect a layer of the file that the net does not have."""
    logger.info("Ignoring source layer %s", name)
    ignored[name] = has_blobs


def settle_faults(
    faults: Sequence[str], source: str, advice: str = "", *, skip_misfits: bool = False
) -> None:
    """Raise all faults as one error, a line each; the first one's words come first.

    Args:
        faults: what does not fit.
        source: where the weights come from.
        advice: what the user may do about it.
        skip_misfits: log the faults rather than raise them.

    Raises:
        WeightsError: there are faults that count.
    """
    if skip_misfits:
        for fault in faults:
            logger.warning("Skipped: %s", fault)
        return
    if not faults:
        return
    lines = [f"{faults[0]} (weights from {source})", *faults[1:_MOST_SHOWN]]
    if faults[_MOST_SHOWN:]:
        lines.append(f"{len(faults) - _MOST_SHOWN} more layers do not fit.")
    raise WeightsError("\n  ".join([*lines, *([advice] if advice else [])]))


def identity(blob: Tensor) -> int:
    """Equal for blobs that share their values, also where their shapes differ."""
    return blob.data_ptr() if blob.numel() > 0 else id(blob)


def to_numpy(blob: Tensor) -> FloatArray:
    """The values as float32 on the CPU, possibly a view."""
    array: FloatArray = blob.detach().to("cpu", torch.float32).contiguous().numpy()
    return array


def shape_text(shape: Sequence[int]) -> str:
    """A shape as Caffe logs it: `64 3 3 3 (1728)`."""
    return " ".join([*map(str, shape), f"({math.prod(shape)})"])


def shapes_text(shapes: Iterable[Sequence[int]]) -> str:
    """The shapes of a layer's blobs: `2 blobs: 64 3 3 3 (1728); 64 (64)`."""
    texts = [shape_text(shape) for shape in shapes]
    count = f"{len(texts)} {'blob' if len(texts) == 1 else 'blobs'}"
    return f"{count}: {'; '.join(texts)}" if texts else count


@torch.no_grad()
def _assign(target: Tensor, values: FloatArray) -> None:
    target.copy_(torch.from_numpy(values).reshape(target.shape))
