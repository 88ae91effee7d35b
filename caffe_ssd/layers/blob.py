"""Blobs as scripts and Python layers see them: `data` and `diff` as numpy arrays.

Spec: caffe-net.md sections 1 and 13.

A blob's memory is a torch tensor until somebody asks for the array; from then on results are
copied into that array, so an array fetched once stays live. On a CUDA device the array is a mirror:
fetching it copies to the host, and the next use on the device copies back.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from math import prod
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

Array = NDArray[np.float32]


def host_array(tensor: Tensor) -> Array:
    """The tensor as a float32 array; of a contiguous CPU tensor it shares the memory."""
    array: Array = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return array


def diff_of(parameter: Tensor) -> Tensor:
    """A learnt blob's diff; zeros, which it keeps, if there was none."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


class Onlooker(Protocol):
    """Whoever wants to know that a memory is about to be looked at."""

    def before_look(self, memory: Memory) -> None:
        """Somebody asks for the array of this memory."""

    def after_look(self, memory: Memory, lease: object) -> None:
        """Somebody has got it; `lease` lives as long as the array and its views."""


class _Lease:
    """What arrays handed out are based on, so that one can tell whether any of them still lives."""

    def __init__(self, array: Array) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


class Memory:
    """A flat run of floats that several blobs may share; unwritten memory reads as zeros.

    Attributes:
        onlooker: is told before an array is handed out.
        looks: how often an array was handed out.
    """

    def __init__(self) -> None:
        self.onlooker: Onlooker | None = None
        self.looks = 0
        self._value: Tensor | None = None  # the newest content, unless the host's is newer
        self._host: Array | None = None  # flat; set once somebody holds an array of it
        self._host_is_newer = False
        self._lease: weakref.ref[_Lease] | None = None

    @property
    def is_exposed(self) -> bool:
        """Whether somebody may hold an array of this memory."""
        return self._host is not None

    @property
    def is_held(self) -> bool:
        """Whether an array of this memory that was handed out, or a view of one, still lives."""
        return self._lease is not None and self._lease() is not None

    def hand_out(self, array: Array) -> Array:
        """The array, in a form that lets `is_held` tell how long it lives."""
        self.looks += 1
        lease = _Lease(array)
        self._lease = weakref.ref(lease)
        if self.onlooker is not None:
            self.onlooker.after_look(self, lease)
        return np.asarray(lease)

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

    def let_go(self) -> None:
        """Leave the arrays handed out so far as they are; later results go into another one."""
        if self._host is not None:
            self._host, self._lease = self._host.copy(), None

    def borrow(self, tensor: Tensor) -> None:
        """Take over a tensor's content and, on the CPU, its memory: writing to one changes both."""
        self._host, self._value, self._host_is_newer = host_array(tensor).reshape(-1), None, True

    def array(self, shape: Sequence[int]) -> Array:
        """The content as a writable array in this shape; it stays live."""
        if self.onlooker is not None:
            self.onlooker.before_look(self)
        count = prod(shape)
        if not self._host_is_newer:
            content = self.tensor(shape, torch.device("cpu")).contiguous().reshape(-1)
            if self._host is not None and self._host.size >= count:
                self._host[:count] = content.numpy()
            else:
                self._host = content.clone().numpy()  # layers may hand one tensor to two blobs
            self._value, self._host_is_newer = None, True
        return self.hand_out(self._fit_host(count).reshape(tuple(shape)))

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
            if self.onlooker is not None:
                self.onlooker.before_look(self)
            return self.hand_out(self._parameter.detach().numpy().reshape(tuple(shape)))
        self.flush()
        self._value = self._parameter.detach()
        return super().array(shape)

    def flush(self) -> None:
        """Bring what was written into a device parameter's mirror back to the device."""
        if self._host_is_newer:
            # By `data`: like the reference, autograd must not notice between forward and backward.
            content = self.tensor(self._parameter.shape, self._parameter.device)
            self._parameter.data.copy_(content)


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


class Blob:
    """A named array of a net with its gradient.

    Args:
        shape: any number of axes.
        data: memory shared with other blobs, or None for memory of its own.
        diff: likewise.
    """

    def __init__(
        self, shape: Sequence[int] = (), data: Memory | None = None, diff: Memory | None = None
    ) -> None:
        self._shape = tuple(int(n) for n in shape)
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

    @property
    def shape(self) -> list[int]:
        """The length of each axis."""
        return list(self._shape)

    @property
    def count(self) -> int:
        """The number of elements."""
        return prod(self._shape)

    @property
    def num(self) -> int:
        """Axis 0, 1 if there is none; like the three below only for up to 4 axes."""
        return self._legacy_axis(0)

    @property
    def channels(self) -> int:
        """Axis 1, 1 if there is none."""
        return self._legacy_axis(1)

    @property
    def height(self) -> int:
        """Axis 2, 1 if there is none."""
        return self._legacy_axis(2)

    @property
    def width(self) -> int:
        """Axis 3, 1 if there is none."""
        return self._legacy_axis(3)

    def reshape(self, *shape: int) -> None:
        """Change the shape; content stays as a flat prefix, new elements are zero."""
        self._shape = tuple(int(n) for n in shape)

    def _legacy_axis(self, axis: int) -> int:
        if len(self._shape) > 4:
            raise ValueError(f"num, channels, height, width need <= 4 axes, not {self.shape}")
        return self._shape[axis] if axis < len(self._shape) else 1

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
