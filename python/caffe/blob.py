"""Blobs as pycaffe shows them: `data` and `diff` as numpy arrays that can be written in place.

Spec: caffe-net.md sections 1 and 13.

A blob's memory is a torch tensor until somebody asks for the array; from then on results are
copied into that array, so an array fetched once stays live. On a CUDA device the array is a mirror:
fetching it copies to the host, and the next use on the device copies back.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caffe_ssd.layers.blob_shape import BlobShape
from caffe_ssd.net.layerwise import diff_of

Array = NDArray[np.float32]


class Memory:
    """A flat run of floats that several blobs may share; unwritten memory reads as zeros."""

    def __init__(self) -> None:
        self._value: Tensor | None = None  # the newest content, unless the host's is newer
        self._host: Array | None = None  # flat; set once somebody holds an array of it
        self._host_is_newer = False

    @property
    def is_exposed(self) -> bool:
        """Whether somebody may hold an array of this memory."""
        return self._host is not None

    def is_blank(self, count: int) -> bool:
        """Whether nothing was ever written here, or this many elements have outgrown it."""
        if self._value is not None:
            return self._value.numel() < count
        return self._host is None or self._host.size < count

    def tensor(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """The content on a device, in this shape; on the CPU it shares storage with the array."""
        if self._host_is_newer:
            content = torch.from_numpy(self._fit_host(prod(shape)))
            if device.type == "cpu":
                return content.view(tuple(shape))
            self._value, self._host_is_newer = content.to(device), False
        value = self._value
        if value is None:
            value = torch.zeros(tuple(shape), device=device)
        elif value.numel() != prod(shape):
            value = _resized(value.reshape(-1), prod(shape))
        self._value = value.to(device).reshape(tuple(shape))
        return self._value

    def prefer_host(self) -> None:
        """Take an array that somebody holds for newer: only its holder writes this memory."""
        self._host_is_newer = self._host is not None

    def write(self, tensor: Tensor) -> None:
        """Take new content; arrays fetched before see it unless it has outgrown them."""
        self._value = tensor.detach()
        self._host_is_newer = False
        if self._host is None or tensor.device.type != "cpu":
            return
        if tensor.numel() > self._host.size:
            self._host = None  # outgrown
            return
        # numpy writes without touching autograd's version counters, as the reference would
        self._host[: tensor.numel()] = self._value.reshape(-1).numpy()
        self._value, self._host_is_newer = None, True

    def array(self, shape: Sequence[int]) -> Array:
        """The content as a writable array in this shape; it stays live."""
        count = prod(shape)
        if not self._host_is_newer:
            content = self.tensor(shape, torch.device("cpu")).contiguous().reshape(-1)
            if self._host is not None and self._host.size >= count:
                self._host[:count] = content.numpy()
            else:
                self._host = content.clone().numpy()  # layers may hand one tensor to two blobs
            self._value, self._host_is_newer = None, True
        return self._fit_host(count).reshape(tuple(shape))

    def _fit_host(self, count: int) -> Array:
        assert self._host is not None
        if self._host.size < count:
            self._host = np.concatenate([self._host, np.zeros(count - self._host.size, np.float32)])
        return self._host[:count]


class ParameterMemory(Memory):
    """The data of a learnt blob: always the parameter's own storage.

    Args:
        parameter: the engine's parameter.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        super().__init__()
        self._parameter = parameter

    def array(self, shape: Sequence[int]) -> Array:
        if self._parameter.device.type == "cpu":
            return self._parameter.detach().numpy().reshape(tuple(shape))
        self.flush()
        self._value = self._parameter.detach()
        return super().array(shape)

    def flush(self) -> None:
        """Bring what was written into a device parameter's mirror back to the device."""
        if self._host_is_newer:
            device = self._parameter.device
            with torch.no_grad():
                self._parameter.copy_(self.tensor(self._parameter.shape, device))


class GradientMemory(ParameterMemory):
    """The diff of a learnt blob: the parameter's gradient, made when first asked for."""

    def array(self, shape: Sequence[int]) -> Array:
        gradient = diff_of(self._parameter)
        if gradient.device.type == "cpu":
            return gradient.numpy().reshape(tuple(shape))
        self.flush()
        self._value = gradient
        return Memory.array(self, shape)

    def flush(self) -> None:
        if self._host_is_newer:
            gradient = diff_of(self._parameter)
            gradient.copy_(self.tensor(gradient.shape, gradient.device))


class Blob(BlobShape):
    """A named array of a net with its gradient.

    Args:
        shape: any number of axes.
        data: memory shared with other blobs, or None for memory of its own.
        diff: likewise.
    """

    def __init__(
        self, shape: Sequence[int] = (), data: Memory | None = None, diff: Memory | None = None
    ) -> None:
        super().__init__(shape)
        self.data_memory = Memory() if data is None else data
        self.diff_memory = Memory() if diff is None else diff

    @property
    def data(self) -> Array:
        """The values, writable in place."""
        return self.data_memory.array(self._shape)

    @property
    def diff(self) -> Array:
        """The gradient, writable in place."""
        return self.diff_memory.array(self._shape)

    def __repr__(self) -> str:
        return f"Blob(shape={self.shape})"


def _resized(flat: Tensor, count: int) -> Tensor:
    if flat.numel() >= count:
        return flat[:count]
    return torch.cat([flat, flat.new_zeros(count - flat.numel())])


def blob_of(parameter: nn.Parameter, memories: dict[int, tuple[Any, Any]]) -> Blob:
    """The pycaffe view of a learnt blob; sharers of one parameter share the memories."""
    if id(parameter) not in memories:
        memories[id(parameter)] = (ParameterMemory(parameter), GradientMemory(parameter))
    data, diff = memories[id(parameter)]
    return Blob(parameter.shape, data, diff)
