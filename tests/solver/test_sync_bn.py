"""Two devices whose batches count as one against one device that has both batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from caffe_ssd.layers.normalize_by import joint_statistics, normalize_by
from caffe_ssd.layers.peers import Peers
from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import NetParameter
from caffe_ssd.proto.text import parse_text
from caffe_ssd.solver.hooks import Callback
from caffe_ssd.solver.parallel import Place, join, process_group, worker_settings
from caffe_ssd.solver.solver import Solver
from tests.solver.nets import blobs, small_settings

STEPS = 5
DEVICES = 2

# BatchNorm before anything learns, joined with Scale and ReLU, and on its own.
BODY = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 dim: 9 dim: 7 } } }
layer { name: "bn0" type: "BatchNorm" bottom: "x" top: "bn0" }
layer { name: "conv1" type: "Convolution" bottom: "bn0" top: "conv1"
  convolution_param { num_output: 6 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "bn1" type: "BatchNorm" bottom: "conv1" top: "conv1" }
layer { name: "scale1" type: "Scale" bottom: "conv1" top: "conv1" scale_param { bias_term: true } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 5 kernel_size: 2 weight_filler { type: "xavier" } } }
layer { name: "bn2" type: "BatchNorm" bottom: "conv2" top: "bn2" }
"""
CLASSIFIER = (
    BODY
    + """
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 4 } } }
layer { name: "ip" type: "InnerProduct" bottom: "bn2" top: "ip"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "y" top: "loss" }
"""
)
PICKY = CLASSIFIER.replace('top: "loss"', 'top: "loss" loss_param { ignore_label: 2 }')
DETECTOR = (
    BODY
    + """
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 1 dim: 1 dim: 1 dim: 8 } } }
layer { name: "loc" type: "Convolution" bottom: "bn2" top: "loc"
  convolution_param { num_output: 4 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "loc_p" type: "Permute" bottom: "loc" top: "loc_p"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_f" type: "Flatten" bottom: "loc_p" top: "loc_f" }
layer { name: "conf" type: "Convolution" bottom: "bn2" top: "conf"
  convolution_param { num_output: 3 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "conf_p" type: "Permute" bottom: "conf" top: "conf_p"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_f" type: "Flatten" bottom: "conf_p" top: "conf_f" }
layer { name: "prior" type: "PriorBox" bottom: "bn2" bottom: "x" top: "prior"
  prior_box_param { min_size: 3 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "loss" type: "MultiBoxLoss" bottom: "loc_f" bottom: "conf_f" bottom: "prior"
  bottom: "y" top: "loss" multibox_loss_param { num_classes: 3 code_type: CENTER_SIZE } }
"""
)


def images(number: int) -> Tensor:
    generator = torch.Generator().manual_seed(number)
    spread = 1 + number % 3  # batches with very different statistics
    return spread * torch.randn(4, 2, 9, 7, generator=generator) + number % 2


def classes(number: int) -> Tensor:
    return torch.randint(0, 4, (4,), generator=torch.Generator().manual_seed(number)).float()


def boxes(number: int) -> Tensor:
    """Objects of a batch of 4 images, (rows, 8); every third batch has none."""
    if number % 3 == 1:
        return torch.empty(0, 8)
    corners = torch.rand(3, 2, generator=torch.Generator().manual_seed(number)) * 0.4
    image = torch.tensor([[0.0], [0], [2]])
    label = torch.tensor([[1.0], [2], [1]])
    zero = torch.zeros(3, 1)
    return torch.cat([image, label, zero, corners, corners + 0.5, zero], 1)


def label_blob(tables: list[Tensor]) -> Tensor:
    """The label blob of several batches in a row, as the data layer lays it out."""
    rows = []
    for i, table in enumerate(tables):
        table = table.clone()
        table[:, 0] += 4 * i
        rows.append(table)
    joined = torch.cat(rows)
    return joined[None, None] if len(joined) else torch.full((1, 1, 1, 8), -1.0)


class PartSolver(Solver):
    """Feeds its net, in pass p, batches `mine` of the devices' p-th ones, and takes notes.

    Args:
        text: the net.
        mine: devices whose batches it gets.
        iter_size: passes per iteration.
    """

    def __init__(self, text: str, mine: range, iter_size: int) -> None:
        net = parse_text(text, NetParameter())
        param = small_settings(iter_size=iter_size)
        param.net_param.CopyFrom(net)
        self.mine = mine
        self.passes = 0
        self.losses: list[Tensor] = []
        self.gradients: list[Tensor] = []
        super().__init__(param if mine[0] == 0 else worker_settings(param, mine[0]))

    def forward(self, net: Net) -> NetResult:
        with torch.no_grad():
            result: NetResult = net(self._batch(net, 0))
        return result

    def forward_backward(self, net: Net) -> NetResult:
        result: NetResult = net(self._batch(net, self.passes))
        self.passes += 1
        self.losses.append(result.loss.detach())
        result.loss.backward()
        return result

    def note_gradients(self) -> None:
        learnt = [entry.blob for entry in self.net.learnable if entry.blob.requires_grad]
        self.gradients += [blob.grad.clone() for blob in learnt]

    def _batch(self, net: Net, number: int) -> dict[str, Tensor]:
        numbers = [DEVICES * number + device for device in self.mine]
        if "prior" in net.layer_names:
            y = label_blob([boxes(n) for n in numbers])
        else:
            y = torch.cat([classes(n) for n in numbers])
        return {"x": torch.cat([images(n) for n in numbers]), "y": y}

    def notes(self) -> dict[str, Any]:
        return {"blobs": blobs(self), "losses": self.losses, "gradients": self.gradients}


