"""Joined passes of an iteration against passes one by one; devices on one against each alone."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from caffe.models.dsod_recipes import dsod_shapes
from caffe.models.grp_dsod_recipes import grp_dsod_shapes
from caffe.models.recipe import Recipe
from caffe.models.ssd import train_net
from caffe.models.ssd_recipes import ssd_shapes
from torch import Tensor

from caffe_ssd.errors import SolverError
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.random import CaffeRandom
from caffe_ssd.solver.grouping import PassPlan
from caffe_ssd.solver.hooks import Callback
from caffe_ssd.solver.parallel import worker_settings
from caffe_ssd.solver.solver import Solver
from lmdb_tools.convert_annoset import main as convert_annoset
from lmdb_tools.shapes import make_shapes

TINY = {"DSOD": dsod_shapes, "GRP-DSOD": grp_dsod_shapes, "SSD": ssd_shapes}
PUBLISHED = {
    "DSOD300_smallest": partial(dsod_shapes, "smallest"),
    "GRP_DSOD320": partial(grp_dsod_shapes, "GRP_DSOD320"),
    "SSD300": partial(ssd_shapes, "SSD300"),
}
BATCH, ITER_SIZE = 2, 4


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An LMDB of 11 pictures: batches begin at other records in every round."""
    folder = tmp_path_factory.mktemp("grouping")
    shapes = folder / "shapes"
    make_shapes(str(shapes), num_train=11, num_test=1, size=96, seed=5)
    arguments = ["--anno_type=detection", f"--label_map_file={shapes}/labelmap_shapes.prototxt"]
    paths = [f"{shapes}/", f"{shapes}/trainval.txt", str(folder / "lmdb")]
    assert convert_annoset([*arguments, "--encode_type=jpg", "--encoded", *paths]) == 0
    return str(folder / "lmdb")


def settings(recipe: Recipe, database: str, **fields: object) -> SolverParameter:
    """A solver of a recipe's net that reads a database."""
    net = NetParameter.FromString(
        train_net(recipe.detector, recipe.dataset, BATCH).SerializeToString()
    )
    net.layer[0].data_param.source = database
    net.layer[0].annotated_data_param.ClearField("label_map_file")
    param = SolverParameter(
        base_lr=0.01,
        lr_policy="fixed",
        momentum=0.9,
        weight_decay=0.0005,
        iter_size=ITER_SIZE,
        max_iter=100,
        random_seed=3,
        clip_gradients=20,
        snapshot_after_train=False,
        train_net_param=net,
    )
    for name, value in fields.items():
        setattr(param, name, value)
    return param


class NotingSolver(Solver):
    """Keeps the losses of its passes, and gradients and statistics of its first iteration."""

    def __init__(self, param: SolverParameter, **options: Runtime) -> None:
        self.losses: list[Tensor] = []
        self.first: list[Tensor] = []
        super().__init__(param, **options)
        self.callbacks.append(Callback(on_gradients_ready=self.note))

    def forward_backward(self, net: Net) -> NetResult:
        result = super().forward_backward(net)
        self.losses.append(result.loss.detach())
        return result

    def note(self) -> None:
        if not self.first:
            learnt = [entry.blob for entry in self.net.learnable if entry.blob.requires_grad]
            gradients = [blob.grad for blob in learnt]
            statistics = [layer.blobs[i] for layer in self.net.layers for i in layer.statistics]
            self.first = [each.detach().clone() for each in (*gradients, *statistics)]

    def loss_of_iterations(self) -> Tensor:
        return torch.stack(self.losses).view(self.iter, -1).sum(1) / self.param.iter_size


def assert_same(have: NotingSolver, want: NotingSolver, within: float = 1e-5) -> None:
    """Losses, and gradients and statistics of the first iteration, agree to 1e-5 of their size.

    Later iterations enlarge what rounding did in the first one.
    """
    losses = [each.loss_of_iterations() for each in (have, want)]
    torch.testing.assert_close(*losses, rtol=within, atol=within)
    assert_near(have.first, want.first, within)
    weights = [[entry.blob.data for entry in each.net.learnable] for each in (have, want)]
    assert_near(*weights, 10 * within)


def assert_near(have: list[Tensor], want: list[Tensor], within: float) -> None:
    for mine, theirs in zip(have, want, strict=True):
        difference = torch.linalg.vector_norm(mine - theirs)
        assert difference <= within * max(1, torch.linalg.vector_norm(theirs))


def trained(param: SolverParameter, steps: int, *groups: int | None) -> NotingSolver:
    solver = NotingSolver(param)
    if groups:
        solver.use_groups(*groups)  # type: ignore[arg-type]
    solver.step(steps)
    return solver


