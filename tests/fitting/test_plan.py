"""What `caffe fit` chooses, and why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_ssd.errors import UsageError
from caffe_ssd.fitting.machine import Machine
from caffe_ssd.fitting.nets import MODELS, MOST_SNAPSHOTS, aspect_ratios_of, write_nets
from caffe_ssd.fitting.plan import CLOSING_S, DataFacts, Plan, Wishes, make_plan, with_length
from caffe_ssd.fitting.priors import MATCHED, best_overlaps, fitting_ratios
from caffe_ssd.fitting.run_folder import run_folder
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.net import build_net
from caffe_ssd.net.state import without_result_files
from caffe_ssd.proto.caffe_pb2 import NetState, Phase
from caffe_ssd.proto.text import read_net, read_solver

SMALL_OBJECTS = np.tile([[0.06, 0.07], [0.15, 0.15]], (50, 1))
DATA = DataFacts(
    num_train=80,
    num_test=20,
    classes=("a", "b"),
    objects=SMALL_OBJECTS,
    labels=np.tile([0, 1], 50),
)
CPU = Machine(torch.device("cpu"), 2, has_bfloat16=False)


def plan_for(wishes: Wishes, machine: Machine = CPU, *, iteration_s: float = 1.0) -> Plan:
    plan = make_plan(DATA, machine, wishes)
    left_s = 0 if wishes.time_s is None else wishes.time_s - 30
    return with_length(plan, DATA, wishes, iteration_s=iteration_s, picture_s=0.05, left_s=left_s)


def test_every_choice_has_its_reason() -> None:
    plan = plan_for(Wishes())
    expected = {"net", "input", "priors", "batch", "rate", "length", "tests", "statistics"}
    assert expected <= set(plan.reasons)
    assert all(reason for reason in plan.reasons.values())


def test_what_is_asked_for_is_taken() -> None:
    wishes = Wishes(model="dsod-lite", batch_size=4, base_lr=0.5, iterations=123, seed=9)
    plan = plan_for(wishes)
    taken = (plan.model, plan.batch_size, plan.base_lr, plan.iterations, plan.seed)
    assert taken == ("dsod-lite", 4, 0.5, 123, 9)


@pytest.mark.parametrize("minutes", [5, 30, 120])
def test_training_tests_and_closing_fit_the_time(minutes: int) -> None:
    plan = plan_for(Wishes(time_s=60.0 * minutes), iteration_s=0.5)
    tests = plan.iterations // plan.test_interval
    needed_s = 30 + plan.iterations * 0.5 + tests * 20 * 0.05 + CLOSING_S
    assert 0.93 * 60 * minutes <= needed_s <= 60 * minutes


def test_a_time_that_is_too_short_is_refused_with_what_is_needed() -> None:
    with pytest.raises(UsageError, match=r"too short.* are needed"):
        plan_for(Wishes(time_s=100), iteration_s=5)


def test_the_first_score_comes_within_two_minutes() -> None:
    plan = plan_for(Wishes(time_s=3600), iteration_s=1.2)
    assert plan.test_interval * 1.2 < 120


def test_a_short_training_forgets_statistics_quickly_and_a_long_one_does_not() -> None:
    assert plan_for(Wishes(iterations=1000)).statistics_kept == 0.99
    assert plan_for(Wishes(iterations=50000)).statistics_kept == 0.999


def test_bfloat16_only_where_it_is_fast() -> None:
    fast = Machine(torch.device("cpu"), 2, has_bfloat16=True)
    assert "bf16" not in plan_for(Wishes()).fast
    assert "bf16" in plan_for(Wishes(), fast).fast


def test_a_plan_survives_its_file() -> None:
    plan = plan_for(Wishes())
    assert Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("share", [0.08, 0.15, 0.3, 0.7])
def test_priors_follow_the_objects(model: str, share: float) -> None:
    """Objects around one size, of any shape up to 2:1, have a prior that may learn them."""
    rng = np.random.default_rng(0)
    sides = share * rng.uniform(0.8, 1.2, (200, 1)) * rng.uniform(0.75, 1.3, (200, 2))
    ratios = fitting_ratios(sides, np.zeros(200, np.int64), aspect_ratios_of(model), 300)
    assert (best_overlaps(sides, ratios, aspect_ratios_of(model), 300) >= MATCHED).mean() > 0.95


@pytest.mark.parametrize(("share", "size"), [(0.3, 200), (0.07, 300), (0.01, 512)])
def test_the_input_is_as_large_as_the_small_objects_need(share: float, size: int) -> None:
    few = np.arange(100) % 20 == 0  # a class of small ones among many others
    objects = np.tile(np.where(few, share, 0.5)[:, None], 2)
    data = replace(DATA, objects=objects, labels=1 - few)
    assert make_plan(data, CPU, Wishes()).image_size == size
    assert make_plan(data, CPU, Wishes(model="ssd-vgg")).image_size == 300


@pytest.mark.parametrize("iterations", [500, 3039, 60000])
def test_snapshots_are_few_and_fall_on_tests(iterations: int, tmp_path: Path) -> None:
    plan = plan_for(Wishes(iterations=iterations))
    run = run_folder("pictures", tmp_path / "run")
    run.data.mkdir(parents=True)
    write_nets(plan, run, ("a",), 20, cuda=False)
    solver = read_solver(run.prototxt("solver"))
    assert solver.test_interval == plan.test_interval
    assert solver.snapshot % solver.test_interval == 0
    assert 5 <= iterations / solver.snapshot <= MOST_SNAPSHOTS


@pytest.mark.parametrize("model", MODELS)
def test_every_model_builds_at_its_size(model: str, tmp_path: Path) -> None:
    """And DSOD at the smallest and the largest input that a plan may choose."""
    for size in (200, 512) if model.startswith("dsod") else (None,):
        plan = plan_for(Wishes(model=model, image_size=size))
        run = run_folder("pictures", tmp_path / f"run{size}")
        run.data.mkdir(parents=True)
        run.label_map.write_text('item { name: "a" label: 1 display_name: "a" }')
        write_nets(plan, run, ("a",), 20, cuda=False)
        param = without_result_files(read_net(run.prototxt("deploy")))
        net = build_net(param, NetState(phase=Phase.Value("TEST")), Runtime())
        assert net.outputs == ["detection_out"]


def test_a_rare_class_of_small_objects_gets_priors_too() -> None:
    """As platelets among red cells, which are the size of the usual priors."""
    small = np.arange(1000) % 20 == 0
    sides = np.where(small[:, None], [[0.06, 0.08]], [[0.2, 0.22]])
    ratios = fitting_ratios(sides, small.astype(np.int64), aspect_ratios_of("dsod"), 300)
    reached = best_overlaps(sides, ratios, aspect_ratios_of("dsod"), 300) >= MATCHED
    assert reached.all()
