"""Nets in bfloat16, for engines of PyTorch.

Softmax, and what follows it, stays float32: in 8 bits scores of 0.97 and 0.974 would be equal.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from caffe_ssd.engines.engine import Runner, channels_last
from caffe_ssd.engines.frozen_net import FrozenNet
from caffe_ssd.layers.detection_output import DetectionOutput
from caffe_ssd.layers.softmax import Softmax
from caffe_ssd.net.instruction import Instruction


def in_bfloat16(net: FrozenNet, made: Callable[[FrozenNet], Runner]) -> Runner:
    """A runner that takes and gives float32; what is constant, such as priors, stays float32.

    Args:
        net: to convert.
        made: makes what runs a net in bfloat16, from inputs of that type.
    """
    head, tail = net.split(_may_round)
    run_head = made(head.converted(torch.bfloat16))

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        tops = run_head(*(x.bfloat16() for x in channels_last(tensors)))
        outputs: tuple[Tensor, ...] = tail(*(top.float() for top in tops), *tensors)
        return outputs

    return run


def _may_round(op: Instruction) -> bool:
    return not isinstance(op.layer, Softmax | DetectionOutput)
