"""Areas and overlaps against definitions spelt out one box at a time."""

from __future__ import annotations

import torch

from caffe_ssd.boxes.iou import (
    box_area,
    clip_boxes,
    coverage,
    crosses_boundary,
    intersect,
    pairwise_iou,
    pairwise_iou_px,
)
from tests.boxes.naive import naive_iou, random_boxes


def test_pairwise_iou_matches_a_naive_loop():
    a, b = random_boxes(7, seed=1), random_boxes(11, seed=2)
    b[3] = a[2]
    b[4] = torch.tensor([0.5, 0.5, 0.2, 0.9])  # inside out
    want = torch.tensor([[naive_iou(p, q) for q in b] for p in a])
    torch.testing.assert_close(pairwise_iou(a, b), want)


def test_pairwise_iou_broadcasts_leading_axes():
    a, b = random_boxes(3, 5, seed=1), random_boxes(4, seed=2)
    have = pairwise_iou(a, b)
    assert have.shape == (3, 5, 4)
    torch.testing.assert_close(have[2], pairwise_iou(a[2], b))


def test_boxes_without_area_overlap_nothing():
    point = torch.tensor([[0.5, 0.5, 0.5, 0.5]])
    assert pairwise_iou(point, point).item() == 0


def test_an_inside_out_box_has_no_area():
    assert box_area(torch.tensor([0.5, 0.1, 0.4, 0.9])).item() == 0


def test_area_in_pixels_counts_the_last_one():
    assert box_area(torch.tensor([10.0, 20, 19, 22]), pixel=True).item() == 30


def test_boxes_that_do_not_meet_overlap_by_a_pixel_in_pixel_mode():
    a, b = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([[20.0, 20, 29, 29]])
    area = torch.tensor([100.0])
    assert pairwise_iou_px(a, b, area, area).item() == torch.tensor(1 / 199).item()
    assert pairwise_iou_px(a, a, area, area).item() == 1


def test_intersect_is_zero_where_boxes_are_apart():
    a = torch.tensor([[0.1, 0.1, 0.5, 0.6], [0.1, 0.1, 0.2, 0.2]])
    b = torch.tensor([[0.3, 0.0, 0.9, 0.4], [0.3, 0.1, 0.4, 0.2]])
    want = torch.tensor([[0.3, 0.1, 0.5, 0.4], [0, 0, 0, 0]])
    torch.testing.assert_close(intersect(a, b), want)


def test_coverage_is_the_fraction_of_the_first():
    a, b = torch.tensor([0.0, 0, 0.4, 0.5]), torch.tensor([0.2, 0.0, 1, 1])
    torch.testing.assert_close(coverage(a, b), torch.tensor(0.5))
    assert coverage(torch.tensor([0.3, 0.3, 0.3, 0.3]), b).item() == 0


def test_clip_to_an_image_in_pixels():
    boxes = torch.tensor([[-3.0, -4, 600, 200], [20, 30, 40, 900]])
    want = torch.tensor([[0.0, 0, 500, 200], [20, 30, 40, 300]])
    torch.testing.assert_close(clip_boxes(boxes, 300, 500), want)


def test_touching_the_border_is_not_crossing_it():
    boxes = torch.tensor([[0, 0, 1, 1], [0, 0, 1, 1.01], [-0.01, 0, 1, 1]])
    assert crosses_boundary(boxes).tolist() == [False, True, True]
