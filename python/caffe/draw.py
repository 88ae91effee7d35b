"""Draws a net: layers and blobs as a graph in the DOT language.

Spec: caffe-net.md section 18.

`.dot` and `.gv` files are written as they are; every other format is made by the program `dot` of
Graphviz.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from caffe_ssd.errors import FileError, NetError, UsageError
from caffe_ssd.files import atomic_write
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, PoolingParameter

_COLORS = {
    "Convolution": "#FF5050",
    "Deconvolution": "#FF5050",
    "Pooling": "#FF9900",
    "InnerProduct": "#CC33FF",
}
_OTHER_COLOR = "#6495ED"
LAYER_STYLE_DEFAULT = {"shape": "record", "fillcolor": _OTHER_COLOR, "style": "filled"}
NEURON_LAYER_STYLE = {"shape": "record", "fillcolor": "#90EE90", "style": "filled"}
BLOB_STYLE = {"shape": "octagon", "fillcolor": "#E0E0E0", "style": "filled"}

_TEXT_FORMATS = ("dot", "gv")


@dataclass
class Graph:
    """A drawing.

    Args:
        name: of the net.
        rankdir: direction of growth, LR, TB, BT or RL.

    Attributes:
        nodes: attributes by node name.
        edges: from, to, label.
    """

    name: str
    rankdir: str
    nodes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    edges: list[tuple[str, str, str]] = field(default_factory=list)

    def to_string(self) -> str:
        """The drawing in the DOT language."""
        lines = [f"digraph {_quoted(self.name)} {{", f"  rankdir={self.rankdir};"]
        for name, attributes in self.nodes.items():
            text = ", ".join(f"{key}={_quoted(value)}" for key, value in attributes.items())
            lines.append(f"  {_quoted(name)} [{text}];")
        for start, end, label in self.edges:
            text = f" [label={_quoted(label)}]" if label else ""
            lines.append(f"  {_quoted(start)} -> {_quoted(end)}{text};")
        return "\n".join([*lines, "}", ""])

    def create(self, format: str = "png") -> bytes:
        """The drawing as a file of this format.

        Raises:
            UsageError: Graphviz is not installed, or does not know the format.
        """
        if format in _TEXT_FORMATS:
            return self.to_string().encode()
        program = shutil.which("dot")
        if program is None:
            raise UsageError(
                f"drawing {format!r} needs the program dot of Graphviz, which is not installed; "
                "formats dot and gv do without"
            )
        command = [program, f"-T{format}"]
        done = subprocess.run(command, input=self.to_string().encode(), capture_output=True)
        if done.returncode != 0:
            raise UsageError(f"dot cannot draw {format!r}: {done.stderr.decode().strip()}")
        return done.stdout


def draw_net_to_file(
    caffe_net: NetParameter, filename: str, rankdir: str = "LR", phase: int | None = None
) -> None:
    """Draw a net into a file, in the format that its extension names.

    Args:
        caffe_net: the net as it stands in a prototxt.
        filename: where to.
        rankdir: LR, TB, BT or RL.
        phase: draw only the layers of this phase; None draws all.

    Raises:
        UsageError: the format needs a program that is not installed, or is unknown.
        FileError: the file cannot be written.
    """
    extension = Path(filename).suffix[1:]
    if not extension:
        raise FileError(f"{filename!r} has no extension that names a format, such as .dot or .png")
    atomic_write(filename, draw_net(caffe_net, rankdir, extension, phase))


def draw_net(
    caffe_net: NetParameter, rankdir: str, ext: str = "png", phase: int | None = None
) -> bytes:
    """Draw a net; see `draw_net_to_file`.

    Returns:
        The content of a file of format `ext`.
    """
    return get_pydot_graph(caffe_net, rankdir, phase=phase).create(format=ext)


def get_pydot_graph(
    caffe_net: NetParameter, rankdir: str, label_edges: bool = True, phase: int | None = None
) -> Graph:
    """The drawing as a graph that can be written in any format; see `draw_net_to_file`.

    Args:
        caffe_net: the net.
        rankdir: LR, TB, BT or RL.
        label_edges: say numbers of outputs and batch sizes.
        phase: draw only the layers of this phase.

    Raises:
        UsageError: no such direction.
    """
    if rankdir not in ("LR", "TB", "BT", "RL"):
        raise UsageError(f"rankdir is {rankdir!r}; allowed: LR, TB, BT, RL")
    graph = Graph(caffe_net.name or "Net", rankdir)
    for layer in caffe_net.layer:
        if phase is None or _is_in_phase(layer, phase):
            _add_layer(graph, layer, label_edges)
    return graph


def _add_layer(graph: Graph, layer: LayerParameter, label_edges: bool) -> None:
    node = f"{layer.name}_{layer.type}"
    in_place = len(layer.top) == len(layer.bottom) == 1 and layer.top[0] == layer.bottom[0]
    style = LAYER_STYLE_DEFAULT | {"fillcolor": choose_color_by_layertype(layer.type)}
    style = NEURON_LAYER_STYLE if in_place else style
    graph.nodes[node] = {"label": get_layer_label(layer, graph.rankdir), **style}
    for blob in (*layer.bottom, *layer.top):
        graph.nodes[f"{blob}_blob"] = {"label": blob, **BLOB_STYLE}
    for bottom in layer.bottom:
        graph.edges.append((f"{bottom}_blob", node, ""))
    for top in layer.top:
        graph.edges.append((node, f"{top}_blob", get_edge_label(layer) if label_edges else ""))


def _is_in_phase(layer: LayerParameter, phase: int) -> bool:
    if layer.include and layer.exclude:
        raise NetError(f"layer {layer.name!r} has both include and exclude rules")
    if layer.include:
        return any(rule.phase == phase for rule in layer.include)
    return not any(rule.phase == phase for rule in layer.exclude)


def get_pooling_types_dict() -> dict[int, str]:
    """The names of the pooling methods by their numbers."""
    return {number: name for name, number in PoolingParameter.PoolMethod.items()}


def choose_color_by_layertype(layertype: str) -> str:
    """The colour of layers of a type, as `#RRGGBB`."""
    return _COLORS.get(layertype, _OTHER_COLOR)


def get_layer_label(layer: LayerParameter, rankdir: str) -> str:
    """Name, type and window; side by side where the graph grows downwards, else in lines."""
    separator = " " if rankdir in ("TB", "BT") else "\\n"
    return separator.join(_escaped(part) for part in _label_parts(layer))


def _label_parts(layer: LayerParameter) -> Iterator[str]:
    yield layer.name
    if layer.type in ("Convolution", "Deconvolution"):
        yield f"({layer.type})"
        conv = layer.convolution_param
        for what, values, h, w, default in (
            ("kernel size", conv.kernel_size, conv.kernel_h, conv.kernel_w, 1),
            ("stride", conv.stride, conv.stride_h, conv.stride_w, 1),
            ("pad", conv.pad, conv.pad_h, conv.pad_w, 0),
        ):
            sizes = [h, w] if h or w else [*values] or [default]
            yield f"{what}: {'x'.join(str(size) for size in sizes)}"
    elif layer.type == "Pooling":
        pool = layer.pooling_param
        yield f"({PoolingParameter.PoolMethod.Name(pool.pool)} Pooling)"
        for what, value, h, w in (
            ("kernel size", pool.kernel_size, pool.kernel_h, pool.kernel_w),
            ("stride", pool.stride, pool.stride_h, pool.stride_w),
            ("pad", pool.pad, pool.pad_h, pool.pad_w),
        ):
            yield f"{what}: {f'{h}x{w}' if h or w else value}"
    else:
        yield f"({layer.type})"


def get_edge_label(layer: LayerParameter) -> str:
    """What stands on the links from a layer to its tops; nothing for most types."""
    if layer.type == "Data":
        return f"Batch {layer.data_param.batch_size}"
    if layer.type in ("Convolution", "Deconvolution"):
        return str(layer.convolution_param.num_output)
    if layer.type == "InnerProduct":
        return str(layer.inner_product_param.num_output)
    return ""


def _escaped(text: str) -> str:
    """Text inside a record, where these characters would make fields."""
    return "".join(f"\\{c}" if c in r"\{}|<>" else c for c in text)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', r"\"") + '"'
