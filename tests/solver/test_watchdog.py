"""Numbers that are no numbers end a training, and the report says where they began."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from caffe_ssd.errors import DivergedError
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.proto.text import parse_text
from caffe_ssd.solver.solver import Solver

NET = """
layer { name: "d" type: "DummyData" top: "x" top: "t" dummy_data_param {
  shape { dim: 4 dim: 3 dim: 6 dim: 5 } shape { dim: 4 dim: 2 }
  data_filler { type: "gaussian" std: 1 } data_filler { type: "gaussian" std: 1 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "c"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "c" top: "c" }
layer { name: "ip" type: "InnerProduct" bottom: "c" top: "i"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "i" bottom: "t" top: "l" }
"""


def make(text: str = NET, **settings: object) -> Solver:
    given = {"base_lr": 0.01, "lr_policy": "fixed", "random_seed": 1, "display": 0, **settings}
    param = SolverParameter(**given)  # type: ignore[arg-type]
    parse_text(text, param.net_param)
    return Solver(param)


def poison(solver: Solver, layer: str, value: float = float("nan")) -> None:
    index = solver.net.layer_names.index(layer)
    with torch.no_grad():
        solver.net.layers[index].blobs[0].view(-1)[0] = value


def test_a_rate_too_high_names_iteration_layer_and_cause() -> None:
    solver = make(base_lr=1e6)
    with pytest.raises(DivergedError) as caught:
        solver.step(40)
    text = str(caught.value)
    assert f"iteration {solver.iter}: the loss is" in text
    assert "is the first whose" in text
    assert "lower base_lr" in text
    assert "there is no snapshot yet" in text
    learnt = [entry.blob for entry in solver.net.learnable if entry.lr_mult]
    assert all(bool(blob.isfinite().all()) for blob in learnt)


@pytest.mark.parametrize("layer", ["conv", "ip"])
def test_weights_that_were_bad_before(layer: str) -> None:
    solver = make()
    solver.step(2)
    poison(solver, layer)
    with pytest.raises(DivergedError, match=rf"layer '{layer}' .* is the first whose output"):
        solver.step(1)


def test_data_that_are_not_finite() -> None:
    bad = NET.replace('data_filler { type: "gaussian" std: 1 } }', "data_filler { value: 1e39 } }")
    solver = make(bad.replace("1e39", "inf"))
    with pytest.raises(DivergedError, match=r"'d' \(DummyData\) .*the data themselves"):
        solver.step(1)


def test_a_gradient_alone() -> None:
    root = NET.replace(
        'layer { name: "loss"',
        'layer { name: "root" type: "Power" bottom: "i" top: "r" power_param { power: 0.5 } }'
        'layer { name: "loss"',
    ).replace('bottom: "i" bottom: "t"', 'bottom: "r" bottom: "t"')
    root = root.replace('num_output: 2 weight_filler { type: "xavier" }', "num_output: 2")
    with pytest.raises(DivergedError, match="a gradient is not finite; layer 'root'"):
        make(root).step(1)


def test_the_last_good_iterations_are_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    solver = make()
    solver.step(7)
    poison(solver, "ip")
    with pytest.raises(DivergedError):
        solver.step(1)
    told = [r.getMessage() for r in caplog.records if "was good" in r.getMessage()]
    assert [text.split(" was")[0] for text in told] == [f"iteration {i}" for i in range(2, 7)]
    assert "largest norm of a gradient" in told[0]


def test_statistics_and_gradients_stay_as_they_were() -> None:
    watched, plain = make(base_lr=0.0), make(base_lr=0.0)
    plain.watchdog.effect = "ignore"
    for solver in (watched, plain):
        solver.step(1)
        poison(solver, "ip")
    with pytest.raises(DivergedError):
        watched.step(1)
    plain.step(1)
    for mine, theirs in zip(watched.net.learnable, plain.net.learnable, strict=True):
        if mine.layer == "bn":
            assert torch.equal(mine.blob, theirs.blob)


def test_warn_goes_on_and_says_it_once(caplog: pytest.LogCaptureFixture) -> None:
    solver = make()
    solver.watchdog.effect = "warn"
    poison(solver, "ip")
    solver.step(3)
    assert solver.iter == 3
    assert sum("the loss is nan" in r.getMessage() for r in caplog.records) == 1


def test_the_newest_snapshot_is_named(tmp_path: Path) -> None:
    solver = make(snapshot=2, snapshot_prefix=str(tmp_path / "x"))
    solver.step(3)
    poison(solver, "conv")
    with pytest.raises(DivergedError, match=r"newest good snapshot is .*x_iter_2\.solverstate"):
        solver.step(1)


def test_a_loss_that_explodes_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    solver = make(base_lr=0.0)
    solver.step(1)
    index = solver.net.layer_names.index("ip")
    with torch.no_grad():
        solver.net.layers[index].blobs[0].mul_(1000)
    solver.step(2)
    told = [r.getMessage() for r in caplog.records if "times the first one" in r.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("iteration 1: the loss is ")


def test_training_is_not_changed() -> None:
    watched, plain = make(base_lr=0.1, momentum=0.9), make(base_lr=0.1, momentum=0.9)
    plain.watchdog.effect = "ignore"
    for solver in (watched, plain):
        solver.step(5)
    for mine, theirs in zip(watched.net.learnable, plain.net.learnable, strict=True):
        assert torch.equal(mine.blob, theirs.blob)


def test_large_is_not_infinite() -> None:
    solver = make()
    solver.step(1)
    for entry in solver.net.learnable:
        if entry.blob.grad is not None:
            entry.blob.grad.fill_(1e30)  # whose square is infinite
    solver.watchdog.look(1, torch.ones(()), solver.watchdog._last)
    solver.net.learnable[0].blob.grad[0] = float("inf")  # type: ignore[index]
    with pytest.raises(DivergedError):
        solver.watchdog.look(2, torch.ones(()), solver.watchdog._last)
