"""`debug_info`: which lines appear when, that their numbers are right, and that training is not."""

from __future__ import annotations

import logging
import re

import pytest
import torch

from caffe_ssd.errors import LayerError
from caffe_ssd.net import build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, SolverParameter
from caffe_ssd.proto.text import parse_text
from caffe_ssd.solver import debug_info
from caffe_ssd.solver.solver import Solver

# In place layers, a Split, two layers that share a blob, a frozen blob, BatchNorm, two losses.
NET = """
name: "watched"
layer { name: "data" type: "DummyData" top: "x" top: "label" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 5 dim: 2 } shape { dim: 4 }
  data_filler { type: "xavier" } data_filler { type: "constant" value: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  param { lr_mult: 1 } param { lr_mult: 0 }
  convolution_param { num_output: 6 kernel_size: 2 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "a" type: "InnerProduct" bottom: "conv" top: "a" param { name: "w" }
  inner_product_param { num_output: 7 bias_term: false weight_filler { type: "xavier" } } }
layer { name: "b" type: "InnerProduct" bottom: "conv" top: "b" param { name: "w" }
  inner_product_param { num_output: 7 bias_term: false } }
layer { name: "sum" type: "Eltwise" bottom: "a" bottom: "b" top: "sum" }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "sum" bottom: "label" top: "loss" }
"""
EXPECTED = """\
[Forward] Layer data, top blob x data
[Forward] Layer data, top blob label data
[Forward] Layer conv, top blob conv data
[Forward] Layer conv, param blob 0 data
[Forward] Layer conv, param blob 1 data
[Forward] Layer bn, top blob conv data
[Forward] Layer bn, param blob 0 data
[Forward] Layer bn, param blob 1 data
[Forward] Layer bn, param blob 2 data
[Forward] Layer relu, top blob conv data
[Forward] Layer conv_relu_0_split, top blob conv_relu_0_split_0 data
[Forward] Layer conv_relu_0_split, top blob conv_relu_0_split_1 data
[Forward] Layer a, top blob a data
[Forward] Layer a, param blob w data
[Forward] Layer b, top blob b data
[Forward] Layer b, param blob w data
[Forward] Layer sum, top blob sum data
[Forward] Layer loss, top blob loss data
[Backward] Layer loss, bottom blob sum diff
[Backward] Layer sum, bottom blob a diff
[Backward] Layer sum, bottom blob b diff
[Backward] Layer b, bottom blob conv_relu_0_split_1 diff
[Backward] Layer b, param blob 0 diff
[Backward] Layer a, bottom blob conv_relu_0_split_0 diff
[Backward] Layer a, param blob 0 diff
[Backward] Layer conv_relu_0_split, bottom blob conv diff
[Backward] Layer relu, bottom blob conv diff
[Backward] Layer bn, bottom blob conv diff
[Backward] Layer bn, param blob 0 diff
[Backward] Layer bn, param blob 1 diff
[Backward] Layer bn, param blob 2 diff
[Backward] Layer conv, param blob 0 diff
[Backward] All net params (data, diff)"""


def make_solver(**fields: object) -> Solver:
    param = SolverParameter(base_lr=0.1, lr_policy="fixed", random_seed=5, **fields)  # type: ignore
    parse_text(NET, param.net_param)
    return Solver(param)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    found = [record.getMessage() for record in caplog.records]
    assert all(line.startswith("    [") for line in found if "ward]" in line)
    return [line.strip() for line in found if "ward]" in line]


def test_lines_of_displayed_iterations_only(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    make_solver(display=2, debug_info=True).step(3)
    expected = EXPECTED.splitlines()
    found = lines(caplog)
    assert [re.sub(r": [^:;]*$|: L1 norm.*", "", line) for line in found] == expected * 2
    number = r"[-\d.e+]+"
    pattern = rf": L1 norm = \({number}, {number}\); L2 norm = \({number}, {number}\)$"
    assert re.search(pattern, found[-1])


@pytest.mark.parametrize(("display", "wanted"), [(0, True), (1, False)])
def test_nothing_without_display_or_debug_info(
    display: int, wanted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make_solver(display=display, debug_info=wanted).step(2)
    assert not lines(caplog)


def test_training_is_the_same() -> None:
    plain = make_solver(display=1, iter_size=2, max_iter=3)
    watched = make_solver(display=1, iter_size=2, max_iter=3, debug_info=True)
    for solver in (plain, watched):
        solver.step(3)
    for mine, theirs in zip(plain.net.learnable, watched.net.learnable, strict=True):
        torch.testing.assert_close(mine.blob, theirs.blob)


def test_numbers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    solver = make_solver()
    net = solver.net
    net.debug_info = True
    result = debug_info.forward_backward(net)
    found = dict(line.rsplit(": ", 1) for line in lines(caplog)[:-1])

    def mean(tensor: torch.Tensor) -> float:
        return tensor.abs().mean().item()

    conv, shared = net.layers[1].blobs[0], net.learnable[5].blob
    assert shared is net.layers[5].blobs[0] is net.layers[6].blobs[0]
    values = {
        "[Forward] Layer loss, top blob loss data": result.loss,
        "[Forward] Layer conv, param blob 0 data": conv,
        "[Forward] Layer b, param blob w data": shared,
        "[Backward] Layer conv, param blob 0 diff": conv.grad,
        "[Backward] Layer a, param blob 0 diff": shared.grad,
        "[Backward] Layer b, param blob 0 diff": shared.grad / 2,  # the first of two equal parts
    }
    for name, tensor in values.items():
        assert float(found[name]) == pytest.approx(mean(tensor.detach()), rel=1e-4), name
    assert float(found["[Backward] Layer bn, param blob 0 diff"]) == 0


def test_a_net_s_own_setting_counts_in_tests(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    param = parse_text(NET + "debug_info: true", NetParameter())
    net = build_net(param, NetState(phase=1))  # type: ignore[arg-type]
    result = debug_info.forward(net)
    assert not result.loss.requires_grad
    found = [re.sub(r": [^:;]*$", "", line) for line in lines(caplog)]
    assert found == [line for line in EXPECTED.splitlines() if "Forward" in line]


def test_an_error_still_shows_how_far_the_pass_came(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    net = make_solver().net
    net.debug_info = True
    net.layers[2].forward = None  # type: ignore[assignment]
    with pytest.raises(LayerError, match="layer 'bn'"):
        debug_info.forward(net)
    assert lines(caplog)[-1].startswith("[Forward] Layer conv, param blob 1 data: ")
