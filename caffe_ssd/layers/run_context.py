"""What holds for every instruction of one pass through a net: where and how it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from caffe_ssd.errors import LayerError
from caffe_ssd.layers.host_work import HostStep, HostWork, Made, placed
from caffe_ssd.layers.running_sums import RunningSums

_AS_IT_IS: AbstractContextManager[None] = nullcontext()

# Numbers of a blob whose host copy is kept for those who ask; labels have fewer, images more.
_KEPT_ON_HOST = 1 << 16


class _Sent(NamedTuple):
    """A blob that went to the device: what it is there, its version then, and what it was here."""

    there: Tensor
    version: int
    here: Tensor


@dataclass(frozen=True, kw_only=True)
class Groups:
    """What stands for a pass of its own in a pass that stands for several; along axis 0 of blobs.

    Args:
        devices: of each group, in the order of the passes, the device whose data it has.
        num_devices: how many devices this process stands for. Losses and gradients are divided by
            it, as several devices average theirs.
    """

    devices: tuple[int, ...]
    num_devices: int = 1

    def __len__(self) -> int:
        return len(self.devices)

    def keeps_statistics(self, group: int) -> bool:
        """Whether running statistics count a group: those of device 0 are kept."""
        return self.devices[group] == 0


@dataclass(kw_only=True)
class RunContext:
    """See the module's docstring. Layers with `takes_context` are called with it.

    Args:
        device: where the layers' blobs lie.
        bfloat16: convolutions and matrix products calculate in bfloat16; blobs stay float32.
        channels_last: images have their channels innermost.
        batch_size: images in this pass: the first axis of the first top of a source. None until a
            source has run.
        groups: what the pass consists of if it stands for several; None: it is one pass.
        sums: puts off what layers add to running statistics until `settle`; None: nothing is put
            off.
        host_work: of a pass that is to be repeated without calling its layers; None: it is not.
        boxes_of: a pass's own rows of labels that a pass around it reads; None: all.
    """

    device: torch.device
    bfloat16: bool = False
    channels_last: bool = False
    batch_size: int | None = None
    groups: Groups | None = None
    sums: RunningSums | None = None
    host_work: HostWork | None = None
    boxes_of: Callable[[Tensor], Tensor] | None = None
    _sent: list[_Sent] = field(default_factory=list, repr=False)

    def of_one_group(self, boxes_of: Callable[[Tensor], Tensor] | None = None) -> RunContext:
        """The context of a group, which is one pass for who runs in it.

        Args:
            boxes_of: see the class.
        """
        size = self.batch_size
        if self.groups is None or size is None:
            return replace(self, groups=None, sums=None)
        size //= len(self.groups)
        return replace(self, groups=None, sums=None, batch_size=size, boxes_of=boxes_of)

    def putting_off(self) -> RunContext:
        """Itself; what layers add to running statistics waits from now on until `settle`.

        Only for passes in which nobody looks at these statistics on the way.
        """
        self.sums = RunningSums()
        return self

    def settle(self) -> None:
        """Do what was put off; from now on nothing is."""
        if self.sums is not None:
            self.sums.settle()
            self.sums = None

    def received(self, tops: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What a source made or a caller feeds, where and as the layers want it."""
        placed = tuple(self._placed(top) for top in tops)
        if self.batch_size is None and placed and placed[0].dim():
            self.batch_size = placed[0].shape[0]
        return placed

    def on_host(self, blob: Tensor) -> Tensor:
        """A blob's content on the host, for labels that decide what is to be computed.

        If a source of this pass sent it from there, as it is or through Splits, nobody waits for
        the device.

        Raises:
            LayerError: the pass is to be repeated without anybody asking.
        """
        if self.host_work is not None:
            raise LayerError("decides on the host what the device has to do")
        return self._fetched(blob)

    def _fetched(self, blob: Tensor) -> Tensor:
        source = self._source_of(blob)
        return blob.detach().cpu() if source is None else self.sent(source).reshape(blob.shape)

    def sent(self, source: int) -> Tensor:
        """On the host, a blob that went from there to the device; they are numbered in order."""
        return self._sent[source].here

    def from_host(self, blob: Tensor, make: Callable[[Tensor], Made]) -> Made:
        """What is made on the host of a blob, for use on the device; see host_work.py.

        In a pass that is part of another one, `make` is given this pass's rows of the blob.

        Args:
            blob: a label whose rows begin with an image's number.
            make: depends on what it is given and on nothing else that changes.

        Raises:
            LayerError: the pass is to be repeated by who does not know where the blob comes from.
        """
        boxes_of, work = self.boxes_of, self.host_work
        if work is not None and work.given is not None:
            return next(work.given)  # type: ignore[return-value]

        def whole(label: Tensor) -> Made:
            return make(label if boxes_of is None else boxes_of(label))

        if work is not None:
            source = self._source_of(blob)
            if source is None:
                raise LayerError("reads a label that is not a data layer's own, but made of it")
            work.steps.append(HostStep(source=source, make=whole))
        return placed(whole(self._fetched(blob)), self.device)

    def _source_of(self, blob: Tensor) -> int | None:
        """The number of the blob that was sent, if this one is it."""
        return next((i for i, sent in enumerate(self._sent) if _is_still(blob, sent)), None)

    def _placed(self, top: Tensor) -> Tensor:
        here, top = top, top.to(self.device, non_blocking=True)
        is_kept = self.host_work is not None or top.numel() <= _KEPT_ON_HOST
        if top.device != here.device and is_kept and not top.is_inference():
            self._sent.append(_Sent(top, top._version, here.detach()))
        if self.channels_last and top.dim() == 4:
            return top.contiguous(memory_format=torch.channels_last)
        return top

    def precision(self) -> AbstractContextManager[None]:
        """A block in which layers calculate as the net wants it."""
        if not self.bfloat16:
            return _AS_IT_IS
        return torch.autocast(self.device.type, torch.bfloat16)


def _is_still(blob: Tensor, sent: _Sent) -> bool:
    """Whether a blob is what was sent, all of it, and nobody has written to it since."""
    there = sent.there
    return (
        blob.data_ptr() == there.data_ptr()
        and blob.shape.numel() == there.shape.numel()
        and blob.dtype == there.dtype
        and blob.is_contiguous()
        and not blob.is_inference()
        and blob._version == sent.version
    )
