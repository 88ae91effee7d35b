"""Location codes: the vectors of the spec, and encode and decode as inverses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from caffe_ssd.boxes import coding
from caffe_ssd.boxes.coding import CodeType, check_priors, decode, encode
from caffe_ssd.errors import LayerError
from tests.boxes.naive import random_boxes

PRIOR = torch.tensor([0.2, 0.3, 0.6, 0.5])
VARIANCE = torch.tensor([0.1, 0.1, 0.2, 0.2])


def test_the_vectors_of_the_spec():
    code = torch.tensor([1, -2, 0.5, 1.5])
    box = torch.tensor([0.2189658, 0.2250142, 0.6610342, 0.4949859])
    torch.testing.assert_close(decode(code, PRIOR, VARIANCE, CodeType.CENTER_SIZE), box)
    gt = torch.tensor([0.25, 0.2, 0.5, 0.55])
    want = torch.tensor([-0.625, -1.25, -2.350018, 2.798079])
    torch.testing.assert_close(encode(gt, PRIOR, VARIANCE, CodeType.CENTER_SIZE), want)


@pytest.mark.parametrize("variances", [None, VARIANCE])
@pytest.mark.parametrize("code_type", list(CodeType))
def test_decode_undoes_encode(code_type, variances):
    priors, gts = random_boxes(9, seed=1) + 0.01, random_boxes(9, seed=2)
    gts[:, 2:] += 0.1
    code = encode(gts, priors, variances, code_type)
    torch.testing.assert_close(decode(code, priors, variances, code_type), gts)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("variances", [None, VARIANCE])
@pytest.mark.parametrize("code_type", list(CodeType))
def test_arrays_and_tensors_give_equal_bits(code_type, variances, order, monkeypatch):
    monkeypatch.setattr(coding, "_PART", 5)
    code, priors = torch.randn(9, 4), random_boxes(9, seed=1) + 0.01
    wanted = decode(code, priors, variances, code_type)
    arrays = [np.asarray(x.numpy(), order=order) for x in (code, priors)]
    given = code.clone()
    have = decode(*arrays, None if variances is None else variances.numpy(), code_type)
    assert have.tolist() == wanted.tolist()
    assert torch.equal(code, given)


def test_corner_size_divides_by_the_side_along_each_axis():
    gt = PRIOR + torch.tensor([0.4, 0.2, 0.4, 0.2])
    code = encode(gt, PRIOR, None, CodeType.CORNER_SIZE)
    torch.testing.assert_close(code, torch.ones(4))


def test_a_flat_prior_is_refused_where_its_size_matters():
    priors = torch.stack([PRIOR, torch.tensor([0.1, 0.4, 0.1, 0.9])])
    check_priors(priors, None, CodeType.CORNER)
    with pytest.raises(
        LayerError, match=r"prior 1 must have a width .*, got \(0.1, 0.4, 0.1, 0.9\)"
    ):
        check_priors(priors, None, CodeType.CENTER_SIZE)


def test_a_variance_of_zero_is_refused_by_its_number():
    variances = torch.tensor([[0.1, 0.1, 0.2, 0.2], [0.1, 0, 0.2, 0.2]])
    with pytest.raises(
        LayerError, match=r"prior 7 must have positive variances, got \(0.1, 0, 0.2, 0.2\)"
    ):
        check_priors(PRIOR.expand(2, 4), variances, CodeType.CORNER, numbers=torch.tensor([3, 7]))
