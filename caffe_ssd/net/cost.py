"""What a net costs: numbers in its blobs, multiplications, memory, priors.

    macs    Convolution, Deconvolution  weights x cells that the kernel visits x images
            InnerProduct                weights x items
            LSTM, RNN                   weights x sequences x time steps (once for a static input)

A multiply-accumulate (MAC) is two floating-point operations. Nothing else is counted: neither
biases, normalisations and activations, nor pooling and what follows the predictions. That is how
papers count, and it is nearly all of the work.

Memory is that of float32 blobs, without the scratch memory of single layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from google.protobuf.message import Message

from caffe_ssd.errors import LayerError
from caffe_ssd.layers.convolution import Convolution
from caffe_ssd.layers.deconvolution import Deconvolution
from caffe_ssd.layers.dropout import Dropout
from caffe_ssd.layers.extensions.squeeze import Squeeze
from caffe_ssd.layers.flatten import Flatten
from caffe_ssd.layers.inner_product import InnerProduct
from caffe_ssd.layers.prior_box import PriorBox
from caffe_ssd.layers.recurrent import Recurrent
from caffe_ssd.layers.registry import Code, Layer, Runtime, Shape
from caffe_ssd.layers.reshape import Reshape
from caffe_ssd.layers.split import Split
from caffe_ssd.net.instruction import Instruction
from caffe_ssd.net.net import Net, build_net
from caffe_ssd.net.plan import Value
from caffe_ssd.net.state import without_result_files
from caffe_ssd.proto.caffe_pb2 import FillerParameter, NetParameter, NetState

FLOAT_BYTES = 4
FLOPS_PER_MAC = 2


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """One layer of a net.

    Args:
        name: the layer's.
        type: the layer's.
        tops: shapes of its tops.
        num_parameters: numbers in its blobs, without those shared with an earlier layer.
        num_macs: multiply-accumulates of a forward pass.
        num_activations: numbers in the blobs it is the first to write; none where it works in
            place.
    """

    name: str
    type: str
    tops: tuple[Shape, ...]
    num_parameters: int
    num_macs: int
    num_activations: int


@dataclass(frozen=True, kw_only=True)
class PriorMap:
    """The priors of one PriorBox layer.

    Args:
        layer: its name.
        height, width: of the map, in cells.
        per_cell: priors in each cell.
    """

    layer: str
    height: int
    width: int
    per_cell: int

    @property
    def count(self) -> int:
        """All priors of the map."""
        return self.height * self.width * self.per_cell


@dataclass(frozen=True, kw_only=True)
class NetCost:
    """A whole net.

    Args:
        layers: in order; Split layers, which the net adds by itself, are left out.
        priors: of its maps, in order.
        peak_activations: most numbers in blobs at any moment of a forward pass that needs no
            backward pass, where blobs are let go after their last reader.
    """

    layers: tuple[LayerCost, ...]
    priors: tuple[PriorMap, ...]
    peak_activations: int

    @property
    def num_parameters(self) -> int:
        """Numbers in its blobs: what a file of weights holds."""
        return sum(layer.num_parameters for layer in self.layers)

    @property
    def num_flops(self) -> int:
        """Floating-point operations of a forward pass."""
        return FLOPS_PER_MAC * sum(layer.num_macs for layer in self.layers)

    @property
    def num_activations(self) -> int:
        """Numbers in all blobs together, as training keeps them for the backward pass."""
        return sum(layer.num_activations for layer in self.layers)

    @property
    def num_priors(self) -> int:
        """Priors of all maps."""
        return sum(each.count for each in self.priors)


def net_to_look_at(param: NetParameter, state: NetState) -> Net:
    """Build a net that is only looked at: no initial values, no result files, no foreign code.

    Python layers stand in it without their code, so the shapes of their tops are unknown. Initial
    values take most of the time of building a net.

    Args:
        param: upgraded; not modified.
        state: phase, level and stages; those of `param` come before it.

    Raises:
        NetError: the graph cannot be run.
        LayerError: one layer is refused.
    """
    plain = without_result_files(param)
    for layer in plain.layer:
        for _, settings in layer.ListFields():
            fields = settings.ListFields() if isinstance(settings, Message) else ()
            for _, value in fields:
                if isinstance(value, FillerParameter):
                    value.Clear()  # still there: which fillers are given tells what a layer is
    whole = NetState()
    whole.MergeFrom(param.state)
    whole.MergeFrom(state)
    try:
        return build_net(plain, whole, Runtime(code=Code.LOOK))
    except LayerError as error:
        unseen = [each.name for each in plain.layer if each.type == "Python" and each.top]
        if unseen:
            error.message += (
                f" (the tops of Python layer {unseen[0]!r} have no known shape, since a net that "
                "is only looked at runs no code)"
            )
        raise


def net_cost(net: Net) -> NetCost:
    """Count what a net costs at the shapes it was built for; nothing runs."""
    rows: list[LayerCost] = []
    priors: list[PriorMap] = []
    seen: set[int] = set()
    shapes = net.blob_shapes
    for step, layer in zip(net.steps, net.layers, strict=True):
        own = [blob for blob in layer.blobs if id(blob) not in seen]
        seen.update(map(id, own))
        if isinstance(layer, Split):
            continue
        bottoms = [shapes[value.blob] for value in step.bottoms]
        first = [shapes[value.blob] for value in step.tops if value.version == 0]
        rows.append(
            LayerCost(
                name=step.param.name,
                type=step.param.type,
                tops=tuple(shapes[value.blob] for value in step.tops),
                num_parameters=sum(blob.numel() for blob in own),
                num_macs=layer_macs(layer, bottoms),
                num_activations=sum(map(prod, first)),
            )
        )
        if isinstance(layer, PriorBox):
            height, width = bottoms[0][2:4]
            per_cell = len(layer.sizes)
            name = step.param.name
            priors.append(PriorMap(layer=name, height=height, width=width, per_cell=per_cell))
    return NetCost(
        layers=tuple(rows), priors=tuple(priors), peak_activations=_peak(net, net.program)
    )


def layer_macs(layer: Layer, bottoms: Sequence[Shape]) -> int:
    """Multiply-accumulates of one layer's forward pass.

    Args:
        layer: any.
        bottoms: their shapes.
    """
    if isinstance(layer, Convolution):  # a Deconvolution, too
        axis = layer.geometry.axis
        tops = layer.top_shapes(*bottoms)
        # A deconvolution's kernel visits the cells of its bottom.
        visited = bottoms if isinstance(layer, Deconvolution) else tops
        cells = sum(prod(shape[:axis]) * prod(shape[axis + 1 :]) for shape in visited)
        return int(layer.blobs[0].numel()) * cells
    if isinstance(layer, InnerProduct):
        return int(layer.blobs[0].numel()) * prod(bottoms[0][: layer.axis])
    if isinstance(layer, Recurrent):
        return _recurrent_macs(layer, bottoms)
    return 0


def _recurrent_macs(layer: Recurrent, bottoms: Sequence[Shape]) -> int:
    steps, sequences = bottoms[0][:2]
    weights = [int(blob.numel()) for blob in layer.blobs if blob.dim() > 1]
    # Second among the weights; its product serves all time steps.
    static = weights.pop(1) if layer.has_static else 0
    return sequences * (steps * sum(weights) + static)


def _peak(net: Net, program: Sequence[Instruction]) -> int:
    """Most numbers alive at once while a program runs and lets go of what nobody needs."""
    shapes = net.blob_shapes
    outputs = {net.final_value(name) for name in net.outputs}
    storage: dict[Value, Value] = {}  # views live in the memory of what they show
    readers: Counter[Value] = Counter()
    alive = peak = 0
    for op in program:
        for value in op.tops:
            owner = storage[op.bottoms[0]] if _makes_views(op) else value
            storage[value] = owner
            alive += prod(shapes[value.blob]) if owner == value else 0
            readers[owner] += 1
        peak = max(peak, alive)
        for value in op.last_uses:
            owner = storage[value]
            readers[owner] -= value not in outputs
            if not readers[owner]:
                alive -= prod(shapes[owner.blob])
    return peak


def _makes_views(op: Instruction) -> bool:
    layer = op.layer
    if isinstance(layer, Dropout):
        return not layer.is_train
    return isinstance(layer, Split | Flatten | Reshape | Squeeze)
