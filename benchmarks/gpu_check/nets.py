"""DSOD's training fed from memory, at full or at toy size, on any device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from caffe.models.dsod_recipes import DSOD
from caffe.models.recipe import make_nets
from google.protobuf import text_format
from torch import Tensor

from benchmarks.nets import images, label_blob, objects
from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, SolverParameter
from caffe_ssd.proto.upgrade import upgrade_net
from caffe_ssd.solver import Solver

SETTINGS = """
base_lr: 0.001 momentum: 0.9 weight_decay: 0.0005 lr_policy: "fixed"
max_iter: 100000 display: 0 snapshot_after_train: false random_seed: 1
"""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A detector.

    Args:
        data: the recipe's data set.
        variant: the recipe's variant.
        size: side of its pictures.
    """

    data: str
    variant: str
    size: int


FULL = Kind(data="VOC0712", variant="DSOD300", size=300)
TOY = Kind(data="shapes", variant="tiny", size=96)


class MemorySolver(Solver):
    """A solver on one batch that lies in memory; keeps its losses on the device.

    Args:
        param: the settings.
        inputs: the batch.
        device: where to train; the images are moved there once, the labels in every iteration.
    """

    def __init__(
        self, param: SolverParameter, inputs: dict[str, Tensor], device: torch.device | str
    ) -> None:
        self.inputs = {
            name: value.to(device) if name == "data" else value for name, value in inputs.items()
        }
        self.losses: list[Tensor] = []
        super().__init__(param, device=device)

    def forward_backward(self, net: Net) -> NetResult:
        if self.captured is not None:
            result = self.captured.forward_backward(self.inputs)
        else:
            result = net(self.inputs)
            result.loss.backward()
        self.losses.append(result.loss.detach())
        return result

    def listed_losses(self) -> list[float]:
        """The losses so far."""
        return torch.stack(self.losses).tolist() if self.losses else []


def memory_solver(
    kind: Kind, batch: int, device: torch.device | str, *, prefix: str = ""
) -> MemorySolver:
    """The solver of a kind's training, fed with random pictures and objects.

    Args:
        kind: what to train.
        batch: images per iteration.
        device: where.
        prefix: of its snapshots.
    """
    param = SolverParameter()
    text_format.Parse(SETTINGS, param)
    param.snapshot_prefix = prefix
    made = make_nets(DSOD.recipe(kind.data, kind.variant), "")["train"]
    net = upgrade_net(NetParameter.FromString(made.SerializeToString()))
    found = objects(batch, num_classes=6 if kind is TOY else 21)
    inputs = {"data": images(batch, size=kind.size), "label": label_blob(found)}
    del net.layer[0]
    for name, value in reversed(inputs.items()):
        given = LayerParameter(name=name, type="Input", top=[name])
        given.input_param.shape.add().dim.extend(value.shape)
        net.layer.insert(0, given)
    param.train_net_param.CopyFrom(net)
    return MemorySolver(param, inputs, device)
