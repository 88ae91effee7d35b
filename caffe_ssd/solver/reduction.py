"""Gradients averaged over all processes while the backward pass goes on.

The blobs are dealt out to buckets, the net's last ones first, as backward passes reach them in that
order. When all gradients of a bucket are there, they are sent as one tensor, and the backward pass
goes on meanwhile. Only the last pass of an iteration sends: the ones before add up.

Buckets are the same in every iteration and on every process, and leave in the same order, whenever
their gradients are there; so the processes always speak of the same, and sums are reproducible.
What no backward pass has reached (a part of the net without a loss) is sent at the end.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from caffe_ssd.layers.peers import answering

# Large enough that messages cost little beside what they carry, small enough that the first leaves
# early.
BUCKET_BYTES = 8 * 2**20


@dataclass(eq=False)
class _Bucket:
    """Blobs whose gradients travel together.

    Args:
        blobs: in the order in which they travel.
        missing: ids of those whose gradients are not there yet.
        flat: what was sent, and then the sum.
        versions: of the gradients when they were sent.
        work: the transfer.
    """

    blobs: list[Tensor] = field(default_factory=list)
    missing: set[int] = field(default_factory=set)
    flat: Tensor | None = None
    versions: list[int] = field(default_factory=list)
    work: dist.Work | None = None

    def gradients(self) -> list[Tensor]:
        """The gradients, which must be there."""
        return [blob.grad for blob in self.blobs if blob.grad is not None]

    def send(self) -> None:
        """Begin to add up over all processes."""
        gradients = self.gradients()
        self.versions = [gradient._version for gradient in gradients]
        self.flat = flattened(gradients)
        with answering():
            self.work = dist.all_reduce(self.flat, async_op=True)

    def receive(self) -> None:
        """Wait for the sum and put the mean into the gradients."""
        assert self.work is not None
        assert self.flat is not None
        with answering():
            self.work.wait()
        gradients = self.gradients()
        if self.versions != [gradient._version for gradient in gradients]:
            raise AssertionError("a gradient has changed since it was sent to the other processes")
        self.flat /= dist.get_world_size()
        unflatten(self.flat, gradients)
        self.flat = self.work = None


class Reduction:
    """Averages the gradients of some blobs over all processes, once per iteration.

    Args:
        blobs: whose gradients, in the net's order; the same ones on every process.
        late: ids of those whose gradients are complete only when the backward pass has ended, such
            as gradients that several blobs share.
        bucket_bytes: gradients travel together until they are so many.
    """

    def __init__(
        self,
        blobs: Sequence[Tensor],
        *,
        late: Collection[int] = (),
        bucket_bytes: int = BUCKET_BYTES,
    ) -> None:
        early = [blob for blob in reversed(blobs) if id(blob) not in late]
        last = [blob for blob in reversed(blobs) if id(blob) in late]
        self._buckets = [*_dealt(early, bucket_bytes), *_dealt(last, bucket_bytes)]
        self._of = {id(blob): bucket for bucket in self._buckets for blob in bucket.blobs}
        self._sent = 0
        self._is_last_pass = False
        for blob in early:
            blob.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]

    def begin(self) -> None:
        """The next backward pass completes the gradients: send them as they come."""
        for bucket in self._buckets:
            bucket.missing = {id(blob) for blob in bucket.blobs}
        self._sent = 0
        self._is_last_pass = True

    def finish(self) -> None:
        """Send what has not left yet, and wait for everything; then the gradients are the means.

        Raises:
            PeerError: another process is gone or does not answer.
        """
        if not self._is_last_pass:
            self.begin()
        self._is_last_pass = False
        for bucket in self._buckets[self._sent :]:
            bucket.send()
        for bucket in self._buckets:
            bucket.receive()

    def _arrived(self, blob: Tensor) -> None:
        if not self._is_last_pass:
            return
        self._of[id(blob)].missing.discard(id(blob))
        while self._sent < len(self._buckets) and not self._buckets[self._sent].missing:
            self._buckets[self._sent].send()
            self._sent += 1


def _dealt(blobs: Sequence[Tensor], bucket_bytes: int) -> list[_Bucket]:
    """Neighbours together until they are `bucket_bytes`, each kind of number by itself."""
    buckets: list[_Bucket] = []
    room = 0
    for blob in blobs:
        if room <= 0 or buckets[-1].blobs[0].dtype != blob.dtype:
            buckets.append(_Bucket())
            room = bucket_bytes
        buckets[-1].blobs.append(blob)
        room -= blob.numel() * blob.element_size()
    return buckets


def broadcast(tensors: Sequence[Tensor]) -> None:
    """Give every process the values of process 0, in place."""
    if not tensors:
        return
    flat = flattened(tensors)
    with answering():
        dist.broadcast(flat, 0)
    unflatten(flat, tensors)


def flattened(tensors: Sequence[Tensor]) -> Tensor:
    """All values in one tensor: one transfer is much faster than hundreds."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unflatten(flat: Tensor, tensors: Sequence[Tensor]) -> None:
    """Put the values back, in place."""
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    views = [part.view(t.shape) for part, t in zip(parts, tensors, strict=True)]
    torch._foreach_copy_(list(tensors), views)
