"""The ground truth blob sorted by image."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.boxes.ground_truth import read_ground_truth
from caffe_ssd.errors import LayerError


def read(*rows, use_difficult=True):
    blob = torch.tensor(rows, dtype=torch.float32)[None, None]
    return read_ground_truth(blob, num_images=3, background_label_id=0, use_difficult=use_difficult)


ROWS = (
    (2, 5, 0, 0.1, 0.2, 0.3, 0.4, 0),
    (-1, 0, 0, 0, 0, 0, 0, 0),
    (0, 7, 0, 0.5, 0.2, 0.6, 0.4, 0),
    (2, 4, 1, 0.2, 0.2, 0.3, 0.4, 1),
    (3, 9, 0, 0, 0, 1, 1, 0),
)


def test_rows_are_sorted_by_image_and_padded():
    gts = read(*ROWS)
    assert gts.counts.tolist() == [1, 0, 2]
    assert gts.labels.tolist() == [[7, -1], [-1, -1], [5, 4]]
    torch.testing.assert_close(gts.boxes[2, 1], torch.tensor([0.2, 0.2, 0.3, 0.4]))
    assert not gts.boxes[1].any()


def test_difficult_rows_can_be_left_out():
    assert read(*ROWS, use_difficult=False).labels.tolist() == [[7], [-1], [5]]


def test_labels_of_matched_boxes():
    gts = read(*ROWS)
    match = torch.tensor([[0, -1], [-2, -1], [1, 0]])
    assert gts.labels_of(match, 0).tolist() == [[7, 0], [0, 0], [4, 5]]
    empty = read((-1,) * 8)
    assert empty.labels_of(match.clamp(max=-1), 3).tolist() == [[3, 3]] * 3


def test_the_background_is_refused_even_if_difficult():
    with pytest.raises(LayerError, match="background label 0 is in the ground truth"):
        read((0, 0, 0, 0, 0, 1, 1, 1), use_difficult=False)
