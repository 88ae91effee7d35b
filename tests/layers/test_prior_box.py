"""PriorBox: shapes, reuse and image sizes."""

from __future__ import annotations

import pytest
import torch

from caffe_ssd.layers.prior_box import PriorBox


def prior_box(**settings):
    return PriorBox(sizes=((9, 9), (4, 12)), **settings)


def test_values_follow_the_shapes():
    layer = prior_box(variances=(0.1, 0.1, 0.2, 0.2))
    image = torch.zeros(2, 3, 32, 40)
    small, large = layer(torch.zeros(2, 8, 2, 3), image), layer(torch.zeros(2, 8, 4, 5), image)
    assert small.shape == (1, 2, 2 * 3 * 2 * 4)
    assert (large.shape,) == layer.top_shapes((2, 8, 4, 5), (2, 3, 32, 40))
    assert small[0, 1, :8].tolist() == pytest.approx([0.1, 0.1, 0.2, 0.2] * 2)
    # The first cell's centre: height and width are not interchanged.
    first = small.reshape(2, -1, 4)[0, 0]
    torch.testing.assert_close((first[0] + first[2]) / 2, torch.tensor(0.5 / 3))
    torch.testing.assert_close((first[1] + first[3]) / 2, torch.tensor(0.5 / 2))


def test_the_same_shapes_are_computed_once():
    layer, features, image = prior_box(), torch.zeros(2, 8, 2, 3), torch.zeros(2, 3, 32, 40)
    assert layer(features, image) is layer(features, image)


def test_half_precision_features_get_single_precision_priors():
    features = torch.zeros(1, 8, 2, 3, dtype=torch.float16)
    assert prior_box()(features, torch.zeros(1, 3, 32, 40)).dtype == torch.float32
