"""Priors: the vector of the spec, on an image that is not square."""

from __future__ import annotations

import torch

from caffe_ssd.boxes.priors import cell_sizes, expand_ratios, prior_boxes


def test_the_vector_of_the_spec():
    sizes = cell_sizes([9.6], [20.7], expand_ratios([2], flip=True))
    boxes = prior_boxes(
        sizes, map_size=(2, 2), image_size=(32, 40), step=(16, 20), offsets=[(0.5, 0.5)], clip=False
    )
    want = torch.tensor(
        [
            [0.1375, 0.109375, 0.3625, 0.390625],
            [0.0822949, 0.0403686, 0.4177051, 0.4596314],
            [0.0909010, 0.1505631, 0.4090990, 0.3494369],
            [0.1704505, 0.0511262, 0.3295495, 0.4488738],
        ]
    )
    assert boxes.shape == (16, 4)
    torch.testing.assert_close(boxes[:4], want, rtol=0, atol=1e-7)


def test_a_given_ratio_is_kept_once_but_a_flipped_one_always():
    assert expand_ratios([1, 2, 2], flip=True) == (1, 2, 0.5)
    assert expand_ratios([2, 0.5], flip=True) == (1, 2, 0.5)
    assert expand_ratios([0.5, 2], flip=False) == (1, 0.5, 2)
    third = 1 / 3
    assert len(expand_ratios([3, third - 1e-5], flip=True)) == 5


def test_sizes_are_cut_to_whole_pixels():
    assert cell_sizes([35.84], [76.8], (1.0,))[0] == (35, 35)


def test_several_sizes_keep_their_order():
    sizes = cell_sizes([4, 9], [9, 16], (1.0,))
    assert sizes == ((4, 4), (6, 6), (9, 9), (12, 12))
