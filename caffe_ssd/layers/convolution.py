"""Convolution: cross-correlation with zero padding over any number of spatial axes up to 3.

Spec: caffe-layers.md section A.
Quirk: output sizes are cut toward zero, so a kernel that sticks out of the padded input by less
than one stride still makes one output; what it misses reads as 0.
Quirk: without a weight_filler the weights start at 0.

Shapes: B batch axes (those before `axis`), C channels, M outputs, G groups, then spatial sizes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import check_same_shapes, learnt_blobs
from caffe_ssd.layers.conv_geometry import ConvGeometry, read_geometry
from caffe_ssd.layers.registry import (
    AT_LEAST_ONE,
    EVERY_BOTTOM,
    Grouping,
    Layer,
    LayerSpec,
    Shape,
    register_layer,
)
from caffe_ssd.proto.caffe_pb2 import ConvolutionParameter

_CONV: tuple[Callable[..., Tensor], ...] = (torch.conv1d, torch.conv1d, torch.conv2d, torch.conv3d)


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, geometry: ConvGeometry, group: int
) -> Tensor:
    """Convolve one bottom.

    Args:
        x: (B..., C, sizes...).
        weight: (M, C / G, kernel...).
        bias: (M,) or None.
        geometry: see `ConvGeometry`.
        group: G.

    Returns:
        (B..., M, sizes...).
    """
    num_axes = len(geometry.kernel)
    batch = x.shape[: geometry.axis]
    stride, pad, dilation = geometry.stride, geometry.pad, geometry.dilation
    # What lies behind beyond `pad`: a side's own padding, or what the kernel sticks out by.
    behind = [
        far - p + max(extent - size - p - far, 0)
        for size, extent, p, far in zip(
            x.shape[geometry.axis + 1 :], geometry.extents, pad, geometry.pad_behind, strict=True
        )
    ]
    if geometry.axis != 1:
        x = x.reshape(math.prod(batch), *x.shape[geometry.axis :])
    if any(behind) or _may_miss_taps(x, geometry):
        x = F.pad(x, [n for p, b in zip(pad[::-1], behind[::-1], strict=True) for n in (p, p + b)])
        pad = (0,) * len(pad)
    if num_axes == 0:  # a 1 x 1 kernel over a single cell
        x, weight = x.unsqueeze(-1), weight.unsqueeze(-1)
        stride, pad, dilation = (1,), (0,), (1,)
    y = _CONV[num_axes](x, weight, bias, stride, pad, dilation, group)
    if num_axes == 0:
        y = y.squeeze(-1)
    return y if geometry.axis == 1 else y.reshape(*batch, *y.shape[1:])


def _may_miss_taps(x: Tensor, geometry: ConvGeometry) -> bool:
    """Whether the backward pass may leave gradients of weights as they lay in memory.

    oneDNN's bfloat16 kernels (seen in PyTorch 2.13) do not write the gradient of a weight that
    meets nothing but padding, as the rim of a 3x3 kernel with stride 2 does on a map of one cell.
    With padding that is really there they do.
    """
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return False
    sizes = x.shape[-len(geometry.stride) :] if geometry.stride else ()
    return any(
        stride > 1 and extent > size
        for stride, extent, size in zip(geometry.stride, geometry.extents, sizes, strict=True)
    )


class Convolution(Layer):
    """The layer; blob 0 is the weight (M, C / G, kernel...), blob 1 the bias (M,) if there is one.

    Args:
        num_output: M.
        channels: C.
        group: G.
        geometry: see `ConvGeometry`.
    """

    backward_reads = EVERY_BOTTOM

    def __init__(
        self, *, num_output: int, channels: int, group: int, geometry: ConvGeometry
    ) -> None:
        super().__init__()
        self.num_output = num_output
        self.channels = channels
        self.group = group
        self.geometry = geometry
        self.grouping = Grouping.along(geometry.axis)

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_same_shapes(bottoms)
        axis = self.geometry.axis
        sizes = self._sizes(check_conv_bottom(bottoms[0], self.channels, self.geometry))
        return ((*bottoms[0][:axis], self.num_output, *sizes),) * len(bottoms)

    def _sizes(self, sizes: Shape) -> Shape:
        return self.geometry.conv_sizes(sizes)

    def _apply_kernel(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return convolve(x, weight, bias, geometry=self.geometry, group=self.group)

    def forward(self, *bottoms: Tensor) -> Tensor | tuple[Tensor, ...]:
        weight = self.blobs[0]
        bias = self.blobs[1] if len(self.blobs) > 1 else None
        if len(bottoms) == 1:
            return self._apply_kernel(bottoms[0], weight, bias)
        return tuple(self._apply_kernel(x, weight, bias) for x in bottoms)


def check_conv_bottom(shape: Shape, channels: int, geometry: ConvGeometry) -> Shape:
    """Check a bottom against the blobs, and return its spatial sizes.

    Raises:
        ShapeError: another number of axes or channels than when the layer was built.
    """
    axis = geometry.axis
    if len(shape) != axis + 1 + len(geometry.kernel) or shape[axis] != channels:
        raise ShapeError(
            f"bottoms must have {axis + 1 + len(geometry.kernel)} axes and {channels} channels "
            f"(axis {axis}), got shape {list(shape)}"
        )
    return shape[axis + 1 :]


def check_conv_settings(
    spec: LayerSpec, param: ConvolutionParameter, geometry: ConvGeometry
) -> int:
    """Check what Convolution and Deconvolution have in common, and return C.

    Raises:
        LayerParamError: invalid num_output or group, or more than 3 spatial axes.
        ShapeError: the numbers of bottoms and tops differ.
    """
    if spec.num_tops != len(spec.bottoms):
        raise ShapeError(
            f"needs as many tops as bottoms ({len(spec.bottoms)}), got {spec.num_tops}"
        )
    if len(geometry.kernel) > 3:
        raise LayerParamError(f"at most 3 spatial axes, the bottom has {len(geometry.kernel)}")
    channels = spec.bottoms[0][geometry.axis]
    if param.num_output < 1:
        raise LayerParamError(f"num_output must be positive, got {param.num_output}")
    if param.group < 1:
        raise LayerParamError(f"group must be positive, got {param.group}")
    if channels % param.group:
        raise LayerParamError(
            f"the number of input channels must be a multiple of group {param.group}, "
            f"got {channels}"
        )
    if param.num_output % param.group:
        raise LayerParamError(
            f"num_output must be a multiple of group {param.group}, got {param.num_output}"
        )
    return channels


@register_layer("Convolution", bottoms=AT_LEAST_ONE, tops=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> Convolution:
    return build_convolution(spec, spec.param.convolution_param)


def build_convolution(spec: LayerSpec, param: ConvolutionParameter) -> Convolution:
    """A convolution with these settings, its blobs filled."""
    geometry = read_geometry(param, spec.bottoms[0], takes_sides=True)
    channels = check_conv_settings(spec, param, geometry)
    layer = Convolution(
        num_output=param.num_output, channels=channels, group=param.group, geometry=geometry
    )
    layer.top_shapes(*spec.bottoms)
    shape = (param.num_output, channels // param.group, *geometry.kernel)
    blobs = [(shape, param.weight_filler)]
    if param.bias_term:
        blobs.append(((param.num_output,), param.bias_filler))
    layer.blobs.extend(learnt_blobs(spec, *blobs))
    return layer
