"""Mapping to pixels: the vectors of the spec."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.boxes.image_space import AppliedResize, ResizeMode, to_image_px

BOX = torch.tensor([[-0.1, 0.3, 0.3, 0.5]])


def resize(mode, **scales):
    return AppliedResize(mode=mode, height=300, width=300, **scales)


SCALED = resize(ResizeMode.FIT_SMALL_SIZE, height_scale=300, width_scale=300)
PADDED = resize(ResizeMode.FIT_LARGE_SIZE_AND_PAD)


@pytest.mark.parametrize(
    ("setting", "height", "width", "want"),
    [
        (None, 300, 500, [0, 90, 150, 150]),
        (resize(ResizeMode.WARP), 300, 500, [0, 90, 150, 150]),
        (resize(ResizeMode.FIT_SMALL_SIZE), 300, 500, [0, 90, 150, 150]),
        (SCALED, 300, 500, [0, 90, 90, 150]),
        (PADDED, 300, 500, [0, 50, 150, 150]),
        (PADDED, 500, 300, [0, 150, 50, 250]),
    ],
)
def test_vectors_of_the_spec(setting, height, width, want):
    have, _ = to_image_px(BOX, torch.tensor([height]), torch.tensor([width]), setting)
    torch.testing.assert_close(have, torch.tensor([want], dtype=torch.float32))


def test_every_box_has_an_image_of_its_own():
    boxes_px, area = to_image_px(
        BOX.repeat(2, 1), torch.tensor([300, 100]), torch.tensor([500, 10])
    )
    torch.testing.assert_close(boxes_px, torch.tensor([[0.0, 90, 150, 150], [0, 30, 3, 50]]))
    torch.testing.assert_close(area, torch.tensor([151.0 * 61, 4 * 21]))


def test_a_box_in_the_padding_counts_as_if_there_were_none():
    box = torch.tensor([[0.2, 0.0, 0.4, 0.1]])
    have, _ = to_image_px(box, torch.tensor([300]), torch.tensor([500]), PADDED)
    torch.testing.assert_close(have, torch.tensor([[100.0, 0, 200, 30]]))
