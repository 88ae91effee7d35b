"""What of the gradients leaves when, in a group of one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from caffe_ssd.errors import PeerError
from caffe_ssd.solver import reduction
from caffe_ssd.solver.reduction import Reduction


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The contents of what was sent, in order."""
    messages: list[list[float]] = []
    original = dist.all_reduce

    def note(tensor: Tensor, async_op: bool) -> dist.Work | None:
        assert async_op
        messages.append(tensor.tolist())
        return original(tensor, async_op=True)

    monkeypatch.setattr(reduction.dist, "all_reduce", note)
    return messages


def blobs(*sizes: int, dtype: torch.dtype = torch.float32) -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(size, dtype=dtype)) for size in sizes]


def test_the_last_blobs_leave_first_while_the_backward_pass_goes_on(
    sent: list[list[float]],
) -> None:
    a, b, c = blobs(2, 1, 3)
    means = Reduction([a, b, c], bucket_bytes=12)
    sent_before_a: list[int] = []
    hidden = a * 1
    hidden.register_hook(lambda _: sent_before_a.append(len(sent)))
    loss = (hidden.sum() * b.sum() * 2) * c.sum()
    means.begin()
    loss.backward()
    assert sent_before_a == [1]
    assert sent == [[4, 4, 4], [12, 6, 6]]  # c, then b and a
    means.finish()
    assert [x.grad.tolist() for x in (a, b, c) if x.grad is not None] == [[6, 6], [12], [4, 4, 4]]


def test_only_the_last_pass_sends(sent: list[list[float]]) -> None:
    (a,) = blobs(2)
    means = Reduction([a])
    (3 * a).sum().backward()
    assert not sent
    means.begin()
    a.sum().backward()
    means.finish()
    assert sent == [[4, 4]]
    a.sum().backward()  # somebody else's pass between iterations
    assert len(sent) == 1


def test_buckets_keep_their_order(sent: list[list[float]]) -> None:
    """The last blob's gradient comes last here, and everything waits for it."""
    a, b = blobs(1, 2)
    means = Reduction([a, b], bucket_bytes=4)
    means.begin()
    a.sum().backward()
    assert not sent
    (2 * b).sum().backward()
    assert sent == [[2, 2], [1]]
    means.finish()


def test_what_no_pass_reaches_is_sent_at_the_end(sent: list[list[float]]) -> None:
    a, b = blobs(1, 2)
    means = Reduction([a, b], bucket_bytes=4)
    means.begin()
    a.sum().backward()
    b.grad = torch.zeros(2)  # as the solver does
    means.finish()
    assert sent == [[0, 0], [1]]


def test_late_gradients_wait_for_the_end(sent: list[list[float]]) -> None:
    a, b = blobs(1, 2)
    means = Reduction([a, b], late={id(b)}, bucket_bytes=4)
    means.begin()
    (a.sum() + b.sum()).backward()
    assert sent == [[1]]
    assert b.grad is not None
    b.grad += 1
    means.finish()
    assert sent == [[1], [2, 2]]


def test_every_kind_of_number_travels_by_itself(sent: list[list[float]]) -> None:
    a, b = *blobs(1), *blobs(1, dtype=torch.float64)
    means = Reduction([a, b])
    means.begin()
    (a.sum() + b.sum()).backward()
    means.finish()
    assert sent == [[1], [1]]


def test_a_gradient_that_changes_after_it_was_sent_is_our_fault() -> None:
    (a,) = blobs(1)
    means = Reduction([a])
    means.begin()
    a.sum().backward()
    assert a.grad is not None
    a.grad *= 2
    with pytest.raises(AssertionError, match="has changed since it was sent"):
        means.finish()


def test_a_lost_process_is_told_of_in_the_middle_of_a_backward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def lost(tensor: Tensor, async_op: bool) -> None:
        raise RuntimeError("Connection closed by peer\nand more")

    monkeypatch.setattr(reduction.dist, "all_reduce", lost)
    (a,) = blobs(1)
    Reduction([a]).begin()
    with pytest.raises(
        PeerError, match=r"rank 0: another process .* \(Connection closed by peer\)"
    ):
        a.sum().backward()
