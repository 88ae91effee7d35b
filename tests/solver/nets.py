"""Small nets and solvers for tests."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.net import Net, NetResult
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.proto.text import parse_text
from caffe_ssd.solver.solver import Solver

# A database-free net: BatchNorm gives it blobs that do not learn, and one blob is frozen.
NET = """
name: "small"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 2 dim: 3 dim: 5 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 4 } } }
layer {
  name: "conv" type: "Convolution" bottom: "x" top: "conv"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 0 decay_mult: 1 }
  convolution_param { num_output: 3 kernel_size: 2 weight_filler { type: "xavier" } }
}
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
layer {
  name: "ip" type: "InnerProduct" bottom: "bn" top: "ip"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "y" top: "loss" }
layer {
  name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "y" top: "accuracy"
  include { phase: TEST }
}
"""


def small_net() -> NetParameter:
    return parse_text(NET, NetParameter())


def small_settings(text: str = "", **fields: object) -> SolverParameter:
    """An SGD solver of the small net.

    Args:
        text: more of the solver's prototxt.
        fields: likewise.
    """
    param = SolverParameter(
        base_lr=0.1,
        lr_policy="fixed",
        momentum=0.9,
        weight_decay=0.01,
        max_iter=6,
        random_seed=3,
        snapshot_after_train=False,
        net_param=small_net(),
    )
    parse_text(text, param)
    for name, value in fields.items():
        setattr(param, name, value)
    return param


class FedSolver(Solver):
    """A solver whose net is fed batch after batch of a fixed stream."""

    first = 0
    stride = 1
    passes = 0

    def forward(self, net: Net) -> NetResult:
        with torch.no_grad():
            result: NetResult = net(batch(0))
        return result

    def forward_backward(self, net: Net) -> NetResult:
        number = self.first + self.stride * self.passes
        self.passes += 1
        result: NetResult = net(batch(number))
        result.loss.backward()
        return result


def batch(number: int) -> dict[str, Tensor]:
    """Batch `number` of the stream."""
    generator = torch.Generator().manual_seed(number)
    x = torch.randn(4, 2, 3, 5, generator=generator)
    y = torch.randint(0, 4, (4,), generator=generator).float()
    return {"x": x, "y": y}


def blobs(solver: Solver) -> list[Tensor]:
    """Copies of all learnable blobs, in net order."""
    return [entry.blob.detach().clone() for entry in solver.net.learnable]
