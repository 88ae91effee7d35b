"""SPP: pool the plane into grids of 1 x 1, 2 x 2, 4 x 4 ... cells and join them.

Spec: caffe-layers.md section B.
Quirk: with a single level the top keeps 4 axes.

Shapes: N images, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import check_rank
from caffe_ssd.layers.pool_window import Pair, Window, average_pool, max_pool
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import SPPParameter


def level_window(sizes: Pair, level: int) -> Window:
    """The window of one level: 2 ^ level bins per axis, the plane centred under them.

    Raises:
        ShapeError: the plane is so small that the padding would reach the kernel size.
    """
    bins = 2**level
    rows, columns = (-(-size // bins) for size in sizes)
    kernel = (rows, columns)
    pad = ((rows * bins - sizes[0] + 1) // 2, (columns * bins - sizes[1] + 1) // 2)
    if pad[0] >= rows or pad[1] >= columns:
        raise ShapeError(
            f"a plane of {list(sizes)} is too small for {bins} x {bins} bins: "
            f"pad {list(pad)} must be below the kernel size {list(kernel)}; lower pyramid_height"
        )
    return Window(kernel=kernel, stride=kernel, pad=pad)


class SPP(Layer):
    """The layer.

    Args:
        pyramid_height: number of levels.
        method: SPPParameter.MAX or AVE.
    """

    def __init__(self, *, pyramid_height: int, method: SPPParameter.PoolMethod) -> None:
        super().__init__()
        self.pyramid_height = pyramid_height
        self.method = method

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        check_rank(bottom, 4)
        sizes = (bottom[2], bottom[3])
        grids = [window.counts(sizes) for window in self._windows(sizes)]
        if len(grids) == 1:
            return ((*bottom[:2], *grids[0]),)
        return ((bottom[0], bottom[1] * sum(rows * columns for rows, columns in grids)),)

    def forward(self, bottom: Tensor) -> Tensor:
        grids = [
            max_pool(bottom, window)[0]
            if self.method == SPPParameter.MAX
            else average_pool(bottom, window)
            for window in self._windows((bottom.shape[2], bottom.shape[3]))
        ]
        return grids[0] if len(grids) == 1 else torch.cat([g.flatten(1) for g in grids], 1)

    def _windows(self, sizes: Pair) -> list[Window]:
        return [level_window(sizes, level) for level in range(self.pyramid_height)]


@register_layer("SPP")
def _build(spec: LayerSpec) -> SPP:
    param = spec.param.spp_param
    if param.pyramid_height < 1:
        raise LayerParamError(f"pyramid_height must be positive, got {param.pyramid_height}")
    if param.pool == SPPParameter.STOCHASTIC:
        raise LayerParamError("pool must be MAX or AVE, got STOCHASTIC")
    layer = SPP(pyramid_height=param.pyramid_height, method=param.pool)
    layer.top_shapes(*spec.bottoms)
    return layer
