"""A net as boxes with links, the form that is folded and drawn.

Boxes stand in the order of the layers. Split and Silence layers have none. A link says which box
makes the bottom and what shape it has.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from caffe_ssd.drawing.labels import describe
from caffe_ssd.layers.registry import Shape
from caffe_ssd.net.plan import Plan, Value
from caffe_ssd.proto.caffe_pb2 import LayerParameter

_WITHOUT_BOX = ("Split", "Silence")
_SOURCES = ("Input", "Parameter", "DummyData", "MemoryData")

KINDS = ("data", "conv", "fc", "pool", "join", "unit", "head", "output", "other")
_KIND_OF = {
    "Convolution": "conv",
    "Deconvolution": "conv",
    "DepthwiseConvolution": "conv",
    "ConvolutionDepthwise": "conv",
    "InnerProduct": "fc",
    "LSTM": "fc",
    "RNN": "fc",
    "Pooling": "pool",
    "Concat": "join",
    "Eltwise": "join",
    "DetectionOutput": "output",
    "DetectionEvaluate": "output",
    "YoloDetectionOutput": "output",
    "Yolov3DetectionOutput": "output",
}


@dataclass(frozen=True, kw_only=True)
class Link:
    """A bottom of a box.

    Args:
        maker: key of the box that makes it.
        shape: of the blob.
    """

    maker: int
    shape: Shape | None = None


@dataclass(frozen=True, kw_only=True)
class Box:
    """One or more layers of a net.

    Args:
        key: what links call it by.
        kind: one of `KINDS`, which decides the colour.
        title: what it does.
        name: of the layer that says most about it.
        lines: more about it.
        layers: the messages of the layers it stands for, in order.
        bottoms: what it reads, in order.
        shape: of its first top; None where there is none.
        count: how many of its kind follow one another.
    """

    key: int
    kind: str
    title: str
    layers: tuple[LayerParameter, ...]
    bottoms: tuple[Link, ...]
    name: str = ""
    lines: tuple[str, ...] = ()
    shape: Shape | None = None
    count: int = 1

    @property
    def type(self) -> str:
        """Of its only layer; nothing for a box of several."""
        return self.layers[0].type if len(self.layers) == 1 else ""

    @property
    def makers(self) -> tuple[int, ...]:
        """Keys of the boxes it reads, each once."""
        return tuple(dict.fromkeys(link.maker for link in self.bottoms))


Graph = tuple[Box, ...]


def graph_of(plan: Plan, shapes: Sequence[Shape]) -> Graph:
    """Every layer as a box.

    Args:
        plan: the wired net.
        shapes: of its blobs.
    """
    links: dict[Value, Link] = {}
    boxes = []
    for key, step in enumerate(plan.steps):
        tops = [Link(maker=key, shape=shapes[top.blob]) for top in step.tops]
        if step.param.type == "Split":
            tops = [links[step.bottoms[0]]] * len(step.tops)
        links.update(zip(step.tops, tops, strict=True))
        if step.param.type in _WITHOUT_BOX:
            continue
        boxes.append(
            Box(
                key=key,
                kind=_kind(step.param),
                title=describe(step.param),
                name=step.param.name,
                layers=(step.param,),
                bottoms=tuple(links[value] for value in step.bottoms),
                shape=tops[0].shape if tops else None,
            )
        )
    return tuple(boxes)


def _kind(layer: LayerParameter) -> str:
    if not layer.bottom:
        return "data"
    if layer.type.endswith("Loss"):
        return "output"
    return _KIND_OF.get(layer.type, "other")


def readers_of(graph: Graph) -> dict[int, list[Box]]:
    """The boxes that read each box, by its key, in order."""
    readers: dict[int, list[Box]] = {box.key: [] for box in graph}
    for box in graph:
        for maker in box.makers:
            readers[maker].append(box)
    return readers


def merged(graph: Graph, group: Collection[int], box: Box) -> Graph:
    """The graph with one box in the place of several.

    Args:
        graph: any.
        group: keys of the boxes that go; `box.key` is one of them, and readers of any of them
            read the new box.
        box: stands where the last of them stood.
    """
    last = max(i for i, each in enumerate(graph) if each.key in group)
    kept = []
    for i, each in enumerate(graph):
        if i == last:
            kept.append(box)
        elif each.key not in group:
            kept.append(each)
    return tuple(_relinked(each, group, box.key) for each in kept)


def _relinked(box: Box, group: Collection[int], key: int) -> Box:
    if box.key == key or not any(link.maker in group for link in box.bottoms):
        return box
    bottoms = (replace(b, maker=key) if b.maker in group else b for b in box.bottoms)
    return replace(box, bottoms=tuple(bottoms))