@pytest.mark.parametrize("family", TINY)
def test_one_pass_for_all(family: str, database: str) -> None:
    param = settings(TINY[family](), database)
    want = trained(param, 2)
    have = trained(param, 2, None)
    assert (len(have.losses), len(want.losses)) == (2, 2 * ITER_SIZE)
    assert_same(have, want)


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_nets(name: str, database: str) -> None:
    param = settings(PUBLISHED[name](), database, iter_size=2)
    # Sums over the 11,250 places of a first map are good to about 2e-5 in float32.
    assert_same(trained(param, 1, None), trained(param, 1), within=5e-5)


def test_some_at_a_time_with_workers(database: str) -> None:
    param = settings(dsod_shapes(), database)
    have = NotingSolver(param, runtime=Runtime(data_workers=2))
    have.use_groups(2)
    have.step(2)
    assert len(have.losses) == 4
    assert_same(have, trained(param, 2))


def test_checkpoints_and_layout(database: str) -> None:
    param = settings(dsod_shapes(), database)
    solvers = [NotingSolver(param), NotingSolver(param)]
    solvers[0].use_groups()
    for solver in solvers:
        solver.net.use_channels_last()
        solver.net.use_checkpoints()
        solver.step(1)
    assert_same(*solvers)


def test_goes_on_as_if_never_stopped(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A joined training resumed from a joined snapshot, to the bit; from one by one, nearly."""
    monkeypatch.chdir(tmp_path)
    param = settings(dsod_shapes(), database, snapshot_prefix="joined")
    whole = trained(param, 3, None)
    first = trained(param, 1, None)
    _, state = first.snapshot()
    one_by_one = trained(settings(dsod_shapes(), database, snapshot_prefix="apart"), 1)
    _, other_state = one_by_one.snapshot()
    weights = []
    for path in (state, other_state):
        solver = NotingSolver(param)
        solver.use_groups()
        solver.restore(path, strict=True)
        solver.step(2)
        weights.append([entry.blob.data for entry in solver.net.learnable])
    want = [entry.blob.data for entry in whole.net.learnable]
    assert all(map(torch.equal, weights[0], want))
    assert_near(weights[1], want, 1e-3)


# Several devices on one --------------------------------------------------------------------------


def each_alone(param: SolverParameter, count: int, steps: int) -> list[NotingSolver]:
    """What `count` devices do, one after the other in one process."""
    solvers = []
    for rank in range(count):
        mine = param if rank == 0 else worker_settings(param, rank)
        runtime = Runtime(rng=CaffeRandom(), rank=rank, world_size=count)
        solvers.append(NotingSolver(mine, runtime=runtime))
    root = solvers[0]
    for iteration in range(steps):
        blobs = [[entry.blob for entry in solver.net.learnable] for solver in solvers]
        for solver, mine in zip(solvers, blobs, strict=True):
            for blob, of_root in zip(mine, blobs[0], strict=True):
                blob.data.copy_(of_root.data)
            solver.net.clear_diffs()
            for _ in range(param.iter_size):
                solver.forward_backward(solver.net)
        for together in zip(*blobs, strict=True):
            found = [blob.grad for blob in together if blob.grad is not None]
            mean = torch.stack(found).mean(0) if found else torch.zeros_like(together[0])
            together[0].grad = mean
        root.note()
        root.updater.apply(root.net.learnable, param.base_lr, iteration)
        root.iter += 1
    return solvers


@pytest.mark.parametrize("joined", [1, 3, 6])
def test_three_devices_on_one(joined: int, database: str) -> None:
    param = settings(dsod_shapes(), database, iter_size=2)
    want = each_alone(param, 3, 2)
    have = NotingSolver(param, runtime=Runtime(rng=CaffeRandom(), world_size=3))
    have.use_groups(joined, 3)
    have.step(2)
    assert len(have.losses) == 2 * 6 // joined
    of_all = sum(torch.stack(solver.losses).view(2, -1).sum(1) for solver in want) / 6
    torch.testing.assert_close(have.loss_of_iterations(), of_all, rtol=1e-5, atol=1e-5)
    have.losses = want[0].losses  # the displayed loss is that of all devices, not the root's
    assert_same(have, want[0])


# What cannot be ----------------------------------------------------------------------------------


def test_passes_must_divide(database: str) -> None:
    solver = NotingSolver(settings(ssd_shapes(), database))
    with pytest.raises(SolverError, match=r"groups of 3 passes do not divide the 4 of an iter"):
        solver.use_groups(3)
    with pytest.raises(SolverError, match=r"the 20 of an iteration \(iter_size 4 x 5 devices\)"):
        solver.use_groups(3, 5)
    with pytest.raises(SolverError, match="at least 1 device, got 0"):
        solver.use_groups(1, 0)


def test_the_order_of_passes() -> None:
    plan = PassPlan(iter_size=2, num_devices=2, joined=2)
    assert [groups and groups.devices for groups in plan] == [(0, 1), (0, 1)]
    plan = PassPlan(iter_size=3, num_devices=2, joined=3)
    assert [groups and groups.devices for groups in plan] == [(0, 1, 0), (1, 0, 1)]
    assert list(PassPlan(iter_size=3)) == [None] * 3
