"""The engine that is always there: PyTorch without a compiler.

On a CPU convolutions run in channels-last order with packed weights; see `cpu_kernels`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from caffe_ssd.engines.bfloat16 import in_bfloat16
from caffe_ssd.engines.cpu_kernels import grow_in_place, pack_convolutions
from caffe_ssd.engines.engine import Engine, Runner, channels_last
from caffe_ssd.engines.folding import clamp_before_1x1, multiply_out
from caffe_ssd.engines.frozen_net import FrozenNet


class TorchEngine(Engine):
    """See the module's docstring."""

    name = "torch"
    precisions = ("fp32", "bf16")

    @property
    def version(self) -> str:
        return f"{self.name} {torch.__version__}"

    def prepare(self, net: FrozenNet, inputs: tuple[Tensor, ...]) -> Runner:
        fast = net.rewritten(clamp_before_1x1, partial(grow_in_place, shapes=net.shapes))
        if self.precision.name == "bf16":
            return in_bfloat16(fast, partial(_packed, inputs=inputs))
        fast = _packed(fast, inputs).rewritten(multiply_out)
        return lambda *tensors: fast(*channels_last(tensors))


def _packed(net: FrozenNet, inputs: tuple[Tensor, ...]) -> FrozenNet:
    """The net with its convolutions as the CPU likes them, if the inputs are there."""
    if any(x.device.type != "cpu" for x in inputs):
        return net
    return net.rewritten(partial(pack_convolutions, shapes=net.shapes))
