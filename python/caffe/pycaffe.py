"""`caffe.Net`: a net whose blobs can be read, written, and run layer by layer.

Spec: caffe-net.md section 13; layerwise.py runs the layers.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from caffe.layerwise import LayerView, LayerwiseNet
from caffe.mode import current_device, current_runtime
from caffe_ssd.devices import give_back_freed_memory
from caffe_ssd.errors import CaffeError, NetError
from caffe_ssd.layers.blob import Array
from caffe_ssd.layers.memory_data import MemoryData
from caffe_ssd.net import Net as EngineNet
from caffe_ssd.net.loading import tell
from caffe_ssd.net.net_log import build_logged_net
from caffe_ssd.net.told_by_weights import settle_by_weights
from caffe_ssd.net.weights import RENAME_ADVICE, copy_trained_file, load_hdf5, save_hdf5
from caffe_ssd.proto.binary import write_binary
from caffe_ssd.proto.caffe_pb2 import TEST, TRAIN, NetState
from caffe_ssd.proto.text import read_net

__all__ = ["TEST", "TRAIN", "Net"]


class Net(LayerwiseNet):
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
        if len(args) == 2 and isinstance(args[0], str | PathLike):
            weights, phase = args
        elif len(args) == 2 and isinstance(args[1], str | PathLike):
            phase, weights = args  # the form of later Caffe versions
        elif len(args) > 4:
            raise TypeError(f"Net() takes 2 to 5 arguments, got {len(args) + 1}")
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
        if weights is not None:
            settle_by_weights(param, weights)
        state = NetState()
        state.CopyFrom(param.state)
        state.phase, state.level = phase, level  # type: ignore[assignment]
        state.stage.extend(stages if stages is not None else [])
        engine = build_logged_net(param, state, current_runtime())
        super().__init__(engine.to(current_device()), alone=True)
        if weights is not None:
            self.copy_from(weights)

    @classmethod
    def of(cls, engine: EngineNet) -> Net:
        """The pycaffe view of a net that exists already."""
        net = cls.__new__(cls)
        LayerwiseNet.__init__(net, engine)
        return net

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
        if kwargs and set(kwargs) != set(self.inputs):
            raise CaffeError("Input blob arguments do not match net inputs.")
        with self.turn():
            for name, array in kwargs.items():
                if np.shape(array)[:1] != tuple(self.blobs[name].shape[:1]):
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
        if kwargs and set(kwargs) != set(self.outputs):
            raise CaffeError("Top diff arguments do not match net outputs.")
        with self.turn():
            for name, array in kwargs.items():
                if np.shape(array)[:1] != np.shape(self.blobs[name].diff)[:1]:
                    raise CaffeError("Diff is not batch sized")
                self.blobs[name].diff[...] = array
            self.run_backward(first, last)
            return {name: self.blobs[name].diff for name in names}

    def forward_all(
        self, blobs: Sequence[str] | None = None, **kwargs: Any
    ) -> dict[str, list[Array] | Array]:
        """Run any number of items through in batches; see `forward`.

        Returns:
            Copies; of a blob without axes, such as a loss, one value per batch.
        """
        collected: dict[str, list[Array]] = {}
        for batch in self._batches(kwargs):
            for name, array in self.forward(blobs, None, None, **batch).items():
                collected.setdefault(name, []).extend(np.atleast_1d(array.copy()))
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
            for name, array in self.forward(blobs, None, None, **batch).items():
                outputs.setdefault(name, []).extend(np.atleast_1d(array.copy()))
            for name, array in self.backward(diffs, None, None, **diff).items():
                gradients.setdefault(name, []).extend(np.atleast_1d(array.copy()))
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

    def _layer_index(self, name: str) -> int:
        try:
            names = self.engine.layer_names
            return len(names) - 1 - names[::-1].index(name)
        except ValueError:
            raise NetError(f"the net has no layer named {name!r}") from None

    # Weights -------------------------------------------------------------------------------------

    def copy_from(self, filename: str) -> None:
        """Load a caffemodel (binary, or HDF5 if it ends in `.h5`) by layer name."""
        self.before_weights_change()
        tell([copy_trained_file(self.engine, str(filename), advice=RENAME_ADVICE)])
        give_back_freed_memory()

    def share_with(self, other: Net) -> None:
        """Use the other net's learnt blobs for layers of the same name."""
        self.share_parameters()
        other.share_parameters()
        self.engine.share_from(other.engine)
        self.wrap_parameters()

    def save(self, filename: str) -> None:
        """Write a binary caffemodel."""
        self.flush_parameters()
        write_binary(str(filename), self.engine.to_proto())

    def save_hdf5(self, filename: str, write_diff: bool = False) -> None:
        """Write a caffemodel.h5."""
        self.flush_parameters()
        save_hdf5(self.engine, str(filename), diff=write_diff)

    def load_hdf5(self, filename: str) -> None:
        """Load a caffemodel.h5."""
        self.before_weights_change()
        tell([load_hdf5(self.engine, str(filename))])

    def set_input_arrays(self, data: Array, labels: Array) -> None:
        """Give the MemoryData layer, which must be the first, its items; they are used in place."""
        first = self._layers[0]
        if not isinstance(first, MemoryData):
            raise CaffeError("set_input_arrays may only be called if the first layer is MemoryData")
        first.set_arrays(data, labels)
