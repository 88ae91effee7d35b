"""What an engine is: something that runs a frozen net for inputs of given shapes.

engine = TorchEngine(freeze(net))
tops = engine(data)            # prepared at the first input of a shape, quick from then on
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from caffe_ssd.engines.frozen_net import FrozenNet
from caffe_ssd.engines.precision import Precision
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.registry import Shape

Runner = Callable[..., tuple[Tensor, ...]]

FLOAT = Precision()


class Engine(ABC):
    """Runs a frozen net.

    Args:
        net: what to run; unspecialised.
        precision: how to calculate.

    Attributes:
        shapes_kept: for how many shapes it stays prepared; each may hold a copy of the weights.

    Raises:
        UsageError: the engine's library is not installed, or it cannot calculate like that.
    """

    name = ""
    precisions: tuple[str, ...] = ("fp32",)

    def __init__(self, net: FrozenNet, precision: Precision = FLOAT) -> None:
        if precision.name not in self.precisions:
            raise UsageError(
                f"the engine {self.name} does not calculate in {precision.name}; "
                f"it offers: {', '.join(self.precisions)}"
            )
        self.net = net
        self.precision = precision
        self.shapes_kept = 4
        self._runners: dict[tuple[Shape, ...], Runner] = {}

    @property
    def description(self) -> str:
        """The engine, its library's version, and the precision unless it is float32."""
        exact = self.precision.name == FLOAT.name
        return self.version if exact else f"{self.version}, {self.precision.name}"

    @property
    def version(self) -> str:
        """The engine's name and its library's version."""
        return self.name

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The net's outputs, in the order of `net.outputs`, for inputs in that of `net.inputs`."""
        with torch.inference_mode():
            return self.runner(*inputs)(*inputs)

    def runner(self, *inputs: Tensor) -> Runner:
        """What runs inputs of these shapes, prepared if need be."""
        shapes = tuple(tuple(given.shape) for given in inputs)
        if shapes not in self._runners:
            if len(self._runners) >= self.shapes_kept:
                self._runners.pop(next(iter(self._runners)))
            self._runners[shapes] = self.prepare(self.net.specialised(*inputs), inputs)
        return self._runners[shapes]

    @abstractmethod
    def prepare(self, net: FrozenNet, inputs: tuple[Tensor, ...]) -> Runner:
        """Make the runner for a net that was specialised to inputs of these shapes."""


def channels_last(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs, images with their channels innermost."""
    return tuple(
        x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs
    )
