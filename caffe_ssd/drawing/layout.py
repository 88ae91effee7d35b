"""Gives every box of a graph a place, and every link a way between them.

    tracks 2   1   trunk      heads
           |     [data]
           |     [conv]                   Each box of the left part has a row of its own, in the
           +-----[conv]-->[head]--+       order of the layers: so a level line in that row meets
           |     [conv]           |       no box, and an upright line in a track of its own
           |  +--[sum ]-->[head]--+       neither.
           |  [conv]              |
           |  +->[sum ]-->[head]--+
           +---->[cat ]  [output]<+

Left: the trunk, which is the longest way to the last head, and beside it side chains and links
that jump over boxes. Right: the heads, each level with what it reads, and what follows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from caffe_ssd.drawing.graph import Box, Graph, readers_of
from caffe_ssd.drawing.svg import Point, Size

_ROW_GAP_PX = 20.0
_LANE_GAP_PX = 16.0
_PORT_GAP_PX = 9.0
_HEAD_GAP_PX = 56.0  # between trunk and heads, for a few lanes


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where everything is.

    Args:
        centres: of the boxes, by key.
        wires: corners of the links, in the direction of the data.
    """

    centres: Mapping[int, Point]
    wires: Sequence[Sequence[Point]]


@dataclass(eq=False, kw_only=True)
class _Strand:
    """What takes a part of a track: a side chain with its two links, or one link.

    Args:
        first, last: what it leads from and to; a chain may begin or end in its own boxes.
        top, bottom: its rows.
        boxes: of the chain, in order; none for a link.
        width: of the widest.
    """

    first: int
    last: int
    top: float
    bottom: float
    boxes: tuple[int, ...] = ()
    width: float = 0.0
    x: float = 0.0

    def overlaps(self, other: _Strand) -> bool:
        return self.top < other.bottom and other.top < self.bottom


@dataclass(kw_only=True)
class _Sheet:
    """The picture while it is made.

    Args:
        graph: what is drawn.
        sizes: (width, height) of the boxes, by key.
        right: keys of the boxes that stand in the column of the heads.
        x, y: of the boxes' centres, by key.
        wires: see `Layout`.
    """

    graph: Graph
    sizes: Mapping[int, Size]
    right: frozenset[int]
    x: dict[int, float] = field(default_factory=dict)
    y: dict[int, float] = field(default_factory=dict)
    wires: list[list[Point]] = field(default_factory=list)

    @property
    def left_boxes(self) -> list[Box]:
        return [box for box in self.graph if box.key not in self.right]

    @property
    def right_boxes(self) -> list[Box]:
        return [box for box in self.graph if box.key in self.right]

    def edge(self, key: int, direction: int) -> float:
        """x of a box's left (-1) or right (1) edge."""
        return self.x[key] + direction * self.sizes[key][0] / 2

    def end(self, key: int, direction: int) -> Point:
        """The middle of a box' upper (-1) or lower (1) edge."""
        return self.x[key], self.y[key] + direction * self.sizes[key][1] / 2


def lay_out(graph: Graph, sizes: Mapping[int, Size]) -> Layout:
    """Place the boxes of a graph.

    Args:
        graph: in the order of the layers; at least one box.
        sizes: (width, height) of the boxes, by key.
    """
    sheet = _Sheet(graph=graph, sizes=sizes, right=_right_part(graph))
    _set_rows(sheet)
    trunk = _trunk(sheet)
    _place_left(sheet, trunk)
    if sheet.right:
        column = max(sheet.edge(key, 1) for key in trunk) + _HEAD_GAP_PX
        column += max(sizes[key][0] for key in sheet.right) / 2
        sheet.x.update(dict.fromkeys(sheet.right, column))
        _wire_heads(sheet)
        _wire_right(sheet)
    return Layout(centres={key: (sheet.x[key], sheet.y[key]) for key in sheet.x}, wires=sheet.wires)


def _right_part(graph: Graph) -> frozenset[int]:
    """The heads and all that comes from them."""
    keys: set[int] = set()
    for box in graph:
        if box.kind == "head" or keys.intersection(box.makers):
            keys.add(box.key)
    return frozenset(keys)


