"""Training in bfloat16: blobs, gradients and statistics stay float32."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.layers.conv_geometry import ConvGeometry
from caffe_ssd.layers.convolution import convolve
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


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("channels_last", [False, True])
def test_weights_that_meet_only_padding_have_no_gradient(size: int, channels_last: bool) -> None:
    """oneDNN leaves such gradients as they lay in memory; on CPUs with bfloat16 this failed."""
    rule = ConvGeometry(axis=1, kernel=(3, 3), stride=(2, 2), pad=(1, 1), dilation=(1, 1))
    torch.manual_seed(0)
    weight, x = torch.randn(64, 64, 3, 3), torch.randn(2, 64, size, size)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    for _ in range(5):
        gradients = []
        litter = torch.full((weight.numel(),), torch.nan, dtype=torch.bfloat16)
        del litter
        for is_half in (False, True):
            leaf = weight.clone().requires_grad_()
            with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
                y = convolve(x, leaf, None, geometry=rule, group=1)
            y.float().square().sum().backward()
            assert leaf.grad is not None
            gradients.append(leaf.grad)
        error = (gradients[0] - gradients[1]).abs().max()
        assert error < 0.05 * gradients[0].abs().max()
