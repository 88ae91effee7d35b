"""A net in phase TEST with its weights as they are now: the program that engines run.

    Net -> skip copies -> fold -> fuse -> FrozenNet

A FrozenNet is an ordinary module from input tensors to output tensors. It is made again when
weights change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from caffe_ssd.engines.folding import Program, freeze_affine, fuse_relu, skip_copies
from caffe_ssd.engines.frozen_layers import FrozenMaxPool
from caffe_ssd.errors import NetError
from caffe_ssd.layers.pooling import Pooling
from caffe_ssd.layers.prior_box import PriorBox
from caffe_ssd.layers.registry import Shape, SourceLayer
from caffe_ssd.net import Net
from caffe_ssd.net.passes import Instruction, plain_program, with_last_uses
from caffe_ssd.net.plan import Value, naming

Pass = Callable[[Program, Collection[Value]], Sequence[Instruction]]
NamedValues = tuple[tuple[str, Value], ...]


class FrozenNet(nn.Module):
    """See the module's docstring.

    Args:
        program: the calls in order.
        inputs: names and values that the caller feeds.
        outputs: names and values that are returned.
        shapes: of all values, where the net was made for inputs of certain shapes.
    """

    def __init__(
        self,
        program: Program,
        inputs: NamedValues,
        outputs: NamedValues,
        shapes: Mapping[Value, Shape] | None = None,
    ) -> None:
        super().__init__()
        self.inputs = inputs
        self.outputs = outputs
        self.shapes = {} if shapes is None else shapes
        self.program = with_last_uses(program)
        # Registered so that .to(), state_dict() and compilers find the tensors.
        self.calls = nn.ModuleList(op.layer for op in self.program)

    @property
    def wanted(self) -> tuple[Value, ...]:
        """The values that are returned."""
        return tuple(value for _, value in self.outputs)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        # Nothing but calls: torch.compile shall see one graph.
        values = self._fed(inputs)
        wanted = self.wanted
        for op in self.program:
            _call(op, values, wanted)
        return tuple(values[value] for value in wanted)

    def _fed(self, inputs: Sequence[Tensor]) -> dict[Value, Tensor]:
        return {value: given for (_, value), given in zip(self.inputs, inputs, strict=True)}

    def rewritten(self, *passes: Pass) -> FrozenNet:
        """The net after further passes."""
        program: Program = self.program
        for rewrite in passes:
            program = rewrite(program, self.wanted)
        return FrozenNet(program, self.inputs, self.outputs, self.shapes)

    def specialised(self, *inputs: Tensor) -> FrozenNet:
        """The net for inputs of these shapes: what depends on shapes alone becomes constant.

        Priors are such values, and everything made of priors only.

        Raises:
            LayerError: a layer cannot take the shapes it meets.
        """
        values = self._fed(inputs)
        shapes = {value: tuple(given.shape) for value, given in values.items()}
        fixed: set[Value] = set()
        program = []
        for plain in self.program:
            op = replace(plain, layer=_fitted(plain.layer, [shapes[v] for v in plain.bottoms]))
            from_fixed = bool(op.bottoms) and all(value in fixed for value in op.bottoms)
            is_fixed = isinstance(op.layer, PriorBox | Constant) or from_fixed
            fixed.update(op.tops if is_fixed else ())
            with naming(op.step):
                _call(op, values, (*op.tops, *fixed, *self.wanted))
            tops = [values[value] for value in op.tops]
            shapes.update(zip(op.tops, (tuple(top.shape) for top in tops), strict=True))
            program.append(replace(op, layer=Constant(*tops), bottoms=()) if is_fixed else op)
        return FrozenNet(needed(program, self.wanted), self.inputs, self.outputs, shapes)

    def split(self, takes: Callable[[nn.Module], bool]) -> tuple[FrozenNet, FrozenNet]:
        """Two nets that run one after the other.

        Args:
            takes: whether the first may contain a call of this module.

        Returns:
            The net of all calls that `takes` accepts and whose bottoms come from such calls, and
            the net of the rest. The outputs of the first are the inputs of the second.
        """
        inside = {value for _, value in self.inputs}
        first, second = [], []
        for op in self.program:
            if isinstance(op.layer, Constant):
                inside.update(op.tops)
                first.append(op)
                second.append(op)
            elif takes(op.layer) and inside.issuperset(op.bottoms):
                inside.update(op.tops)
                first.append(op)
            else:
                second.append(op)
        tail = needed(second, self.wanted)
        made = {value for op in tail for value in op.tops}
        read = [value for op in tail for value in op.bottoms]
        crossing = dict.fromkeys(v for v in (*read, *self.wanted) if v not in made)
        between = tuple((f"{value.blob}.{value.version}", value) for value in crossing)
        head = FrozenNet(needed(first, tuple(crossing)), self.inputs, between, self.shapes)
        return head, FrozenNet(tail, between, self.outputs, self.shapes)


def _fitted(layer: nn.Module, bottoms: Sequence[Shape]) -> nn.Module:
    """The quickest module for bottoms of these shapes."""
    if isinstance(layer, Pooling) and layer.is_native_max(bottoms[0]):
        return FrozenMaxPool(layer.window_for(bottoms[0]))
    return layer


class Constant(nn.Module):
    """Tops that never change."""

    def __init__(self, *tops: Tensor) -> None:
        super().__init__()
        for i, top in enumerate(tops):
            self.register_buffer(f"top{i}", top)

    def forward(self) -> tuple[Tensor, ...]:
        return tuple(self.buffers())


def freeze(net: Net, outputs: Collection[str] | None = None) -> FrozenNet:
    """Rewrite a net for inference.

    Args:
        net: in phase TEST, fed through Input layers.
        outputs: names of the wanted blobs; None for the net's outputs.

    Raises:
        NetError: the net is in phase TRAIN, reads records, or has no such blob.
    """
    if net.is_train:
        raise NetError("only a net in phase TEST can be frozen; this one is in phase TRAIN")
    names = tuple(net.outputs if outputs is None else outputs)
    wanted = [net.final_value(name) for name in names]
    whole = plain_program(net.steps, net.layers)
    fed = [op for op in whole if op.step.param.type == "Input"]
    for op in whole:
        if isinstance(op.layer, SourceLayer):
            raise NetError(
                f"layer {op.step.param.name!r} ({op.step.param.type}) reads records; a frozen net "
                "is fed through Input layers, as deploy nets are"
            )
    program = needed([op for op in whole if op not in fed], wanted)
    for rewrite in (skip_copies, freeze_affine, fuse_relu):
        program = rewrite(program, wanted)
    return FrozenNet(
        program,
        tuple((net.blob_names[value.blob], value) for op in fed for value in op.tops),
        tuple(zip(names, wanted, strict=True)),
    )


def needed(program: Program, wanted: Collection[Value]) -> tuple[Instruction, ...]:
    """The calls that the wanted values depend on."""
    reached = set(wanted)
    kept = []
    for op in reversed(program):
        if reached & set(op.tops):
            reached.update(op.bottoms)
            kept.append(op)
    return tuple(reversed(kept))


def _call(op: Instruction, values: dict[Value, Tensor], wanted: Collection[Value]) -> None:
    """Run one call and let go of what nobody needs any more."""
    result = op.layer(*[values[value] for value in op.bottoms])
    tops = (result,) if isinstance(result, Tensor) else result
    for value, top in zip(op.tops, tops, strict=True):
        values[value] = top
    for value in op.last_uses:
        if value not in wanted:
            del values[value]
