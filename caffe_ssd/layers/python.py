"""Python: a layer whose computation is a class of the user's, found by module and name.

Spec: caffe-net.md section 13, Python layers.
Quirk: exceptions of the user's code pass through unchanged.
Quirk: tops and diffs keep their content from one call to the next, as far as the user's code does
    not overwrite it.

A prototxt that names code can do whatever that code does, so it may be forbidden: by the runtime,
or for all by the environment variable CAFFE_NO_PYTHON_LAYERS (docs/security.md).

In training on several devices each process has an instance of its own, where the reference's
devices take turns with one; so a layer that makes data must itself tell the processes apart.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.blob import Blob
from caffe_ssd.layers.python_interface import LearntBlobs, PythonLayer
from caffe_ssd.layers.registry import (
    MANY,
    Code,
    Grouping,
    Layer,
    LayerSpec,
    Shape,
    SourceLayer,
    register_layer,
)
from caffe_ssd.proto.caffe_pb2 import LayerParameter

_log = logging.getLogger(__name__)

FORBIDDING = "CAFFE_NO_PYTHON_LAYERS"


class Python(Layer):
    """The layer around an instance of the user's class.

    Args:
        user: the instance, not yet set up.
        param: the layer's message.
        bottoms: shapes of the bottoms.
    """

    grouping = Grouping.REFUSED
    can_repeat = False  # nobody knows what the user's code keeps

    def __init__(self, user: PythonLayer, param: LayerParameter, bottoms: Sequence[Shape]) -> None:
        super().__init__()
        self.user = user
        user.param_str = param.python_param.param_str
        user.phase = param.phase
        user.blobs = LearntBlobs(self.blobs)
        self._bottoms = [Blob(shape) for shape in bottoms]
        # In place, a bottom and a top are one blob.
        self._in_place = [
            i < len(bottoms) and param.bottom[i] == t for i, t in enumerate(param.top)
        ]
        self._tops = [self._bottoms[i] if same else Blob() for i, same in enumerate(self._in_place)]
        user.setup(self._bottoms, self._tops)
        user.blobs.is_open = False

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        for blob, shape in zip(self._bottoms, bottoms, strict=True):
            blob.reshape(*shape)
        self.user.reshape(self._bottoms, self._tops)
        self.user.blobs.flush()
        return tuple(tuple(blob.shape) for blob in self._tops)

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        tensors = (*bottoms, *self.blobs)
        if torch.is_grad_enabled() and self._tops and any(t.requires_grad for t in tensors):
            tops: tuple[Tensor, ...] = _Call.apply(self, len(bottoms), *tensors)  # type: ignore[no-untyped-call]
            return tops
        return self.run_forward(bottoms)

    def run_forward(self, bottoms: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Call the user's `reshape` and `forward`; the tops are new tensors."""
        in_place = self._in_place + [False] * len(bottoms)
        for blob, tensor, is_top in zip(self._bottoms, bottoms, in_place, strict=False):
            blob.reshape(*tensor.shape)
            blob.data_memory.borrow(tensor.clone() if is_top else tensor)
        self.user.reshape(self._bottoms, self._tops)
        self.user.forward(self._bottoms, self._tops)
        self.user.blobs.flush()
        device = next((t.device for t in (*bottoms, *self.blobs)), torch.device("cpu"))
        return tuple(torch.tensor(blob.data, device=device) for blob in self._tops)

    def run_backward(self, diffs: Sequence[Tensor], wanted: list[bool]) -> list[Tensor | None]:
        """Call the user's `backward`.

        Args:
            diffs: of the tops.
            wanted: which bottoms need a diff.

        Returns:
            The diffs of the bottoms, None where they are not wanted. Those of learnt blobs have
            been added to their gradients.
        """
        for blob, diff in zip(self._tops, diffs, strict=True):
            blob.diff[...] = diff.detach().cpu().numpy()
        self.user.backward(self._tops, wanted, self._bottoms)
        self.user.blobs.flush()
        device = diffs[0].device
        return [
            torch.tensor(blob.diff, device=device) if flag else None
            for blob, flag in zip(self._bottoms, wanted, strict=True)
        ]


class PythonSource(Python, SourceLayer):
    """A Python layer without bottoms, which may make data; see `Python`."""

    def __init__(self, user: PythonLayer, param: LayerParameter) -> None:
        super().__init__(user, param, ())
        self.name = param.name

    def seek(self, batch: int) -> None:
        if batch > 0 and type(self.user).seek is PythonLayer.seek:
            _log.warning(
                "layer %r (Python): class %s has no method seek(batch), so after this resume its "
                "data start again; an uninterrupted run would be at batch %d",
                self.name,
                type(self.user).__name__,
                batch,
            )
        self.user.seek(batch)


class _Call(torch.autograd.Function):
    """One forward of a Python layer; learnt blobs are arguments so that backward reaches them."""

    @staticmethod
    def forward(ctx: Any, layer: Python, num_bottoms: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        ctx.layer, ctx.num_bottoms, ctx.num_tensors = layer, num_bottoms, len(tensors)
        return layer.run_forward(tensors[:num_bottoms])

    @staticmethod
    def backward(ctx: Any, *diffs: Tensor) -> tuple[Tensor | None, ...]:
        wanted = list(ctx.needs_input_grad[2 : 2 + ctx.num_bottoms])
        found = ctx.layer.run_backward(diffs, wanted)
        return (None, None, *found, *[None] * (ctx.num_tensors - ctx.num_bottoms))


class Unseen(Layer):
    """A Python layer whose code is not imported: all that is known of its tops are their names."""

    def __init__(self, num_tops: int) -> None:
        super().__init__()
        self._num_tops = num_tops

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return ((),) * self._num_tops


@register_layer("Python", bottoms=range(MANY), tops=range(MANY))
def _build(spec: LayerSpec) -> Layer:
    param = spec.param.python_param
    if spec.runtime.code is Code.LOOK:
        return Unseen(spec.num_tops)
    _check_allowed(spec)
    if spec.runtime.world_size > 1 and spec.is_train and not param.share_in_parallel:
        raise LayerParamError(
            "cannot train on several devices unless python_param.share_in_parallel is true; "
            "then every device's process makes its own instance of the class"
        )
    user_class = _find_class(param.module, param.layer)
    user = user_class(spec.param)
    if not spec.bottoms:
        return PythonSource(user, spec.param)
    return Python(user, spec.param, spec.bottoms)


def _check_allowed(spec: LayerSpec) -> None:
    param = spec.param.python_param
    what = f"would run code, class {param.layer!r} of module {param.module!r}"
    if spec.runtime.code is Code.REFUSE:
        raise LayerParamError(f"{what}, which this command never does")
    if os.environ.get(FORBIDDING, "") not in ("", "0"):
        raise LayerParamError(f"{what}; {FORBIDDING} forbids it")


def _find_class(module_name: str, class_name: str) -> type[PythonLayer]:
    """The user's class.

    Raises:
        LayerParamError: there is no such module, or no such class in it.
    """
    if not module_name or not class_name:
        raise LayerParamError("python_param.module and python_param.layer must both be given")
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise LayerParamError(
            f"python_param.module is {module_name!r}; it must be the dotted name of a module"
        )
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module exists; something that it imports does not
        raise LayerParamError(
            f"python_param.module {module_name!r} is not found; its folder must be on sys.path, "
            "for example by PYTHONPATH"
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, PythonLayer)):
        what = "has no" if found is None else "is not derived from caffe.Layer:"
        raise LayerParamError(f"python_param: module {module_name!r} {what} class {class_name!r}")
    return found
