"""Blobs without a gradient are left out of an update only where that changes nothing."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from caffe_ssd.net.sharing import LearnableBlob
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.updater import Updater

CASES = list(itertools.product([0.0, 1.0], [0.0, 1.0], [False, True]))
RULES = ["SGD", "Nesterov", "AdaGrad", "RMSProp", "AdaDelta", "Adam"]


def updated(kind: str, *, zeros: bool, delta: float = 1e-3) -> list[np.ndarray]:
    """Blobs and histories after two updates, one blob per case, without a gradient or with 0."""
    momentum = 0.0 if kind in ("AdaGrad", "RMSProp") else 0.9
    param = SolverParameter(type=kind, momentum=momentum, delta=delta, weight_decay=0.1)
    blobs = [nn.Parameter(torch.arange(1.0, 4) + i) for i in range(len(CASES) + 1)]
    learnable = [
        LearnableBlob(blob=blob, lr_mult=lr, decay_mult=decay, layer=f"layer{i}", index=0)
        for i, (blob, (lr, decay, _)) in enumerate(zip(blobs, [*CASES, (1, 1, False)], strict=True))
    ]
    updater = Updater(param, learnable)
    rows = [[*(started for _, _, started in CASES), False]] * (
        len(updater.history) // len(learnable)
    )
    saved = [np.full(3, started, np.float32) for row in rows for started in row]
    updater.restore_history(saved, "memory")
    for step in range(2):
        for blob in blobs:
            blob.grad = torch.zeros_like(blob) if zeros else None
        blobs[-1].grad = torch.ones(3)  # one that learns
        updater.apply(learnable, 0.1, step)
    return [x.detach().numpy().copy() for x in (*blobs, *updater.history)]


@pytest.mark.parametrize("kind", RULES)
def test_no_gradient_is_a_gradient_of_0(kind: str) -> None:
    for have, want in zip(updated(kind, zeros=False), updated(kind, zeros=True), strict=True):
        np.testing.assert_array_equal(have, want)


@pytest.mark.parametrize("kind", ["AdaGrad", "AdaDelta"])
def test_without_delta_0_is_divided_by_0_as_in_the_reference(kind: str) -> None:
    have = updated(kind, zeros=False, delta=0)
    assert np.isnan(have[0]).all()
    for one, other in zip(have, updated(kind, zeros=True, delta=0), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_to_learn() -> None:
    Updater(SolverParameter(), []).apply([], 0.1, 0)