def _set_rows(sheet: _Sheet) -> None:
    """Set y: a row for each box of the left part, with room for the head beside it."""
    heads: dict[int, list[Box]] = {}  # by the key of what they read first
    order = {box.key: row for row, box in enumerate(sheet.graph)}
    waiting = []
    for box in sheet.right_boxes:
        if box.kind == "head":
            heads.setdefault(min(box.makers, key=lambda key: order[key]), []).append(box)
        else:
            waiting.append(box)
    top = right_top = 0.0
    for box in sheet.left_boxes:
        half = sheet.sizes[box.key][1] / 2
        centre = top + half
        for head in heads.get(box.key, ()):
            head_half = sheet.sizes[head.key][1] / 2
            if head is heads[box.key][0]:
                centre = max(centre, right_top + head_half)
            sheet.y[head.key] = max(centre, right_top + head_half)
            right_top = sheet.y[head.key] + head_half + _ROW_GAP_PX
        sheet.y[box.key] = centre
        top = centre + half + _ROW_GAP_PX
    for box in waiting:
        half = sheet.sizes[box.key][1] / 2
        sheet.y[box.key] = right_top + half
        right_top += 2 * half + _ROW_GAP_PX


def _trunk(sheet: _Sheet) -> list[int]:
    """The longest way to what the last head reads, or else to any box; keys in order."""
    ways: dict[int, list[int]] = {}
    for box in sheet.left_boxes:
        before = max((ways[key] for key in box.makers), key=len, default=[])
        ways[box.key] = [*before, box.key]
    heads = [box for box in sheet.right_boxes if box.kind == "head"]
    ends = heads[-1].makers if heads else list(ways)
    return max((ways[key] for key in ends), key=len)


def _place_left(sheet: _Sheet, trunk: Sequence[int]) -> None:
    """Set x of the left part and wire it."""
    next_on_trunk = dict(pairwise(trunk))
    strands = _strands(sheet, next_on_trunk, set(trunk))
    sheet.x.update(dict.fromkeys(trunk, 0.0))
    edge = -max(sheet.sizes[key][0] for key in trunk) / 2
    for track in _tracks(strands):
        width = max(strand.width for strand in track)
        edge -= _LANE_GAP_PX + width / 2
        for strand in track:
            strand.x = edge
            sheet.x.update(dict.fromkeys(strand.boxes, edge))
        edge -= width / 2
    for before, after in next_on_trunk.items():
        sheet.wires.append([sheet.end(before, 1), sheet.end(after, -1)])
    ports = _ports(sheet, strands)
    for strand in strands:
        keys = strand.boxes
        if not keys:
            leave, enter = ports[strand, strand.first], ports[strand, strand.last]
            sheet.wires.append([leave, (strand.x, leave[1]), (strand.x, enter[1]), enter])
            continue
        for before, after in pairwise(keys):
            sheet.wires.append([sheet.end(before, 1), sheet.end(after, -1)])
        if strand.first != keys[0]:
            leave = ports[strand, strand.first]
            sheet.wires.append([leave, (strand.x, leave[1]), sheet.end(keys[0], -1)])
        if strand.last != keys[-1]:
            enter = ports[strand, strand.last]
            sheet.wires.append([sheet.end(keys[-1], 1), (strand.x, enter[1]), enter])


def _strands(sheet: _Sheet, next_on_trunk: Mapping[int, int], trunk: set[int]) -> list[_Strand]:
    """The side chains, and all links that are no part of the trunk or of a chain."""
    chains: dict[int, list[int]] = {}  # by the key of their last box
    for box in sheet.left_boxes:
        if box.key not in trunk:
            tail = next((key for key in box.makers if key in chains), None)
            chains[box.key] = [*(chains.pop(tail) if tail is not None else ()), box.key]
    boxes = {box.key: box for box in sheet.left_boxes}
    readers = readers_of(sheet.graph)
    strands = []
    wired = set(next_on_trunk.items())
    for chain in chains.values():
        first = next(iter(boxes[chain[0]].makers), chain[0])
        after = [box.key for box in readers[chain[-1]] if box.key in boxes]
        last = after[0] if after else chain[-1]
        wired |= {(first, chain[0]), (chain[-1], last), *pairwise(chain)}
        strand = _strand(sheet, first, last)
        strand.boxes = tuple(chain)
        strand.width = max(sheet.sizes[key][0] for key in chain)
        strands.append(strand)
    links = ((key, box.key) for box in boxes.values() for key in box.makers)
    return strands + [_strand(sheet, *link) for link in links if link not in wired]


