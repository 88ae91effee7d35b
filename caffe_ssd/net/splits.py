"""Inserts a Split layer behind every top that is used more than once.

Spec: caffe-net.md section 4. Split layers are part of a net's identity: their names stand in layer
lists, in blob names and in saved files.

    data -> conv1, conv2

becomes

    data -> data_data_0_split -> data_data_0_split_0 -> conv1
                              -> data_data_0_split_1 -> conv2

Quirk: an explicit loss weight of a top counts as a use, moves to the Split (whose top 0 nobody
    reads then), and all loss weights of the producing layer are cleared, so that a loss layer falls
    back to its implicit weight.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from difflib import get_close_matches

from caffe_ssd.errors import NetError
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter

_Top = tuple[int, int]  # (layer index, top index)

_MOST_SHOWN = 5


def insert_splits(param: NetParameter) -> NetParameter:
    """The net with all Split layers it needs.

    Raises:
        NetError: a bottom has no producer before it.
    """
    uses, producer_of = _count_uses(param)
    split = NetParameter()
    split.CopyFrom(param)
    del split.layer[:]
    next_name: dict[_Top, int] = defaultdict(int)
    for i, source in enumerate(param.layer):
        layer = split.layer.add()
        layer.CopyFrom(source)
        for j, bottom in enumerate(source.bottom):
            top = producer_of[i, j]
            if uses[top] > 1:
                layer.bottom[j] = _split_top(
                    bottom, param.layer[top[0]].name, top[1], next_name[top]
                )
                next_name[top] += 1
        for j, name in enumerate(source.top):
            if uses[i, j] > 1:
                weight = source.loss_weight[j] if j < len(source.loss_weight) else 0.0
                split.layer.append(_split_layer(name, source.name, j, uses[i, j], weight))
                if weight:
                    del layer.loss_weight[:]
                    next_name[i, j] = 1  # top 0 carries the loss
    return split


def _count_uses(param: NetParameter) -> tuple[dict[_Top, int], dict[_Top, _Top]]:
    """How often each top is used, and which top each (layer, bottom) reads."""
    uses: dict[_Top, int] = defaultdict(int)
    producer_of: dict[_Top, _Top] = {}
    newest: dict[str, _Top] = {}
    for i, layer in enumerate(param.layer):
        for j, bottom in enumerate(layer.bottom):
            if bottom not in newest:
                raise NetError(unknown_bottom(bottom, layer.name, j, newest))
            producer_of[i, j] = newest[bottom]
            uses[newest[bottom]] += 1
        for j, top in enumerate(layer.top):
            newest[top] = (i, j)
            if j < len(layer.loss_weight) and layer.loss_weight[j] != 0:
                uses[i, j] += 1
    return uses, producer_of


def unknown_bottom(blob: str, layer: str, index: int, known: Collection[str]) -> str:
    """The message for a bottom that nothing produces.

    Args:
        blob: its name.
        layer: name of the layer that reads it.
        index: which bottom of that layer.
        known: the blobs made before.
    """
    newest_first = list(known)[::-1]
    close = get_close_matches(blob, newest_first, n=3)
    shown = close if close else newest_first[:_MOST_SHOWN]
    hint = f"{'did you mean' if close else 'the last ones made are'}: {', '.join(shown)}"
    return (
        f"Unknown bottom blob '{blob}' (layer '{layer}', bottom index {index}): "
        "no layer before it makes this blob; check the spelling and the order of the layers"
        + (f" ({hint})" if shown else "")
    )


def _split_name(blob: str, layer: str, top: int) -> str:
    return f"{blob}_{layer}_{top}_split"


def _split_top(blob: str, layer: str, top: int, index: int) -> str:
    return f"{_split_name(blob, layer, top)}_{index}"


def _split_layer(blob: str, layer: str, top: int, count: int, weight: float) -> LayerParameter:
    split = LayerParameter(name=_split_name(blob, layer, top), type="Split", bottom=[blob])
    split.top.extend(_split_top(blob, layer, top, k) for k in range(count))
    if weight:
        split.loss_weight.extend([weight] + [0.0] * (count - 1))
    return split
