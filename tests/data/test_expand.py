"""Expansion: where the canvas and the boxes lie."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_ssd.data.box_projection import project
from caffe_ssd.data.draws import Draws
from caffe_ssd.data.expand import ExpandPolicy, Expansion
from caffe_ssd.data.pictures import Decoded
from caffe_ssd.errors import LayerParamError
from caffe_ssd.proto.caffe_pb2 import ExpansionParameter
from tests.data.databases import picture
from tests.data.given import Given


def test_a_box_stays_on_its_pixels():
    image = picture(20, 30)
    expansion = Expansion(height=50, width=60, y_off=11, x_off=7)
    canvas = expansion.paste(Decoded(image), np.float32([104.4, 116.5, 123.5])).pixels()
    np.testing.assert_array_equal(canvas[11:31, 7:37], image)
    canvas[11:31, 7:37] = 0
    assert set(map(tuple, canvas.reshape(-1, 3).tolist())) == {(0, 0, 0), (104, 116, 124)}
    box = expansion.crop_box(Decoded(image))
    kept, (whole, part) = project(box, np.float32([[0, 0, 1, 1], [0.1, 0.5, 0.4, 0.75]]))
    assert kept.all()
    np.testing.assert_allclose(whole * [60, 50, 60, 50], [7, 11, 37, 31], atol=1e-4)
    np.testing.assert_allclose(part * [60, 50, 60, 50], [10, 21, 19, 26], atol=1e-4)


def test_policy():
    policy = ExpandPolicy.from_param(ExpansionParameter(prob=0.5, max_expand_ratio=4))
    drawn = [policy.draw(Draws(1, n), height=40, width=30) for n in range(2000)]
    expansions = [e for e in drawn if e is not None]
    assert abs(len(expansions) - 1000) < 4 * np.sqrt(500)
    ratios = np.array([e.height / 40 for e in expansions])
    assert abs(ratios.mean() - 2.5) < 4 * 3 / np.sqrt(12 * len(ratios)) + 1 / 40
    for e in expansions:
        assert abs(e.height / 40 - e.width / 30) < 1 / 30
        assert 0 <= e.y_off <= e.height - 40
        assert 0 <= e.x_off <= e.width - 30


def test_the_expansion_of_given_draws():
    """The ratio is 1.9: 70.3 rows and 100.7 columns; 19.8 of 33 rows and 46.5 of 47 columns off."""
    policy = ExpandPolicy.from_param(ExpansionParameter(prob=0.5, max_expand_ratio=4))
    drawn = policy.draw(Given(0.49, 0.3, 0.6, 0.99), height=37, width=53)
    assert drawn == Expansion(height=70, width=100, y_off=19, x_off=46)
    assert policy.draw(Given(0.51), height=37, width=53) is None


def test_a_ratio_next_to_one_never_expands():
    policy = ExpandPolicy.from_param(ExpansionParameter(max_expand_ratio=1.005))
    assert all(policy.draw(Draws(1, n), height=40, width=30) is None for n in range(20))


def test_without_prob_it_always_expands():
    policy = ExpandPolicy.from_param(ExpansionParameter(max_expand_ratio=2))
    assert all(policy.draw(Draws(1, n), height=40, width=30) is not None for n in range(20))


def test_wrong_ratio():
    with pytest.raises(LayerParamError, match=r"max_expand_ratio must be > 1, got 1"):
        ExpandPolicy.from_param(ExpansionParameter())
