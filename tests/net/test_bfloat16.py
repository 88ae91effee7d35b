"""Training in bfloat16: blobs, gradients and statistics stay float32."""

from __future__ import annotations

import torch

from tests.net.test_checkpoints import dense_net, inputs


def test_losses_and_gradients_are_near_those_in_float32() -> None:
    plain, half = dense_net(2), dense_net(2)
    half.use_bfloat16()
    losses = [net(inputs()).loss for net in (plain, half)]
    for loss in losses:
        loss.backward()
    assert losses[0] != losses[1]
    torch.testing.assert_close(losses[1], losses[0], rtol=2e-2, atol=0)
    for mine, other in zip(plain.parameters(), half.parameters(), strict=True):
        assert other.dtype == torch.float32
        if mine.grad is not None and other.grad is not None:
            assert other.grad.dtype == torch.float32
            assert (mine.grad - other.grad).norm() < 0.1 * mine.grad.norm() + 1e-3


def test_checkpoints_repeat_it_exactly() -> None:
    plain, thrifty = dense_net(), dense_net()
    thrifty.use_checkpoints()
    for net in (plain, thrifty):
        net.use_bfloat16()
        net(inputs()).loss.backward()
    for mine, other in zip(plain.parameters(), thrifty.parameters(), strict=True):
        assert torch.equal(mine, other)
        assert mine.grad is None or torch.equal(mine.grad, other.grad)
