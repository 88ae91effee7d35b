"""Groups what a detector predicts: one box for each map, one for what gathers the predictions.

map -> [L2 norm] -> conv -> Permute -> Flatten -> Concat -> DetectionOutput     loc
                 -> conv -> Permute -> Flatten -> Concat -> Softmax ->          conf
                 -> PriorBox ->            Concat ->                            priors
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from caffe_ssd.drawing.graph import Box, Graph, Link, merged, readers_of
from caffe_ssd.drawing.labels import describe
from caffe_ssd.proto.caffe_pb2 import LayerParameter

_SINKS = ("DetectionOutput", "MultiBoxLoss")
_PRIORS = ("PriorBox", "PriorBoxClustered")
_PREDICTING = ("Convolution", *_PRIORS)
_GATHERING = (
    "Concat", "Flatten", "Permute", "Reshape", "Softmax", "Sigmoid",
    "BatchNorm", "BN", "GroupNorm", "Scale", "Bias", "ReLU", "ReLU6",
)  # fmt: skip
_ROLES = ("loc", "conf", "priors")  # of a sink's bottoms


@dataclass
class _Found:
    """What stands between the maps and the sink.

    Attributes:
        roles: of the predicting boxes, by key.
        sources: keys of the maps behind each box, by key.
    """

    roles: dict[int, str] = field(default_factory=dict)
    sources: dict[int, frozenset[int]] = field(default_factory=dict)


def group_heads(graph: Graph) -> Graph:
    """Group the heads of a detector; a graph without one sink of predictions stays as it is."""
    sinks = [box for box in graph if box.type in _SINKS]
    if len(sinks) != 1 or len(sinks[0].bottoms) < len(_ROLES):
        return graph
    (sink,) = sinks
    found = _find(graph, sink)
    maps = dict.fromkeys(key for box in graph for key in found.sources.get(box.key, ()))
    boxes = {box.key: box for box in graph}
    heads = []
    for source in maps:
        group = [b for b in graph if found.sources.get(b.key) == frozenset([source])]
        if all(box.type not in _PRIORS for box in group):
            return graph
        heads.append(_head(graph, boxes[source], group, found))
    gathering = [box for box in graph if len(found.sources.get(box.key, ())) > 1]
    for group, head in heads:
        graph = merged(graph, {box.key for box in group}, head)
    hidden = {box.key for group, _ in heads for box in group}
    count = boxes[sink.bottoms[2].maker].shape if maps else None
    whole = replace(
        sink,
        lines=(_sink_line(sink.layers[0], count),),
        layers=(*(layer for box in gathering for layer in box.layers), *sink.layers),
        bottoms=(
            *(Link(maker=head.key) for _, head in heads),
            *(link for link in sink.bottoms if link.maker not in found.sources.keys() | hidden),
        ),
    )
    return merged(graph, {box.key for box in gathering} | {sink.key}, whole)


def absorb_paths(graph: Graph) -> Graph:
    """Let heads take in what only they read: gates, and joins with maps brought to their size."""
    for head in graph:
        if head.kind != "head":
            continue
        boxes = {box.key: box for box in graph}
        readers = readers_of(graph)
        group, words = [head], []
        waiting = list(head.makers)
        while waiting:
            box = boxes[waiting.pop()]
            if _is_path(box) and all(reader in group for reader in readers[box.key]):
                group.append(box)
                words.append(box.title)
                waiting.extend(box.makers)
        if words:
            path = " → ".join(reversed(words))
            links = [link for box in group for link in box.bottoms]
            outer = [link for link in links if link.maker not in {box.key for box in group}]
            layers = tuple(layer for box in reversed(group) for layer in box.layers)
            whole = replace(head, lines=(path, *head.lines), layers=layers, bottoms=tuple(outer))
            graph = merged(graph, {box.key for box in group}, whole)
    return graph


def _is_path(box: Box) -> bool:
    return box.kind == "join" or box.title.startswith(("gated unit", "deconv"))


def _find(graph: Graph, sink: Box) -> _Found:
    """Walk up from the sink to the predicting layers."""
    boxes = {box.key: box for box in graph}
    readers = readers_of(graph)
    found = _Found()

    def walk(key: int, role: str, inside: frozenset[int]) -> frozenset[int]:
        box = boxes[key]
        if key in found.sources:
            return found.sources[key]
        if any(reader.key not in inside for reader in readers[key]):
            return frozenset()
        if box.type in _PREDICTING:
            found.roles[key] = role
            found.sources[key] = frozenset(box.makers[:1])
        elif box.type in _GATHERING and box.bottoms:
            behind = [walk(maker, role, inside | {key}) for maker in box.makers]
            if not all(behind):
                return frozenset()
            found.sources[key] = frozenset().union(*behind)
        return found.sources.get(key, frozenset())

    for role, link in zip(_ROLES, sink.bottoms, strict=False):
        walk(link.maker, role, frozenset([sink.key]))
    return found


def _head(graph: Graph, source: Box, group: Sequence[Box], found: _Found) -> tuple[list[Box], Box]:
    """The boxes that go, and the one in their place."""
    keys = {box.key for box in group}
    link = next(b for box in group for b in box.bottoms if b.maker == source.key)
    words = []
    if source.type == "Normalize" and keys.issuperset(
        box.key for box in readers_of(graph)[source.key]
    ):
        words.append(describe(source.layers[0]))
        group, link = [source, *group], source.bottoms[0]
    priors = next(box for box in group if box.type in _PRIORS)
    convs = [(found.roles[b.key], b) for b in group if b.type == "Convolution"]
    sizes = [f"{role} {box.layers[0].convolution_param.num_output}" for role, box in convs]
    if convs:
        kernel = describe(convs[0][1].layers[0]).split(",")[0]
        trimmed = ["BN"] if any(box.type == "BatchNorm" for box in group) else []
        words.append(" + ".join([f"{kernel} ({', '.join(sizes)})", *trimmed]))
    count, title = _prior_words(priors, link)
    lines = [" → ".join(words), count] if count else [" → ".join(words)]
    return list(group), Box(
        key=max(box.key for box in group),
        kind="head",
        title=title,
        lines=tuple(lines),
        layers=tuple(layer for box in group for layer in box.layers),
        bottoms=(link,),
    )


def _prior_words(priors: Box, link: Link) -> tuple[str, str]:
    """How many priors there are, and on what map."""
    if priors.shape is None or link.shape is None or len(link.shape) != 4:
        return "", "predictions"
    height, width = link.shape[2:]
    count = priors.shape[2] // 4
    per_cell = count // (height * width)
    word = "prior" if per_cell == 1 else "priors"
    return f"{count:,} priors", f"{height}×{width} map, {per_cell} {word} a cell"


def _sink_line(layer: LayerParameter, priors: tuple[int, ...] | None) -> str:
    if layer.type == "DetectionOutput":
        classes = layer.detection_output_param.num_classes
    else:
        classes = layer.multibox_loss_param.num_classes
    words = f"{classes} classes"
    return f"{priors[2] // 4:,} priors, {words}" if priors else words