def _strand(sheet: _Sheet, first: int, last: int) -> _Strand:
    top, bottom = sorted((sheet.y[first], sheet.y[last]))
    return _Strand(first=first, last=last, top=top, bottom=bottom)


def _tracks(strands: Sequence[_Strand]) -> list[list[_Strand]]:
    """Share out tracks, the inner ones first, the short strands first."""
    tracks: list[list[_Strand]] = []
    for strand in sorted(strands, key=lambda each: (each.bottom - each.top, each.top)):
        for track in tracks:
            if not any(strand.overlaps(other) for other in track):
                track.append(strand)
                break
        else:
            tracks.append([strand])
    return tracks


def _ports(sheet: _Sheet, strands: Sequence[_Strand]) -> dict[tuple[_Strand, int], Point]:
    """Where strands meet the sides of boxes, in an order in which they do not cross.

    From above: what comes in from near tracks, then from far ones, what goes out to far ones, then
    to near ones. The middle of a right side is left to a head.
    """
    with_head = {key for box in sheet.graph if box.kind == "head" for key in box.makers}
    sides: dict[tuple[int, int], list[tuple[float, _Strand]]] = {}
    for strand in strands:
        for key, is_entry in ((strand.first, False), (strand.last, True)):
            if key in strand.boxes:
                continue
            distance = abs(strand.x - sheet.x[key])
            side = (key, 1 if strand.x > sheet.x[key] else -1)
            # Entries (negative) before exits, near entries and far exits first.
            rank = distance - 1e6 if is_entry else -distance + 1e6
            sides.setdefault(side, []).append((rank, strand))
    ports = {}
    for (key, direction), entries in sides.items():
        entries.sort(key=lambda entry: entry[0])
        gap = min(_PORT_GAP_PX, sheet.sizes[key][1] / (len(entries) + 1))
        for i, (_, strand) in enumerate(entries):
            steps = i - (len(entries) - 1) / 2
            if direction > 0 and key in with_head:
                steps = i - len(entries)
            y = sheet.y[key] + steps * gap
            ports[strand, key] = (sheet.edge(key, direction), y)
    return ports


def _wire_heads(sheet: _Sheet) -> None:
    """Wire what the heads read: level where it can be, else up or down in a lane before them."""
    lanes = []
    for head in sheet.right_boxes:
        for key in head.makers if head.kind == "head" else ():
            if sheet.y[key] == sheet.y[head.key]:
                y = sheet.y[key]
                sheet.wires.append([(sheet.edge(key, 1), y), (sheet.edge(head.key, -1), y)])
            else:
                lanes.append(_strand(sheet, key, head.key))
    tracks = _tracks(lanes)
    for i, track in enumerate(tracks):
        for lane in track:
            trunk_edge = sheet.edge(lane.last, -1) - _HEAD_GAP_PX
            x = trunk_edge + _HEAD_GAP_PX * (i + 1) / (len(tracks) + 1)
            up = -_PORT_GAP_PX if sheet.y[lane.first] > sheet.y[lane.last] else _PORT_GAP_PX
            leave, enter = sheet.y[lane.first] + up, sheet.y[lane.last] - up
            points = [(sheet.edge(lane.first, 1), leave), (x, leave), (x, enter)]
            sheet.wires.append([*points, (sheet.edge(lane.last, -1), enter)])


def _wire_right(sheet: _Sheet) -> None:
    """Wire what follows the heads: their own lines share one lane, links from afar have others."""
    edge = max(sheet.edge(key, 1) for key in sheet.right) + _LANE_GAP_PX
    heads = {box.key for box in sheet.graph if box.kind == "head"}
    order = [box.key for box in sheet.right_boxes]
    lanes = 0
    for before, box in zip([-1, *order], sheet.right_boxes, strict=False):
        for key in box.makers if box.kind != "head" else ():
            if key == before and key not in heads:
                sheet.wires.append([sheet.end(key, 1), sheet.end(box.key, -1)])
                continue
            lanes += key not in heads
            x, port = (edge, 0.0) if key in heads else (edge + lanes * _LANE_GAP_PX, _PORT_GAP_PX)
            start = (sheet.edge(key, 1), sheet.y[key])
            end = (sheet.edge(box.key, 1), sheet.y[box.key] + port)
            sheet.wires.append([start, (x, start[1]), (x, end[1]), end])
