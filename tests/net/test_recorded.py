"""The recorded layer and net cases through the engine's net: the program that training runs.

pycaffe's tests run them layer by layer (tests/parity/test_cases.py). Here a case goes through the
net's shortened program as far as only outputs are recorded, and gradients are PyTorch's own.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from caffe_ssd.net import Net, build_net
from caffe_ssd.proto.caffe_pb2 import NetState, Phase
from caffe_ssd.proto.text import read_net
from tests.support.recorded_cases import Case, case_id, case_paths, importable, write_prototxt

# What belongs to pycaffe: a state written in the file, gradients of inputs without
# `force_backward`, and a quirk that docs/fidelity.md lists (HingeLoss without a weight).
PYCAFFE = {"Net/state_in_file", "Net/propagate_down_true_reaches_input", "Net/several_losses"}
CASES = [path for path in case_paths("layers") if case_id(path) not in PYCAFFE]

# Layers whose tops have as many rows as their bottoms' values ask for.
BY_VALUES = {"DetectionEvaluate", "DetectionOutput", "Filter"}


class EngineRun:
    """The net of a case, fed pass by pass.

    Args:
        case: the case.
        net: its net.
    """

    def __init__(self, case: Case, net: Net) -> None:
        self.case, self.net = case, net
        self.inputs: dict[str, Tensor] = {}
        self.learnt = {f"{n}:{i}": b for n, blobs in net.layer_blobs() for i, b in enumerate(blobs)}
        net.clear_diffs()

    def run_pass(self, prefix: str) -> None:
        """Forward, backward, and all that is recorded of both."""
        case = self.case
        for spec, value in case.of(f"{prefix}param"):
            self.learnt[spec].data.copy_(tensor(value))
        given = self.inputs | {name: tensor(value) for name, value in case.of(f"{prefix}in")}
        wanted = self.net.plan.force_backward
        self.inputs = {n: v.detach().clone().requires_grad_(wanted) for n, v in given.items()}
        tops, loss = self.forward(prefix)
        for name, _ in case.of(f"{prefix}out"):
            case.check(f"{prefix}out:{name}", tops[name].detach())
        for spec, _ in case.of(f"{prefix}param_after"):
            case.check(f"{prefix}param_after:{spec}", self.learnt[spec].detach())
        for name, value in case.of(f"{prefix}top_diff"):
            loss = loss + (tops[name] * tensor(value)).sum()
        if loss.requires_grad:
            loss.backward()
        for name, _ in case.of(f"{prefix}bottom_diff"):
            if name in self.inputs:  # inner blobs have no diff here
                case.check(f"{prefix}bottom_diff:{name}", diff(self.inputs[name]))
        for spec, _ in case.of(f"{prefix}param_diff"):
            case.check(f"{prefix}param_diff:{spec}", diff(self.learnt[spec]))

    def forward(self, prefix: str) -> tuple[dict[str, Tensor], Tensor]:
        """The recorded blobs and the loss; the blobs have the shapes announced at set-up."""
        names = {name for kind in ("out", "top_diff") for name, _ in self.case.of(prefix + kind)}
        result = self.net(self.inputs, keep=names - set(self.net.outputs))
        announced = dict(zip(self.net.blob_names, self.net.blob_shapes, strict=True))
        as_set_up = all(tuple(v.shape) == announced[n] for n, v in self.inputs.items())
        if as_set_up and not BY_VALUES & {step.param.type for step in self.net.steps}:
            for name in names:
                assert tuple(result.blobs[name].shape) == announced[name], name
        return result.blobs, result.loss


def tensor(value: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(value, np.float32))


def diff(blob: Tensor) -> Tensor:
    return torch.zeros_like(blob) if blob.grad is None else blob.grad


@pytest.mark.parametrize("path", CASES, ids=case_id)
def test_case(path: Path, tmp_path: Path) -> None:
    case = Case(path)
    files = dict(case.of("file"))
    for name, text in files.items():
        (tmp_path / name).write_text(str(text))
    prototxt = write_prototxt(tmp_path, "net.prototxt", str(case.get("prototxt")))
    rules = json.loads(str(case.get("net_args", "{}")))
    state = NetState(
        phase=Phase.Value(str(case.get("phase"))),
        level=rules.get("level", 0),
        stage=rules.get("stages", []),
    )
    with importable(tmp_path, list(files)):
        run = EngineRun(case, build_net(read_net(prototxt), state))
        for prefix in case.passes():
            run.run_pass(prefix)
