"""Refusals that need no device; what a device does is in tests/device/test_graphs.py."""

from __future__ import annotations

import pytest

from caffe_ssd.errors import NetError
from caffe_ssd.net.captured import CapturedPasses
from caffe_ssd.solver.solver import Solver
from tests.solver.nets import small_settings


def test_a_net_on_the_cpu() -> None:
    solver = Solver(small_settings())
    with pytest.raises(NetError, match="CUDA graphs need a CUDA device, and net 'small' is"):
        CapturedPasses(solver.net)
