"""ShuffleChannel: interleave groups of channels, as ShuffleNet does between its group convolutions.

Spec: other-forks.md section 3. From farmingyard and imistyrain.

Shapes: N items, C channels in groups of P, then H, W.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import check_rank
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer


def shuffle_channels(x: Tensor, group: int) -> Tensor:
    """Channel i * P + j becomes channel j * group + i.

    Args:
        x: (N, C, H, W), C a multiple of `group`.
        group: how many groups of P neighbours there are.
    """
    grouped = x.reshape(len(x), group, -1, *x.shape[2:])
    return grouped.transpose(1, 2).flatten(1, 2)


class ShuffleChannel(Layer):
    """The layer.

    Args:
        group: see `shuffle_channels`.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(self, *, group: int) -> None:
        super().__init__()
        self.group = group

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        check_rank(bottom, 4)
        if bottom[1] % self.group:
            raise ShapeError(
                f"group {self.group} must divide the channels of bottom 0, got shape {list(bottom)}"
            )
        return bottoms

    def forward(self, bottom: Tensor) -> Tensor:
        return shuffle_channels(bottom, self.group)


@register_layer("ShuffleChannel")
def _build(spec: LayerSpec) -> ShuffleChannel:
    group = spec.param.shuffle_channel_param.group
    if group < 1:
        raise LayerParamError(f"group must be at least 1, got {group}")
    layer = ShuffleChannel(group=group)
    layer.top_shapes(*spec.bottoms)
    return layer
