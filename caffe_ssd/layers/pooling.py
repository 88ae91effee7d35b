"""Pooling: the maximum, the average or a random cell of each window of a plane.

Spec: caffe-layers.md section B; other-forks.md section 9 (rounding, a pad per side). The rules of
the windows are in `pool_window`.
Quirk: STOCHASTIC, which the reference has on GPUs only, runs on any device here.

Shapes: N images, C channels, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import check_rank
from caffe_ssd.layers.conv_geometry import read_sides
from caffe_ssd.layers.pool_window import Pair, Window, average_pool, max_pool
from caffe_ssd.layers.registry import Grouping, Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import PoolingParameter


def stochastic_pool(x: Tensor, window: Window, thresholds: Tensor | None) -> Tensor:
    """A cell of each window, drawn with probability proportional to its value.

    Args:
        x: (N, C, H, W), not negative.
        window: without padding.
        thresholds: (N, C, h, w) in (0, 1]: the first cell in row-major order at which the running
            sum reaches this share of the window's sum is taken. None gives the expected value
            instead, as in phase TEST.

    Returns:
        (N, C, h, w).
    """
    below, right = window.far_pad((x.shape[2], x.shape[3]))
    rows, columns = window.counts((x.shape[2], x.shape[3]))
    cells = F.unfold(F.pad(x, (0, right, 0, below)), window.kernel, stride=window.stride)
    cells = cells.reshape(x.shape[0], x.shape[1], -1, rows, columns)
    total = cells.sum(2)
    if thresholds is None:
        return cells.square().sum(2) / (total + torch.finfo(torch.float32).tiny)
    reached = cells.detach().cumsum(2) >= (thresholds * total.detach()).unsqueeze(2)
    first = reached.to(torch.uint8).argmax(2, keepdim=True)
    return cells.gather(2, first).squeeze(2)


class Pooling(Layer):
    """The layer.

    Args:
        method: PoolingParameter.MAX, AVE or STOCHASTIC.
        window: the window; None for the whole plane, whatever its sizes.
        num_tops: 2 for the indices of the maxima as a second top.
        is_train: for STOCHASTIC, draw rather than take the expected value.
    """

    grouping = Grouping.PER_IMAGE
    draws_on_device = True

    def __init__(
        self,
        *,
        method: PoolingParameter.PoolMethod,
        window: Window | None,
        num_tops: int = 1,
        is_train: bool = False,
    ) -> None:
        super().__init__()
        self.method = method
        self.window = window
        self.num_tops = num_tops
        self.is_train = is_train
        self.can_repeat = method != PoolingParameter.STOCHASTIC or not is_train

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        (bottom,) = bottoms
        check_rank(bottom, 4)
        sizes = (bottom[2], bottom[3])
        counts = self._window(sizes).counts(sizes)
        if min(counts) < 1:
            raise ShapeError(
                f"{self.window} makes sizes {list(counts)} out of {list(sizes)}; "
                "they must be positive"
            )
        return ((*bottom[:2], *counts),) * self.num_tops

    def forward(self, bottom: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        window = self._window((bottom.shape[2], bottom.shape[3]))
        if self.method == PoolingParameter.MAX:
            top, index = max_pool(bottom, window)
            return top if self.num_tops == 1 else (top, index.to(bottom.dtype))
        if self.method == PoolingParameter.AVE:
            return (
                bottom.mean((2, 3), True) if self.window is None else average_pool(bottom, window)
            )
        thresholds = None
        if self.is_train:
            (shape,) = self.top_shapes(tuple(bottom.shape))
            # 1 - [0, 1) is (0, 1]
            thresholds = 1 - torch.rand(shape, dtype=bottom.dtype, device=bottom.device)
        return stochastic_pool(bottom, window, thresholds)

    def window_for(self, bottom: Shape) -> Window:
        """The window that slides over a bottom of this shape, (N, C, H, W)."""
        return self._window((bottom[2], bottom[3]))

    def is_native_max(self, bottom: Shape) -> bool:
        """Whether it takes maxima alone, of windows that the framework makes too."""
        window = self.window_for(bottom)
        plain = self.method == PoolingParameter.MAX and self.num_tops == 1
        return plain and (window.pad_behind is not None or window.is_native((bottom[2], bottom[3])))

    def _window(self, sizes: Pair) -> Window:
        return Window(kernel=sizes) if self.window is None else self.window


@register_layer("Pooling", tops=range(1, 3))
def _build(spec: LayerSpec) -> Pooling:
    param = spec.param.pooling_param
    if spec.num_tops == 2 and param.pool != PoolingParameter.MAX:
        raise ShapeError(
            "the second top, indices of the maxima, needs pool: MAX, "
            f"got {PoolingParameter.PoolMethod.Name(param.pool)}"
        )
    layer = Pooling(
        method=param.pool,
        window=_read_window(param),
        num_tops=spec.num_tops,
        is_train=spec.is_train,
    )
    layer.top_shapes(*spec.bottoms)
    return layer


def _read_window(param: PoolingParameter) -> Window | None:
    stride = _pair(param, "stride", "stride")
    sides = _sides(param)
    pad = _pair(param, "pad", "pad") if sides is None else sides[0]
    stride = (1, 1) if stride is None else stride
    pad = (0, 0) if pad is None else pad
    behind = pad if sides is None else sides[1]
    rounds_up = _rounds_up(param)
    kernel = _pair(param, "kernel_size", "kernel")
    if min(stride) < 1:
        raise LayerParamError(f"stride must be positive, got {list(stride)}")
    if (*pad, *behind) != (0, 0, 0, 0) and param.pool == PoolingParameter.STOCHASTIC:
        raise LayerParamError(f"pad needs pool: MAX or AVE, got pad {list(pad)} with STOCHASTIC")
    if param.global_pooling:
        if kernel is not None:
            raise LayerParamError(f"global_pooling takes no kernel size, got {list(kernel)}")
        if (*pad, *behind) != (0, 0, 0, 0) or stride != (1, 1):
            raise LayerParamError(
                "global_pooling needs pad 0 and stride 1, "
                f"got pad {list(pad)} and stride {list(stride)}"
            )
        return None
    if kernel is None:
        raise LayerParamError("kernel_size is missing; give kernel_size or kernel_h and kernel_w")
    if min(kernel) < 1:
        raise LayerParamError(f"kernel size must be positive, got {list(kernel)}")
    for each in (pad, behind):
        if any(p >= k for p, k in zip(each, kernel, strict=True)):
            raise LayerParamError(f"pad {list(each)} must be below the kernel size {list(kernel)}")
    return Window(
        kernel=kernel,
        stride=stride,
        pad=pad,
        pad_behind=None if pad == behind else behind,
        rounds_up=rounds_up,
    )


def _sides(param: PoolingParameter) -> tuple[Pair, Pair] | None:
    """See `read_sides`."""
    sides = read_sides(param, param.HasField("pad"))
    if sides is not None and sides[0] != sides[1] and param.pool == PoolingParameter.AVE:
        raise LayerParamError(
            "what an average over a pad of its own on each side is divided by is not known; with "
            f"pool: AVE opposite sides must be equal, got top and left {list(sides[0])}, "
            f"bottom and right {list(sides[1])}"
        )
    return sides


def _rounds_up(param: PoolingParameter) -> bool:
    """Whether the number of windows is rounded up, as in the original."""
    up = param.round_mode == PoolingParameter.CEIL
    both = param.HasField("ceil_mode") and param.HasField("round_mode")
    if both and param.ceil_mode != up:
        raise LayerParamError(
            f"ceil_mode: {str(param.ceil_mode).lower()} contradicts round_mode: "
            f"{PoolingParameter.RoundMode.Name(param.round_mode)}; give one of them"
        )
    return param.ceil_mode if param.HasField("ceil_mode") else up


def _pair(param: PoolingParameter, both: str, prefix: str) -> Pair | None:
    """(rows, columns) of a setting given for both axes or per axis; None if not given."""
    given = [name for name in (f"{prefix}_h", f"{prefix}_w") if param.HasField(name)]
    if not given:
        value = getattr(param, both)
        return (value, value) if param.HasField(both) else None
    if param.HasField(both):
        raise LayerParamError(
            f"give either {both} or {prefix}_h and {prefix}_w, got {', '.join([both, *given])}"
        )
    if len(given) != 2:
        raise LayerParamError(
            f"{prefix}_h and {prefix}_w must be given together, got {given[0]} alone"
        )
    return getattr(param, f"{prefix}_h"), getattr(param, f"{prefix}_w")
