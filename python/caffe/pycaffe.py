"""`caffe.Net`: a net whose blobs can be read, written, and run layer by layer.

Spec: caffe-net.md sections 10 and 13.

The engine runs a whole net as one differentiable function. Here every layer runs by itself: it
reads its bottoms' `data`, writes its tops' `data`, and in `backward` turns its tops' `diff` into
its bottoms'. So scripts may change anything between two layers, as they could with the original.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from caffe.blob import Array, Blob, blob_of, parameter_gradient
from caffe.mode import current_device, current_runtime
from caffe_ssd.errors import CaffeError, LayerError, NetError
from caffe_ssd.layers.registry import Layer, SourceLayer
from caffe_ssd.net import Net as EngineNet
from caffe_ssd.net import build_net
from caffe_ssd.net.plan import Step, naming
from caffe_ssd.net.weights import copy_trained_file, load_hdf5, save_hdf5
from caffe_ssd.proto.binary import write_binary
from caffe_ssd.proto.caffe_pb2 import TEST, TRAIN, NetState
from caffe_ssd.proto.text import read_net

__all__ = ["TEST", "TRAIN", "Net"]

_ALIASES_DATA = {"Split", "Flatten", "Reshape"}
_ALIASES_DIFF = {"Reshape"}


@dataclass(frozen=True)
class LayerView:
    """One entry of `Net.layers`: the layer's type name and its learnt blobs."""

    type: str
    blobs: list[Blob]


@dataclass(frozen=True)
class _Record:
    """What one layer's forward left for its backward."""

    bottoms: list[Tensor]
    tops: tuple[Tensor, ...]


