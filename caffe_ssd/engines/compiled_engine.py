"""The engine that compiles: torch.compile with the weights frozen in.

On a CPU it needs a C++ compiler and a minute or two before the first result of each shape.

The net is first traced into one flat graph of tensor operations for the shapes at hand. So how
layers are written in Python cannot break the graph, and nothing is compiled layer by layer.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from caffe_ssd.engines.bfloat16 import in_bfloat16
from caffe_ssd.engines.engine import Engine, Runner, channels_last
from caffe_ssd.engines.folding import clamp_before_1x1, multiply_out
from caffe_ssd.engines.frozen_net import FrozenNet
from caffe_ssd.layers.detection_output import DetectionOutput
from caffe_ssd.net.instruction import Instruction


class CompiledEngine(Engine):
    """See the module's docstring; what follows the first DetectionOutput is not compiled."""

    name = "compile"
    precisions = ("fp32", "bf16")

    @property
    def version(self) -> str:
        return f"{self.name} (torch {torch.__version__})"

    def prepare(self, net: FrozenNet, inputs: tuple[Tensor, ...]) -> Runner:
        fast = net.rewritten(clamp_before_1x1, multiply_out)
        if self.precision.name == "bf16":
            rounded = tuple(x.bfloat16() for x in inputs)
            return in_bfloat16(fast, partial(_compiled, inputs=rounded))
        return _compiled(fast, inputs)


def _compiled(net: FrozenNet, inputs: tuple[Tensor, ...]) -> Runner:
    head, tail = net.split(_compiles)
    graph = make_fx(head)(*channels_last(inputs))
    compiled = torch.compile(graph, dynamic=False, fullgraph=True, options={"freezing": True})

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = tail(*compiled(*channels_last(tensors)), *tensors)
        return outputs

    return run


def _compiles(op: Instruction) -> bool:
    return not isinstance(op.layer, DetectionOutput)
