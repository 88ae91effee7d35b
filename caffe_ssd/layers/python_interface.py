"""What the author of a Python layer sees: the base class, and blobs as numpy arrays.

Spec: caffe-net.md section 13, Python layers; section 1 for blobs.

The pycaffe face shows `PythonLayer` as `caffe.Layer`. The engine's side of it is python.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

import torch
from torch import nn

from caffe_ssd.errors import LayerError
from caffe_ssd.layers.blob import Blob, GradientMemory, ParameterMemory
from caffe_ssd.proto.caffe_pb2 import LayerParameter


class LearntBlob(Blob):
    """A learnt blob: on the CPU the parameter and its gradient themselves, else copies of them.

    Args:
        parameter: the engine's parameter.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self._memories = ParameterMemory(parameter), GradientMemory(parameter)
        super().__init__(parameter.shape, *self._memories)

    def reshape(self, *shape: int) -> None:
        """Refused: the net and its solver know the blob by its shape."""
        raise LayerError(f"a learnt blob cannot be reshaped, from {self.shape} to {list(shape)}")

    def flush(self) -> None:
        """Bring what was written into copies to the device."""
        for memory in self._memories:
            memory.flush()


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

    def setup(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Called once: read `param_str`, check the bottoms, add learnt blobs."""

    def reshape(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Called before each `forward`: give the tops their shapes."""
        raise self._lacks("reshape(bottom, top)")

    def forward(self, bottom: list[Blob], top: list[Blob]) -> None:
        """Compute `top[i].data` from `bottom[j].data`."""
        raise self._lacks("forward(bottom, top)")

    def backward(self, top: list[Blob], propagate_down: list[bool], bottom: list[Blob]) -> None:
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
