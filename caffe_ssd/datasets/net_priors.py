"""The priors of a net and how they are matched, without weights or data: `priors_of_net`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from caffe_ssd.errors import NetError
from caffe_ssd.layers.multibox_examples import MatchRule
from caffe_ssd.layers.multibox_loss import MultiBoxLoss
from caffe_ssd.net.cost import net_to_look_at
from caffe_ssd.net.instruction import Instruction, with_last_uses
from caffe_ssd.net.net import Net
from caffe_ssd.net.plan import Value
from caffe_ssd.net.runner import Runner
from caffe_ssd.net.state import filter_net
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, NetState, Phase

_LABEL_WIDTH = 8
_READERS = {"MultiBoxLoss": Phase.TRAIN, "DetectionOutput": Phase.TEST}
_PRIORS = 2  # the bottom of either


@dataclass(frozen=True, kw_only=True)
class NetPriors:
    """What objects are matched with.

    Args:
        boxes: [P, 4] in [0, 1].
        input_size: (height, width) of the net's input, in pixels.
        rule: how they are matched; a net without a loss has the usual one.
        use_difficult: whether difficult objects are learnt from.
    """

    boxes: Tensor
    input_size: tuple[int, int]
    rule: MatchRule = field(default_factory=MatchRule)
    use_difficult: bool = True


def priors_of_net(param: NetParameter) -> NetPriors:
    """Make the priors of a net for training, testing or deployment.

    Args:
        param: an upgraded net.

    Raises:
        NetError: it has no priors, or the size of its input cannot be told.
        LayerError: one layer is refused.
    """
    for kind, phase in _READERS.items():
        state = NetState(phase=phase)
        if any(layer.type == kind for layer in filter_net(param, state).layer):
            return _priors(net_to_look_at(_without_data(param, state), state), kind)
    raise NetError(
        f"the net {param.name!r} has no priors: it has neither a MultiBoxLoss nor a DetectionOutput"
    )


def _without_data(param: NetParameter, state: NetState) -> NetParameter:
    """The net with an input in the place of its database, which need not exist yet."""
    changed = filter_net(param, state)
    for layer in changed.layer:
        if layer.type in ("AnnotatedData", "Data"):
            _make_input(layer)
        del layer.include[:]
    return changed


def _make_input(layer: LayerParameter) -> None:
    size = input_size_of(layer)
    if size is None:
        raise NetError(
            f"layer {layer.name!r} ({layer.type}) does not state the size of its pictures: "
            "transform_param has neither resize_param nor crop_size"
        )
    tops = list(layer.top)
    name = layer.name
    layer.Clear()
    layer.name, layer.type = name, "Input"
    layer.top.extend(tops)
    layer.input_param.shape.add(dim=[1, 3, *size])
    if len(tops) > 1:
        layer.input_param.shape.add(dim=[1, 1, 1, _LABEL_WIDTH])


def input_size_of(layer: LayerParameter) -> tuple[int, int] | None:
    """(height, width) of the pictures that a data layer makes; None if it does not tell."""
    transform = layer.transform_param
    if transform.crop_size:
        return transform.crop_size, transform.crop_size
    if transform.crop_h and transform.crop_w:
        return transform.crop_h, transform.crop_w
    resize = transform.resize_param
    if transform.HasField("resize_param") and resize.height and resize.width:
        return resize.height, resize.width
    return None


def _priors(net: Net, kind: str) -> NetPriors:
    step, layer = next(
        (step, layer)
        for step, layer in zip(net.steps, net.layers, strict=True)
        if step.param.type == kind
    )
    blob = _made(net, step.bottoms[_PRIORS])
    first = next(iter(net.blob_shapes), ())
    if len(first) != 4:
        raise NetError(f"the first blob of net {net.name!r} has shape {first}; need (N, C, H, W)")
    found = NetPriors(boxes=blob[0, 0].reshape(-1, 4).clone(), input_size=(first[2], first[3]))
    if isinstance(layer, MultiBoxLoss):
        return replace(found, rule=layer.match, use_difficult=layer.use_difficult_gt)
    return found


def _made(net: Net, wanted: Value) -> Tensor:
    """The value of a blob that follows from shapes alone."""
    reached, program = {wanted}, list[Instruction]()
    values: dict[Value, Tensor] = {}
    for op in reversed(net.plain_program):
        if not reached.intersection(op.tops):
            continue
        program.insert(0, op)
        if not getattr(op.layer, "reads_only_shapes", False):
            reached.update(op.bottoms)
            continue
        for value in op.bottoms:  # takes no memory, whatever the shape
            values[value] = torch.zeros(()).expand(net.blob_shapes[value.blob])
    with torch.inference_mode():
        Runner(net.context()).run(with_last_uses(program), values, wanted=(wanted,))
    return values[wanted].clone()