# name: (net, passes per iteration, flags of `join`)
CASES: dict[str, tuple[str, int, dict[str, bool]]] = {
    "classifier": (CLASSIFIER, 1, {"sync_bn": True}),
    "classifier of several passes": (CLASSIFIER, 2, {"sync_bn": True}),
    "ignored labels": (PICKY, 1, {"sync_bn": True, "sync_loss": True}),
    "detector": (DETECTOR, 1, {"sync_bn": True, "sync_loss": True}),
    "without flags": (CLASSIFIER, 1, {}),
    "detector, statistics only": (DETECTOR, 1, {"sync_bn": True}),
}


def _train(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    place = Place(rank=rank, world_size=DEVICES, local_rank=rank, address=f"file://{folder}/meet")
    results = {}
    with process_group(place, torch.device("cpu")):
        for name, (text, iter_size, flags) in CASES.items():
            solver = PartSolver(text, range(rank, rank + 1), iter_size)
            join(solver, place, **flags)
            solver.callbacks.append(Callback(on_gradients_ready=solver.note_gradients))
            solver.step(STEPS - 1)
            if rank == 0:  # what the root does alone must not wait for the others
                root_alone = [blob.clone() for blob in blobs(solver)]
                solver.forward(solver.net)
                for entry, blob in zip(solver.net.learnable, root_alone, strict=True):
                    entry.blob.data.copy_(blob)
            solver.step(1)
            results[name] = solver.notes()
        results["uneven"] = _uneven(rank)
    torch.save(results, Path(folder, f"{rank}.pt"))


def _uneven(rank: int) -> dict[str, Tensor]:
    """One call for a batch split into 5 and 2 items, with a large mean."""
    x = uneven_batch().split([5, 2])[rank].clone().requires_grad_()
    weight = torch.tensor([0.5, 2.0, -1.0]).requires_grad_()
    peers = Peers()
    statistics = joint_statistics(x, peers)
    y = normalize_by(statistics, x, weight, None, eps=1e-5, peers=peers)
    (y * y.detach().sin()).sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    return {"y": y.detach(), "dx": x.grad, "dweight": weight.grad}


def uneven_batch() -> Tensor:
    return 100 + torch.randn(7, 3, 4, 5, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two devices noted, by case."""
    folder = tmp_path_factory.mktemp("sync_bn")
    spawn(_train, args=(str(folder),), nprocs=DEVICES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(DEVICES)]


def alone(name: str) -> PartSolver:
    """One device with all batches."""
    text, iter_size, _ = CASES[name]
    solver = PartSolver(text, range(DEVICES), iter_size)
    solver.callbacks.append(Callback(on_gradients_ready=solver.note_gradients))
    solver.step(STEPS)
    return solver


EQUAL = [name for name, (_, _, flags) in CASES.items() if flags and name.count("only") == 0]


@pytest.mark.parametrize("name", EQUAL)
def test_two_devices_are_one_with_twice_the_batch(name: str, trained: list[Any]) -> None:
    root, worker = (notes[name] for notes in trained)
    want = alone(name).notes()
    mean_losses = [(a + b) / 2 for a, b in zip(root["losses"], worker["losses"], strict=True)]
    torch.testing.assert_close(mean_losses, want["losses"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(root["gradients"], want["gradients"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(root["blobs"], want["blobs"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", EQUAL)
def test_devices_agree_to_the_last_bit(name: str, trained: list[Any]) -> None:
    root, worker = (notes[name] for notes in trained)
    assert all(map(torch.equal, root["blobs"], worker["blobs"]))


@pytest.mark.parametrize("name", [name for name in CASES if name not in EQUAL])
def test_without_the_flags_each_device_is_by_itself(name: str, trained: list[Any]) -> None:
    root, worker = (notes[name] for notes in trained)
    want = alone(name).notes()
    conv1, bn0_mean = 3, 0
    pairs = [root["gradients"][conv1], want["gradients"][conv1]]
    assert not torch.allclose(*pairs, rtol=1e-2, atol=1e-3)
    same_statistics = torch.equal(root["blobs"][bn0_mean], worker["blobs"][bn0_mean])
    assert same_statistics == ("sync_bn" in CASES[name][2])


def test_batches_of_different_sizes(trained: list[Any]) -> None:
    root, worker = (notes["uneven"] for notes in trained)
    x = uneven_batch().double().requires_grad_()
    weight = torch.tensor([0.5, 2.0, -1.0]).double().requires_grad_()
    y = torch.batch_norm(x, weight, None, None, None, True, 0.0, 1e-5, False)
    (y * y.detach().sin()).sum().backward()
    wants = {"y": y.detach(), "dx": x.grad}
    for key, want in wants.items():
        have = torch.cat([root[key], worker[key]])
        # float32 knows values near 100 to 4e-6 only
        torch.testing.assert_close(have, want.float(), rtol=1e-4, atol=1e-4)
    share_sum = root["dweight"] + worker["dweight"]
    assert weight.grad is not None
    torch.testing.assert_close(share_sum, weight.grad.float(), rtol=1e-4, atol=1e-3)
