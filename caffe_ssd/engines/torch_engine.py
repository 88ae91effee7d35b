"""The engine that is always there: PyTorch without a compiler.

On a CPU convolutions run in channels-last order with packed weights; see `cpu_kernels`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

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
            return _in_bfloat16(fast)
        if all(x.device.type == "cpu" for x in inputs):
            fast = fast.rewritten(partial(pack_convolutions, shapes=net.shapes))
        fast = fast.rewritten(multiply_out)
        return lambda *tensors: fast(*channels_last(tensors))


def _in_bfloat16(net: FrozenNet) -> Runner:
    """A runner that takes and gives float32; what is constant, such as priors, stays float32."""
    half = net.converted(torch.bfloat16)

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        tops = half(*(x.bfloat16() for x in channels_last(tensors)))
        return tuple(top.float() for top in tops)

    return run
