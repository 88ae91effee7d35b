"""What the author of a Python layer sees: the base class, and blobs as numpy arrays.

Spec: caffe-net.md section 13, Python layers; section 1 for blobs.

The pycaffe face shows `PythonLayer` as `caffe.Layer`. The engine's side of it is python.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caffe_ssd.errors import LayerError
from caffe_ssd.layers.blob_shape import BlobShape
from caffe_ssd.layers.registry import Shape
from caffe_ssd.proto.caffe_pb2 import LayerParameter

Array = NDArray[np.float32]


def host_array(tensor: Tensor) -> Array:
    """The tensor as a float32 array; of a contiguous CPU tensor it shares the memory."""
    array: Array = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
    return array


class ArrayBlob(BlobShape):
    """A bottom or top: two arrays of one shape that can be written in place.

    Args:
        shape: any number of axes; both arrays are zero.
    """

    def __init__(self, shape: Shape = ()) -> None:
        super().__init__(shape)
        self._data: Array = np.zeros(prod(shape), np.float32)
        self._diff: Array = np.zeros(prod(shape), np.float32)

    @property
    def data(self) -> Array:
        """The values."""
        return self._data[: self.count].reshape(self._shape)

    @property
    def diff(self) -> Array:
        """The gradient."""
        return self._diff[: self.count].reshape(self._shape)

    def reshape(self, *shape: int) -> None:
        """Change the shape; the content stays as a flat prefix, new elements are zero."""
        super().reshape(*shape)
        self._data = _at_least(self._data, self.count)
        self._diff = _at_least(self._diff, self.count)

    def take(self, values: Tensor, *, copy: bool) -> None:
        """Take over shape and values of a tensor; without `copy` its memory, where possible."""
        array = host_array(values).reshape(-1)
        self._data = array.copy() if copy else array
        self.reshape(*values.shape)


def _at_least(flat: Array, count: int) -> Array:
    if flat.size >= count:
        return flat
    return np.concatenate([flat, np.zeros(count - flat.size, np.float32)])


class LearntBlob(ArrayBlob):
    """A learnt blob: on the CPU the parameter and its gradient themselves, else copies of them.

    Args:
        parameter: the engine's parameter.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self._shape = tuple(parameter.shape)
        self.parameter = parameter
        self._shown: dict[str, Array] = {}

    @property
    def data(self) -> Array:
        return self._show("data", self.parameter)

    @property
    def diff(self) -> Array:
        if self.parameter.grad is None:
            self.parameter.grad = torch.zeros_like(self.parameter)
        return self._show("diff", self.parameter.grad)

    def reshape(self, *shape: int) -> None:
        """Refused: the net and its solver know the blob by its shape."""
        raise LayerError(f"a learnt blob cannot be reshaped, from {self.shape} to {list(shape)}")

    def flush(self) -> None:
        """Bring what was written into copies to the device."""
        if self.parameter.device.type == "cpu":
            return
        with torch.no_grad():
            for name, array in self._shown.items():
                target = self.parameter if name == "data" else self.parameter.grad
                if target is not None:
                    target.copy_(torch.from_numpy(array))

    def _show(self, name: str, tensor: Tensor) -> Array:
        if name not in self._shown:
            self._shown[name] = host_array(tensor)
        return self._shown[name]


class LearntBlobs(Sequence[LearntBlob]):
    """A Python layer's `blobs`.

    Args:
        parameters: the engine layer's list, which `add_blob` extends.
    """

    def __init__(self, parameters: nn.ParameterList) -> None:
        self._parameters = parameters
        self._views: dict[int, LearntBlob] = {}
        self.is_open = True

    def add_blob(self, *shape: int) -> None:
        """Add a learnt blob of zeros.

        Raises:
            LayerError: called after `setup`.
        """
        if not self.is_open:
            raise LayerError("add_blob may be called in setup only")
        self._parameters.append(nn.Parameter(torch.zeros(tuple(int(n) for n in shape))))

    def __len__(self) -> int:
        return len(self._parameters)

    @overload
    def __getitem__(self, index: int) -> LearntBlob: ...
    @overload
    def __getitem__(self, index: slice) -> list[LearntBlob]: ...
    def __getitem__(self, index: int | slice) -> LearntBlob | list[LearntBlob]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        parameter = self._parameters[index]
        return self._views.setdefault(id(parameter), LearntBlob(parameter))

    def __iter__(self) -> Iterator[LearntBlob]:
        return (self[i] for i in range(len(self)))

    def flush(self) -> None:
        """Bring writes to the device and forget the views: the next call looks anew."""
        for view in self._views.values():
            view.flush()
        self._views.clear()


class PythonLayer:
    """Base class of layers written in Python.

    A layer of type `Python` with `python_param { module: "m" layer: "C" }` makes an instance of
    class C of module m, which derives from this one and defines the methods below.

    Args:
        layer_param: the layer's message.

    Attributes:
        blobs: the learnt blobs; `setup` adds them with `blobs.add_blob(d0, d1, ...)`.
        param_str: the text of `python_param.param_str`.
        phase: 0 for TRAIN, 1 for TEST.
    """

    blobs: LearntBlobs
    param_str: str
    phase: int

    def __init__(self, layer_param: LayerParameter) -> None:
        pass

    def setup(self, bottom: list[ArrayBlob], top: list[ArrayBlob]) -> None:
        """Called once: read `param_str`, check the bottoms, add learnt blobs."""

    def reshape(self, bottom: list[ArrayBlob], top: list[ArrayBlob]) -> None:
        """Called before each `forward`: give the tops their shapes."""
        raise self._lacks("reshape(bottom, top)")

    def forward(self, bottom: list[ArrayBlob], top: list[ArrayBlob]) -> None:
        """Compute `top[i].data` from `bottom[j].data`."""
        raise self._lacks("forward(bottom, top)")

    def backward(
        self, top: list[ArrayBlob], propagate_down: list[bool], bottom: list[ArrayBlob]
    ) -> None:
        """Compute `bottom[j].diff` where wanted, and add to the diffs of the learnt blobs."""
        raise self._lacks("backward(top, propagate_down, bottom)")

    def seek(self, batch: int) -> None:
        """Called on resume where there are no bottoms: go on as if `forward` had run so often.

        Without this method a warning says that the layer's data start again.

        Args:
            batch: how often `forward` ran before.
        """

    def _lacks(self, method: str) -> LayerError:
        return LayerError(f"class {type(self).__name__} does not define {method}")
