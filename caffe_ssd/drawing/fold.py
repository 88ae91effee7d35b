"""Makes a graph readable: what belongs together is one box.

    join_chains    conv -> BN -> Scale -> ReLU             one box
    fold_units     x -> conv -> conv -> concat(x, .)       "dense unit"
                   x -> conv -> conv -> sum(x, .)          "residual unit"
    fold_repeats   unit -> unit -> unit                    "3 × unit"

Only what nobody else looks into is folded: all readers of the hidden boxes lie in the same box.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from caffe_ssd.drawing.graph import Box, Graph, merged, readers_of
from caffe_ssd.drawing.labels import describe
from caffe_ssd.proto.caffe_pb2 import LayerParameter

_CONVOLUTIONS = (
    "Convolution", "Deconvolution", "DepthwiseConvolution", "ConvolutionDepthwise"
)  # fmt: skip
_MAIN = (*_CONVOLUTIONS, "InnerProduct", "Eltwise")
_TRIMMINGS = (
    "BatchNorm", "BN", "GroupNorm", "Scale", "Bias", "ReLU", "ReLU6", "PReLU", "ELU", "Sigmoid",
    "TanH", "Swish", "HardSwish", "Dropout",
)  # fmt: skip
_WEIGHTED = (*_CONVOLUTIONS, "InnerProduct")
_MOST_WEIGHTED = 10  # layers with weights in a unit, as Inception's have
_LINE_LENGTH = 44
_GATED = "gated unit"
_REPEATED = ("conv", "fc", "unit")


def fold(graph: Graph) -> Graph:
    """All of it."""
    return fold_repeats(fold_units(join_chains(graph)))


def join_chains(graph: Graph) -> Graph:
    """Join each convolution or other main layer with what only normalises and bends its top.

    Where a chain begins with a normalisation, each layer takes what stands before it.
    """
    for chain in _chains(graph):
        for group in _groups(chain):
            if len(group) > 1:
                graph = merged(graph, {box.key for box in group}, _joined(group))
    return graph


def _chains(graph: Graph) -> list[list[Box]]:
    """The longest rows of joinable boxes where each alone reads the one before."""
    readers = readers_of(graph)
    chains: dict[int, list[Box]] = {}  # by the key of their last box
    for box in graph:
        if not _is_joinable(box):
            continue
        before = chains.get(box.makers[0]) if len(box.makers) == 1 else None
        if before is not None and len(readers[before[-1].key]) == 1 and box.type != "Eltwise":
            del chains[before[-1].key]
            chains[box.key] = [*before, box]
        else:
            chains[box.key] = [box]
    return list(chains.values())


def _is_joinable(box: Box) -> bool:
    return box.type in _MAIN or (box.type in _TRIMMINGS and len(box.bottoms) == 1)


def _groups(chain: Sequence[Box]) -> list[list[Box]]:
    """A chain cut into groups with one main layer each."""
    comes_first = chain[0].type in _TRIMMINGS  # the normalisation
    groups: list[list[Box]] = [[]]
    for box in chain:
        has_main = any(each.type in _MAIN for each in groups[-1])
        if has_main and (comes_first or box.type in _MAIN):
            groups.append([])
        groups[-1].append(box)
    if len(groups) > 1 and not any(box.type in _MAIN for box in groups[-1]):
        groups[-2].extend(groups.pop())
    return groups


def _joined(group: Sequence[Box]) -> Box:
    words = []
    for before, box in zip([None, *group], group, strict=False):
        if not (box.type == "Scale" and before is not None and before.type == "BatchNorm"):
            words.append(box.title)
    main = next((box for box in group if box.type in _MAIN), group[0])
    return replace(
        main,
        key=group[-1].key,
        title=" + ".join(words),
        layers=_layers_of(group),
        bottoms=group[0].bottoms,
        shape=group[-1].shape,
    )


def fold_units(graph: Graph) -> Graph:
    """Fold small forks that join again, the smallest first; units hold no units but gates."""
    while True:
        readers = readers_of(graph)
        boxes = {box.key: (i, box) for i, box in enumerate(graph)}
        units = (_unit(box, boxes, readers) for box in graph)
        found = [unit for unit in units if unit is not None]
        if not found:
            return graph
        fork, inside = min(found, key=lambda unit: len(unit[1]))
        graph = merged(graph, {box.key for box in inside}, _unit_box(fork, inside))


def _unit(
    join: Box, boxes: Mapping[int, tuple[int, Box]], readers: Mapping[int, Sequence[Box]]
) -> tuple[Box, list[Box]] | None:
    """The box from which all bottoms of a join come, and what lies behind it up to the join."""
    if len(join.makers) < 2 or join.kind in ("output", "head"):
        return None
    inside = {join.key: join}
    waiting = set(join.makers)
    num_weighted = 0
    while len(waiting) > 1:
        box = max((boxes[key] for key in waiting), key=lambda entry: entry[0])[1]
        waiting.remove(box.key)
        num_weighted += sum(layer.type in _WEIGHTED for layer in box.layers)
        seen_from_outside = any(each.key not in inside for each in readers[box.key])
        is_whole = box.kind == "data" or (box.kind == "unit" and box.title != _GATED)
        if seen_from_outside or is_whole or num_weighted > _MOST_WEIGHTED:
            return None
        inside[box.key] = box
        waiting.update(box.makers)
    return boxes[waiting.pop()][1], list(inside.values())[::-1]


def _unit_box(fork: Box, inside: Sequence[Box]) -> Box:
    *before, join = inside
    lines = _branch_lines(fork, before, join)
    rest = join.title.split(" + ")[1:]
    links = (link for box in inside for link in box.bottoms)
    return Box(
        key=join.key,
        kind="unit",
        title=" + ".join([_unit_title(fork, inside), *rest]),
        name=join.name,
        lines=tuple(lines),
        layers=_layers_of(inside),
        bottoms=tuple(dict.fromkeys(link for link in links if link.maker == fork.key)),
        shape=join.shape,
    )


def _unit_title(fork: Box, inside: Sequence[Box]) -> str:
    word = describe(next(layer for layer in inside[-1].layers if len(layer.bottom) > 1))
    if any(box.title in ("product", _GATED) for box in inside):
        return _GATED
    if word == "sum":
        return "residual unit"
    if word == "concat" and fork.key in inside[-1].makers:
        return "dense unit"
    return f"{len(inside[-1].makers)} branches, {word}"


def _branch_lines(fork: Box, before: Sequence[Box], join: Box) -> list[str]:
    """A line for each branch; the boxes in order where branches fork again."""
    branches: dict[int, list[Box]] = {}  # by the key of their last box
    for box in before:
        if box.makers == (fork.key,):
            branches[box.key] = [box]
        elif len(box.makers) == 1 and box.makers[0] in branches:
            branches[box.key] = [*branches.pop(box.makers[0]), box]
        else:
            return _wrapped([each.title for each in before])
    order = [key for key in join.makers if key in branches]
    return [" → ".join(box.title for box in branches[key]) for key in order]


def _wrapped(titles: Sequence[str]) -> list[str]:
    """Boxes in order, as many on a line as it takes."""
    lines = [titles[0]]
    for title in titles[1:]:
        if len(lines[-1]) + len(title) < _LINE_LENGTH:
            lines[-1] += f", {title}"
        else:
            lines.append(title)
    return lines


def fold_repeats(graph: Graph) -> Graph:
    """Fold boxes that say the same and follow one another."""
    readers = readers_of(graph)
    boxes = {box.key: box for box in graph}
    for box in graph:
        before = boxes.get(box.makers[0]) if len(box.makers) == 1 else None
        if before is None or len(readers[before.key]) != 1 or box.kind not in _REPEATED:
            continue
        if (before.kind, before.title, before.lines) == (box.kind, box.title, box.lines):
            both = replace(
                box,
                name=_span(before, box),
                layers=before.layers + box.layers,
                bottoms=before.bottoms,
                count=before.count + box.count,
            )
            return fold_repeats(merged(graph, {before.key, box.key}, both))
    return graph


def _span(first: Box, last: Box) -> str:
    """`conv1_1 … conv1_3`."""
    return f"{first.name.split(' … ')[0]} … {last.name}"


def _layers_of(boxes: Sequence[Box]) -> tuple[LayerParameter, ...]:
    return tuple(layer for box in boxes for layer in box.layers)
