"""Draws a net as SVG: `draw_net`.

Net -> boxes and links -> heads grouped, boxes folded -> placed -> SVG
       graph              heads, fold                    layout    svg
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from caffe_ssd.drawing import svg
from caffe_ssd.drawing.fold import fold
from caffe_ssd.drawing.graph import Box, Graph, graph_of
from caffe_ssd.drawing.heads import absorb_paths, group_heads
from caffe_ssd.drawing.labels import shape_text
from caffe_ssd.drawing.layout import Layout, lay_out
from caffe_ssd.errors import NetError
from caffe_ssd.net import Net

_MARGIN_PX = 24.0
_PAD_PX = 9.0
_LINE_PX = 15.0
_TITLE_PX, _TEXT_PX, _HEADING_PX = 13.0, 11.0, 17.0
_MIN_WIDTH_PX = 120.0
_INK, _GREY = "#1f2933", "#66727f"
# Fill and edge of each of `graph.KINDS`.
_COLOURS = {
    "data": ("#eceff3", "#8593a3"),
    "conv": ("#dbe9fb", "#5b8fd0"),
    "fc": ("#dbe9fb", "#5b8fd0"),
    "pool": ("#fbe3d6", "#d58a5c"),
    "join": ("#efe6fa", "#9470c8"),
    "unit": ("#d9f0e1", "#4fa46e"),
    "head": ("#fdf2cd", "#c9a227"),
    "output": ("#f9dbe0", "#cf6679"),
    "other": ("#f3f4f6", "#9aa5b1"),
}


def draw_net(net: Net) -> str:
    """A picture of a net as the text of an SVG file.

    The data flow from above to below. Chains, dense and residual units and their repetitions are
    one box each; the heads of a detector stand beside the maps they read.

    Raises:
        NetError: the net has no layers.
    """
    graph = folded(net)
    if not graph:
        raise NetError("the net has no layers to draw")
    sizes = _sizes(graph)
    layout = lay_out(graph, sizes)
    corners = [corner for wire in layout.wires for corner in wire]
    for key, (x, y) in layout.centres.items():
        width, height = sizes[key]
        corners += [(x - width / 2, y - height / 2), (x + width / 2, y + height / 2)]
    left, top = (min(corner[axis] for corner in corners) for axis in (0, 1))
    right, bottom = (max(corner[axis] for corner in corners) for axis in (0, 1))
    shift = (_MARGIN_PX - left, 2 * _MARGIN_PX + _HEADING_PX - top)
    heading_width = svg.text_width(net.name, _HEADING_PX, is_bold=True)
    width = max(right + shift[0], heading_width + _MARGIN_PX) + _MARGIN_PX
    heading = (width / 2, _MARGIN_PX + _HEADING_PX)
    return svg.document(
        [
            svg.words(heading, net.name, size=_HEADING_PX, colour=_INK, is_bold=True),
            *_elements(graph, sizes, layout, shift),
        ],
        width=width,
        height=bottom + shift[1] + _MARGIN_PX,
        title=net.name,
    )


def folded(net: Net) -> Graph:
    """The boxes of a net's picture."""
    graph = graph_of(net.plan, net.blob_shapes)
    return absorb_paths(fold(group_heads(graph)))


def _elements(
    graph: Graph, sizes: Mapping[int, svg.Size], layout: Layout, shift: svg.Point
) -> Iterator[str]:
    ends: set[svg.Point] = set()
    for wire in layout.wires:
        # Wires that join need no gap between them.
        is_lifted = wire[-1] not in ends
        ends.add(wire[-1])
        yield svg.arrow([(x + shift[0], y + shift[1]) for x, y in wire], is_lifted=is_lifted)
    for box in graph:
        x, y = layout.centres[box.key]
        width, height = sizes[box.key]
        x, top = x + shift[0], y + shift[1] - height / 2
        fill, stroke = _COLOURS[box.kind]
        tip = ", ".join(layer.name for layer in box.layers)
        corner = (x - width / 2, top)
        yield svg.panel(corner, (width, height), fill=fill, stroke=stroke, tip=tip)
        for i, (text, size, colour) in enumerate(_text(box)):
            base = (x, top + _PAD_PX + (i + 0.75) * _LINE_PX)
            yield svg.words(base, text, size=size, colour=colour, is_bold=i == 0)


def _text(box: Box) -> list[tuple[str, float, str]]:
    """(text, font size, colour) of a box's lines; the first is bold."""
    title = box.title if box.count == 1 else f"{box.count} × {box.title}"
    lines = [(title, _TITLE_PX, _INK)]
    lines += [(line, _TEXT_PX, _INK) for line in box.lines]
    shape = shape_text(box.shape) if box.shape is not None and box.kind != "output" else ""
    last = "   ".join(word for word in (box.name, shape) if word)
    return [*lines, (last, _TEXT_PX, _GREY)] if last else lines


def _sizes(graph: Graph) -> dict[int, svg.Size]:
    """(width, height) of each box in pixels; all heads are equally wide."""
    sizes = {}
    for box in graph:
        text = _text(box)
        widths = [
            svg.text_width(line, size, is_bold=i == 0) for i, (line, size, _) in enumerate(text)
        ]
        width = max(*widths, _MIN_WIDTH_PX) + 2 * _PAD_PX
        sizes[box.key] = (width, len(text) * _LINE_PX + 2 * _PAD_PX)
    heads = [box.key for box in graph if box.kind == "head"]
    for key in heads:
        sizes[key] = (max(sizes[head][0] for head in heads), sizes[key][1])
    return sizes
