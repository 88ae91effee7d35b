"""Feeds the recorded training runs of the reference to our solver."""

from __future__ import annotations

import json
import zlib

import numpy as np
import torch
from torch import Tensor

from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.proto.text import read_net, read_text
from caffe_ssd.solver.solver import Solver
from tests.support.golden import GOLDEN, SHARED_GOLDEN

RECORDED = GOLDEN / "training"


class RecordedRun:
    """One recorded run. The long ones are not copied: they start from larger photographs.

    Args:
        name: the folder.
    """

    def __init__(self, name: str) -> None:
        home = RECORDED if (RECORDED / name).is_dir() else SHARED_GOLDEN / "training"
        self.folder = home / name
        self.info = json.loads((self.folder / "info.json").read_text())
        with np.load(self.folder / "trajectory.npz") as data:
            self.want = dict(data)
        with np.load(self.folder / self.info["images_file"]) as data:
            self._images, self._labels = data["images"], data["labels"]

    def batch(self, t: int) -> dict[str, Tensor]:
        """What sub-iteration t is fed."""
        size, count = self.info["batch"], self.info["images"]
        items = [(t * size + k) % count for k in range(size)]
        mean = np.array(self.info["mean_bgr"], np.float32)
        data = self._images[items].astype(np.float32) - mean
        rows = []
        for k, item in enumerate(items):
            mine = self._labels[self._labels[:, 0] == item].astype(np.float32)
            mine[:, 0] = k
            rows.append(mine)
        label = np.concatenate(rows)[None, None]
        return {
            "data": torch.from_numpy(data.transpose(0, 3, 1, 2).copy()),
            "label": torch.from_numpy(label),
        }

    def solver(self, device: torch.device | str = "cpu") -> FedSolver:
        """A solver with the recorded initial weights."""
        param = read_text(self.folder / "solver.prototxt", SolverParameter())
        param.train_net_param.CopyFrom(read_net(self.folder / param.train_net))
        param.ClearField("train_net")
        solver = FedSolver(param, self, device)
        set_initial_weights(solver.net)
        return solver


class FedSolver(Solver):
    """A solver whose train net is fed a recorded run's batches; it notes every loss."""

    def __init__(
        self, param: SolverParameter, run: RecordedRun, device: torch.device | str = "cpu"
    ) -> None:
        self.run = run
        self.losses: list[float] = []
        super().__init__(param, device=device)

    def forward_backward(self, net: Net) -> NetResult:
        done = len(self.losses) % self.param.iter_size
        result: NetResult = net(self.run.batch(self.iter * self.param.iter_size + done))
        result.loss.backward()  # type: ignore[no-untyped-call]
        self.losses.append(result.loss.item())
        return result


def set_initial_weights(net: Net) -> None:
    """Give convolutions the recorded initial weights; the rest keeps its fillers."""
    with torch.no_grad():
        for step, layer in zip(net.steps, net.layers, strict=True):
            if step.param.type in ("Convolution", "InnerProduct"):
                blob = layer.blobs[0]
                key = zlib.crc32(f"{step.param.name}/0".encode())
                rng = np.random.Generator(np.random.PCG64(key))
                shape = tuple(blob.shape)
                limit = np.sqrt(3 / np.prod(shape[1:]))
                values = ((rng.random(shape) * 2 - 1) * limit).astype(np.float32)
                blob.copy_(torch.from_numpy(values))
