"""PriorBox in ONNX, for files that take pictures of any size; with one size, priors are constants.

Corners are computed in double precision and rounded once, as `caffe_ssd.boxes.priors` does.
"""

from __future__ import annotations

import torch

from caffe_ssd.engines.onnx_layers import Place, writes
from caffe_ssd.layers.prior_box import PriorBox


@writes(PriorBox)
def _prior_box(layer: PriorBox, place: Place) -> None:
    node, constant = place.node, place.graph.constant
    double = place.graph.kind("DOUBLE")
    cells = _plane(place, 0)
    image = _plane(place, 1)
    if layer.image_size is not None:
        image = [constant(torch.tensor(float(n), dtype=torch.float64)) for n in layer.image_size]
    sizes = [_as_list(place, size) for size in cells]
    places = constant([len(layer.offsets)])
    centers = []
    for axis in (1, 0):  # x, y
        if layer.step is None:
            step = node("Cast", [node("Div", [image[axis], cells[axis]])], to=_float(place))
        else:
            step = constant(float(layer.step[axis]))
        end = node("Cast", [cells[axis]], to=place.graph.kind("INT64"))
        numbers = node("Cast", [node("Range", [constant(0), end, constant(1)])], to=_float(place))
        offsets = constant(torch.tensor([pair[axis] for pair in layer.offsets]))
        within = node("Add", [node("Unsqueeze", [numbers, constant([1])]), offsets])
        middle = node("Cast", [node("Mul", [within, step])], to=double)
        spread = node("Unsqueeze", [middle, constant([1 - axis])])  # [H, 1, K] or [1, W, K]
        spread = node("Expand", [spread, node("Concat", [*sizes, places], axis=0)])
        centers.append(node("Unsqueeze", [spread, constant([3])]))
    center = node("Concat", centers, axis=3)  # [H, W, K or 1, 2]
    half = constant(torch.tensor(layer.sizes, dtype=torch.float64) / 2)
    corners = [node("Sub", [center, half]), node("Add", [center, half])]
    sides = [_unsqueezed(place, image[axis]) for axis in (1, 0, 1, 0)]
    boxes = node("Div", [node("Concat", corners, axis=3), node("Concat", sides, axis=0)])
    boxes = node("Cast", [boxes], to=_float(place))
    if layer.clip:
        boxes = node("Clip", [boxes, constant(0.0), constant(1.0)])
    variances = node("Expand", [constant(torch.tensor(layer.variances)), node("Shape", [boxes])])
    flat = [node("Reshape", [x, constant([1, 1, -1])]) for x in (boxes, variances)]
    place.last("Concat", flat, axis=1)


def _plane(place: Place, bottom: int) -> list[str]:
    """Height and width of a bottom as doubles."""
    shape = place.node("Shape", [place.bottoms[bottom]])
    double = place.graph.kind("DOUBLE")
    sizes = [place.node("Gather", [shape, place.graph.constant(i)], axis=0) for i in (2, 3)]
    return [place.node("Cast", [size], to=double) for size in sizes]


def _as_list(place: Place, size: str) -> str:
    return place.node("Cast", [_unsqueezed(place, size)], to=place.graph.kind("INT64"))


def _unsqueezed(place: Place, number: str) -> str:
    return place.node("Unsqueeze", [number, place.graph.constant([0])])


def _float(place: Place) -> int:
    return place.graph.kind("FLOAT")
