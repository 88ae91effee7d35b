"""Training passes captured as CUDA graphs, simulated: the same numbers, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.device.test_simulated import guard, pytestmark, run

__all__ = ["guard", "pytestmark"]


def assert_equal(found: dict[str, Any], least: int = 1) -> None:
    """To the last bit, with so many graphs at least."""
    assert found["losses"][0] == found["losses"][1]
    assert found["equal"]
    assert found["graphs"] >= least


@pytest.mark.parametrize("ways", ["plain iter_size groups", "few dropout"])
def test_the_same_training(guard: Path, ways: str) -> None:
    for found in run(guard, "graph_ways", *ways.split()).values():
        assert_equal(found)


@pytest.mark.slow
@pytest.mark.parametrize("ways", ["checkpoint channels_last bf16", "debug_info adam"])
def test_the_same_training_in_other_ways(guard: Path, ways: str) -> None:
    for found in run(guard, "graph_ways", *ways.split()).values():
        assert_equal(found)


def test_batches_of_other_shapes_have_graphs_of_their_own(guard: Path) -> None:
    """Two sizes of a batch, and two lengths to which its boxes are padded."""
    assert_equal(run(guard, "graph_ways", "sizes")["sizes"], least=4)


def test_a_replay_does_not_wait(guard: Path) -> None:
    assert run(guard, "graph_waits") == {}


def test_resuming(guard: Path) -> None:
    assert_equal(run(guard, "graph_resumed"))


def test_what_cannot_be_captured_is_said(guard: Path) -> None:
    said = run(guard, "graph_errors")
    wrong = "a replayed CUDA graph gives other numbers than the pass it stands for: the loss is off"
    assert wrong in said["moody"]
    assert wrong in said["seasonal"]
    assert "layer 'between' (Honest) cannot be part of a CUDA graph" in said["honest"]
    assert "layer 'between' (Asking)" in said["asking"]
    assert "layer 'mbox_loss' (MultiBoxLoss)" in said["nms"]
    for name in ("asking", "slow backward", "nms"):
        assert "cannot be captured as a CUDA graph" in said[name]
    for name in ("moody", "seasonal", "honest", "asking", "slow backward", "nms"):
        assert said[name].startswith("NetError")
        assert said[name].endswith("leave -cuda_graph out")


def test_faults_of_the_numbers_are_found_as_ever(guard: Path) -> None:
    said = run(guard, "graph_faults")
    where = "layer 'mbox_loss' (MultiBoxLoss): "
    assert f"{where}ground truth labels must be from 0 to 5, got 6" in said["label"]
    assert f"{where}the background label 0 is in the ground truth" in said["background"]
    assert "layer 'Convolution1' (Convolution) is the first whose output" in said["nan"]
