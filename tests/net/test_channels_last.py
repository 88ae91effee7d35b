"""The order in memory changes neither results, but for rounding, nor files."""

from __future__ import annotations

from pathlib import Path

import torch

from caffe_ssd.net.weights import copy_trained_file, save_binary
from tests.net.test_checkpoints import dense_net, inputs


def test_gradients_are_the_same_but_for_rounding() -> None:
    plain, last = dense_net(), dense_net()
    last.use_channels_last()
    for net in (plain, last):
        net(inputs()).loss.backward()
    for (name, ours), (_, theirs) in zip(plain.layer_blobs(), last.layer_blobs(), strict=True):
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(other, mine, rtol=1e-4, atol=1e-5, msg=name)
            if mine.grad is not None:
                torch.testing.assert_close(other.grad, mine.grad, rtol=1e-3, atol=1e-4, msg=name)


def test_files_hold_the_same_numbers(tmp_path: Path) -> None:
    plain, last = dense_net(), dense_net()
    last.use_channels_last()
    assert any(blob.stride()[1] == 1 for blob in last.parameters() if blob.dim() == 4)
    save_binary(plain, tmp_path / "plain.caffemodel")
    save_binary(last, tmp_path / "last.caffemodel")
    assert (tmp_path / "plain.caffemodel").read_bytes() == (
        tmp_path / "last.caffemodel"
    ).read_bytes()
    with torch.no_grad():
        for blob in last.parameters():
            blob.zero_()
    copy_trained_file(last, tmp_path / "plain.caffemodel")
    for mine, other in zip(plain.parameters(), last.parameters(), strict=True):
        assert torch.equal(mine, other)