class Net:
    """A net with pycaffe's interface.

    Args:
        network_file: prototxt; or, in the old form `Net(prototxt, caffemodel, phase)`, followed by
            the weights.
        args: phase, and in the old form weights and phase.
        phase: `caffe.TRAIN` or `caffe.TEST`.
        level: for include rules.
        stages: for include rules.
        weights: caffemodel or caffemodel.h5 to load.

    Raises:
        CaffeError: a file cannot be read or the net cannot be built; it is a RuntimeError.
    """

    def __init__(
        self,
        network_file: str,
        *args: Any,
        phase: int | None = None,
        level: int = 0,
        stages: Sequence[str] | None = None,
        weights: str | None = None,
    ) -> None:
        if len(args) == 2 and isinstance(args[0], str):
            weights, phase = args
        elif len(args) == 2 and isinstance(args[1], str):
            phase, weights = args  # the form of later Caffe versions
        elif args:
            names = ("phase", "level", "stages", "weights")
            given = dict(zip(names, args, strict=False))
            phase = given.get("phase", phase)
            level = given.get("level", level)
            stages = given.get("stages", stages)
            weights = given.get("weights", weights)
        if phase is None:
            raise TypeError("Net() needs a phase: caffe.TRAIN or caffe.TEST")
        param = read_net(str(network_file))
        state = NetState()
        state.CopyFrom(param.state)
        state.phase, state.level = phase, level  # type: ignore[assignment]
        state.stage.extend(stages if stages is not None else [])
        engine = build_net(param, state, current_runtime())
        self._adopt(engine.to(current_device()))
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, engine: EngineNet) -> Net:
        """The pycaffe view of a net that exists already."""
        net = cls.__new__(cls)
        net._adopt(engine)
        return net

    def _adopt(self, engine: EngineNet) -> None:
        self.engine = engine
        engine.keep_diffs = True
        self._layers: list[Layer] = engine.layers
        self._memories: dict[int, tuple[Any, Any]] = {}
        self._records: dict[int, _Record] = {}
        self._blobs: list[Blob] = []
        for step in engine.steps:
            self._make_blobs(step)
        self.blobs: OrderedDict[str, Blob] = OrderedDict(
            zip(engine.blob_names, self._blobs, strict=True)
        )
        for step in engine.steps:
            for value, weight in zip(step.tops, step.loss_weights, strict=True):
                if weight:
                    self._loss_diff(self._blobs[value.blob], weight)
        self._wrap_parameters()

    def _make_blobs(self, step: Step) -> None:
        """Create the blobs that this layer is the first to write."""
        for value in step.tops:
            if value.blob < len(self._blobs):
                continue  # in place
            blob = Blob(self.engine.blob_shapes[value.blob])
            kind = step.param.type
            if kind in _ALIASES_DATA:
                blob.data_memory = self._blobs[step.bottoms[0].blob].data_memory
            if kind in _ALIASES_DIFF:
                blob.diff_memory = self._blobs[step.bottoms[0].blob].diff_memory
            self._blobs.append(blob)

    def _wrap_parameters(self) -> None:
        self._memories.clear()
        self.params: OrderedDict[str, list[Blob]] = OrderedDict()
        self.layers: list[LayerView] = []
        for step, layer in zip(self.engine.steps, self._layers, strict=True):
            blobs = [blob_of(parameter, self._memories) for parameter in layer.blobs]
            self.layers.append(LayerView(step.param.type, blobs))
            if blobs:
                self.params[step.param.name] = blobs

    # Names ---------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The net's name."""
        return self.engine.name

    @property
    def inputs(self) -> list[str]:
        """Names of the blobs to feed."""
        return self.engine.inputs

    @property
    def outputs(self) -> list[str]:
        """Names of the blobs nobody reads, in byte order."""
        return self.engine.outputs

    @property
    def _layer_names(self) -> list[str]:
        return self.engine.layer_names

    @property
    def _blob_names(self) -> list[str]:
        return list(self.engine.blob_names)

    @property
    def _inputs(self) -> list[int]:
        return list(self.engine.plan.inputs)

    @property
    def _outputs(self) -> list[int]:
        return list(self.engine.plan.outputs)

    def _bottom_ids(self, i: int) -> list[int]:
        return [value.blob for value in self.engine.steps[i].bottoms]

    def _top_ids(self, i: int) -> list[int]:
        return [value.blob for value in self.engine.steps[i].tops]

    @property
    def top_names(self) -> OrderedDict[str, list[str]]:
        """Each layer's tops."""
        return OrderedDict((s.param.name, list(s.param.top)) for s in self.engine.steps)

    @property
    def bottom_names(self) -> OrderedDict[str, list[str]]:
        """Each layer's bottoms."""
        return OrderedDict((s.param.name, list(s.param.bottom)) for s in self.engine.steps)

    @property
    def layer_dict(self) -> OrderedDict[str, LayerView]:
        """The layers by name."""
        return OrderedDict(zip(self.engine.layer_names, self.layers, strict=True))

    @property
    def blob_loss_weights(self) -> OrderedDict[str, float]:
        """Each blob's loss weight."""
        weights = self.engine.loss_weights
        return OrderedDict((name, weights.get(name, 0.0)) for name in self.blobs)

    # Running -------------------------------------------------------------------------------------

    def forward(
        self,
        blobs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Array]:
        """Run the layers from `start` to `end`, both included.

        Args:
            blobs: further blobs to return.
            start: name of the first layer; default: the first.
            end: name of the last layer, which must also be its blob's name; default: the last.
            kwargs: an array for each of `inputs`, assigned into the existing blobs.

        Returns:
            Live arrays of the outputs, or of blob `end`, and of `blobs`.
        """
        first = 0 if start is None else self._layer_index(start)
        last = len(self._layers) - 1 if end is None else self._layer_index(end)
        names = [*(self.outputs if end is None else [end]), *([] if blobs is None else blobs)]
        if kwargs:
            if set(kwargs) != set(self.inputs):
                raise CaffeError("Input blob arguments do not match net inputs.")
            for name, array in kwargs.items():
                if np.shape(array)[0] != self.blobs[name].shape[0]:
                    raise CaffeError("Input is not batch sized")
                self.blobs[name].data[...] = array
        self.run_forward(first, last)
        return {name: self.blobs[name].data for name in names}

    def backward(
        self,
        diffs: Sequence[str] | None = None,
        start: str | None = None,
        end: str | None = None,
        **kwargs: Any,
    ) -> dict[str, Array]:
        """Run the layers backward from `start` to `end`, both included.

        Args:
            diffs: further blobs whose diff to return.
            start: name of the layer to begin with; default: the last.
            end: name of the layer to finish with; default: the first.
            kwargs: a diff for each of `outputs`.

        Returns:
            Live arrays of the diffs of the inputs, or of blob `end`, and of `diffs`.
        """
        first = len(self._layers) - 1 if start is None else self._layer_index(start)
        last = 0 if end is None else self._layer_index(end)
        names = [*(self.inputs if end is None else [end]), *([] if diffs is None else diffs)]
        if kwargs:
            if set(kwargs) != set(self.outputs):
                raise CaffeError("Top diff arguments do not match net outputs.")
            for name, array in kwargs.items():
                if np.shape(array)[:1] != np.shape(self.blobs[name].diff)[:1]:
                    raise CaffeError("Diff is not batch sized")
                self.blobs[name].diff[...] = array
        self.run_backward(first, last)
        return {name: self.blobs[name].diff for name in names}

    def forward_all(
        self, blobs: Sequence[str] | None = None, **kwargs: Any
    ) -> dict[str, list[Array] | Array]:
        """Run any number of items through in batches; see `forward`. Returns copies."""
        collected: dict[str, list[Array]] = {}
        for batch in self._batches(kwargs):
            for name, array in self.forward(blobs, **batch).items():
                collected.setdefault(name, []).extend(array.copy())
        return self._unpadded(collected, kwargs)

    def forward_backward_all(
        self,
        blobs: Sequence[str] | None = None,
        diffs: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, list[Array] | Array], dict[str, list[Array] | Array]]:
        """Like `forward_all`, with a backward pass behind each batch."""
        inputs = {name: array for name, array in kwargs.items() if name in self.inputs}
        top_diffs = {name: array for name, array in kwargs.items() if name in self.outputs}
        outputs: dict[str, list[Array]] = {}
        gradients: dict[str, list[Array]] = {}
        batches = zip(self._batches(inputs), self._batches(top_diffs), strict=False)
        pairs = batches if top_diffs else ((batch, {}) for batch in self._batches(inputs))
        for batch, diff in pairs:
            for name, array in self.forward(blobs, **batch).items():
                outputs.setdefault(name, []).extend(array.copy())
            for name, array in self.backward(diffs, **diff).items():
                gradients.setdefault(name, []).extend(array.copy())
        return self._unpadded(outputs, inputs), self._unpadded(gradients, inputs)

    def _batches(self, inputs: Mapping[str, Any]) -> list[dict[str, Array]]:
        """Cut the inputs into batches; the last one is padded with zeros."""
        if not inputs:
            return []
        size = next(iter(self.blobs.values())).shape[0]
        count = len(next(iter(inputs.values())))
        batches = []
        for at in range(0, count, size):
            batch = {}
            for name, array in inputs.items():
                part = np.asarray(array[at : at + size], np.float32)
                padding = [(0, size - len(part))] + [(0, 0)] * (part.ndim - 1)
                batch[name] = np.pad(part, padding)
            batches.append(batch)
        return batches

    @staticmethod
    def _unpadded(
        collected: Mapping[str, list[Array]], inputs: Mapping[str, Any]
    ) -> dict[str, list[Array] | Array]:
        count = len(next(iter(inputs.values()))) if inputs else 0
        return {name: np.asarray(items[:count]) for name, items in collected.items()}

    def reshape(self) -> None:
        """Propagate the inputs' shapes through all layers without computing."""
        for step, layer in zip(self.engine.steps, self._layers, strict=True):
            if step.param.type == "Input":
                continue
            bottoms = [tuple(self._blobs[value.blob].shape) for value in step.bottoms]
            with naming(step):
                shapes = layer.top_shapes(*bottoms)
            for value, shape in zip(step.tops, shapes, strict=True):
                self._blobs[value.blob].reshape(*shape)

    def clear_param_diffs(self) -> None:
        """Zero the diffs of all learnt blobs."""
        for entry in self.engine.learnable:
            parameter_gradient(entry.blob).zero_()

    def _layer_index(self, name: str) -> int:
        try:
            names = self.engine.layer_names
            return len(names) - 1 - names[::-1].index(name)
        except ValueError:
            raise NetError(f"the net has no layer named {name!r}") from None

    def run_forward(self, first: int = 0, last: int | None = None) -> float:
        """Run layers first..last by number, default all; returns the weighted loss."""
        self._flush_parameters()
        last = len(self._layers) - 1 if last is None else last
        total = 0.0
        for i in range(first, last + 1):
            step = self.engine.steps[i]
            if step.param.type != "Input":
                with naming(step):
                    self._run_layer(i, step)
            for value, weight in zip(step.tops, step.loss_weights, strict=True):
                if weight:
                    blob = self._blobs[value.blob]
                    data = blob.data_memory.tensor(blob.shape, self.engine.device)
                    total += float((data * self._loss_diff(blob, weight)).sum())
        return total

    def _run_layer(self, i: int, step: Step) -> None:
        layer, device = self._layers[i], self.engine.device
        written = {value.blob for value in step.tops}
        bottoms = []
        for value, flag in zip(step.bottoms, step.propagate_down, strict=True):
            blob = self._blobs[value.blob]
            data = blob.data_memory.tensor(blob.shape, device).detach()
            if value.blob in written and blob.data_memory.is_exposed:
                data = data.clone()  # in place: the array is about to be overwritten
            bottoms.append(data.requires_grad_(flag and step.needs_backward))
        with torch.set_grad_enabled(step.needs_backward):
            result = layer(*bottoms)
        tops = (result,) if isinstance(result, Tensor) else tuple(result)
        if isinstance(layer, SourceLayer):
            tops = tuple(top.to(device) for top in tops)
        if step.needs_backward:
            self._records[i] = _Record(bottoms, tops)
        for value, top in zip(step.tops, tops, strict=True):
            blob = self._blobs[value.blob]
            blob.reshape(*top.shape)
            if step.param.type not in _ALIASES_DATA:
                blob.data_memory.write(top)

    def run_backward(self, first: int | None = None, last: int = 0) -> None:
        """Run layers first..last by number, downwards, default all that need it."""
        first = len(self._layers) - 1 if first is None else first
        for i in range(first, last - 1, -1):
            step = self.engine.steps[i]
            if step.needs_backward and (step.bottoms or len(self._layers[i].blobs)):
                with naming(step):
                    self._run_layer_backward(i, step)

    def _run_layer_backward(self, i: int, step: Step) -> None:
        record = self._records.get(i)
        if record is None:
            raise NetError(f"backward before forward in layer {step.param.name!r}")
        if not step.type.has_backward:
            raise LayerError("this layer has no backward pass; keep gradients from reaching it")
        for j in step.type.not_forced:
            if j < len(step.propagate_down) and step.propagate_down[j]:
                raise LayerError(
                    f"bottom {j} ({step.param.bottom[j]!r}) cannot receive a gradient; "
                    "set propagate_down or lr_mult so that none is asked for"
                )
        diffs = [self._top_diff(v.blob, top) for v, top in zip(step.tops, record.tops, strict=True)]
        learnt = [blob for blob in self._layers[i].blobs if blob.requires_grad]
        wanted = [bottom for bottom in record.bottoms if bottom.requires_grad]
        gradients = _gradients(record.tops, diffs, [*wanted, *learnt])
        for value, bottom in zip(step.bottoms, record.bottoms, strict=True):
            if bottom.requires_grad:
                self._blobs[value.blob].diff_memory.write(gradients.pop(0))
        for parameter, gradient in zip(learnt, gradients, strict=True):
            parameter_gradient(parameter).add_(gradient)

    def _top_diff(self, blob_index: int, top: Tensor) -> Tensor:
        blob = self._blobs[blob_index]
        return blob.diff_memory.tensor(blob.shape, top.device).to(top.dtype).reshape(top.shape)

    def _loss_diff(self, blob: Blob, weight: float) -> Tensor:
        """A loss top's diff: its weight, unless a script has overwritten it."""
        if blob.diff_memory.is_blank(blob.count):
            blob.diff_memory.write(torch.full(blob.shape, weight, device=self.engine.device))
        return blob.diff_memory.tensor(blob.shape, self.engine.device)

    def _flush_parameters(self) -> None:
        for data, diff in self._memories.values():
            data.flush()
            diff.flush()

    # Weights -------------------------------------------------------------------------------------

    def copy_from(self, filename: str) -> None:
        """Load a caffemodel (binary, or HDF5 if it ends in `.h5`) by layer name."""
        copy_trained_file(self.engine, str(filename))

    def share_with(self, other: Net) -> None:
        """Use the other net's learnt blobs for layers of the same name."""
        self.engine.share_from(other.engine)
        self._wrap_parameters()

    def save(self, filename: str) -> None:
        """Write a binary caffemodel."""
        self._flush_parameters()
        write_binary(str(filename), self.engine.to_proto())

    def save_hdf5(self, filename: str, write_diff: bool = False) -> None:
        """Write a caffemodel.h5."""
        self._flush_parameters()
        save_hdf5(self.engine, str(filename), diff=write_diff)

    def load_hdf5(self, filename: str) -> None:
        """Load a caffemodel.h5."""
        load_hdf5(self.engine, str(filename))

    def set_input_arrays(self, data: Array, labels: Array) -> None:
        """Give the MemoryData layer, which must be the first, its items; they are used in place."""
        first = self._layers[0]
        if not hasattr(first, "set_arrays"):
            raise CaffeError("set_input_arrays may only be called if the first layer is MemoryData")
        first.set_arrays(data, labels)


def _gradients(
    tops: Sequence[Tensor], diffs: Sequence[Tensor], wanted: Sequence[Tensor | nn.Parameter]
) -> list[Tensor]:
    """Gradients of the tops, weighted by their diffs; zeros where nothing depends."""
    pairs = [(top, diff) for top, diff in zip(tops, diffs, strict=True) if top.requires_grad]
    if not wanted or not pairs:
        return [torch.zeros_like(tensor) for tensor in wanted]
    found = torch.autograd.grad(
        [top for top, _ in pairs],
        list(wanted),
        [diff for _, diff in pairs],
        allow_unused=True,
        retain_graph=True,
    )
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for tensor, gradient in zip(wanted, found, strict=True)
    ]
