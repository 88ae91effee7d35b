"""Split: hand one bottom to several readers.

Spec: caffe-layers.md section E.
Quirk: the gradients are added in the order of the tops, which decides the rounding.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.layers.common import refuse_in_place
from caffe_ssd.layers.registry import (
    AT_LEAST_ONE,
    Grouping,
    Layer,
    LayerSpec,
    Shape,
    register_layer,
)


def split(x: Tensor, num_tops: int) -> tuple[Tensor, ...]:
    """Views of x whose gradients add up as ((0 + 1) + 2) + ...

    Each step makes two views, one the last top not yet made and one for all tops before it, so
    autograd never meets more than two gradients at once.
    """
    tops = []
    for _ in range(num_tops - 1):
        tops.append(x.view_as(x))
        x = x.view_as(x)
    tops.append(x)
    return tuple(reversed(tops))


class Split(Layer):
    """The layer.

    Args:
        num_tops: number of readers.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, num_tops: int) -> None:
        super().__init__()
        self.num_tops = num_tops

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return bottoms * self.num_tops

    def forward(self, bottom: Tensor) -> Tensor | tuple[Tensor, ...]:
        tops = split(bottom, self.num_tops)
        return tops if len(tops) > 1 else tops[0]


@register_layer("Split", tops=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> Split:
    refuse_in_place(spec)
    return Split(num_tops=spec.num_tops)
