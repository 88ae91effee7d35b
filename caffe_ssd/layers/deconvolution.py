"""Deconvolution: transposed convolution, the input-gradient map of a Convolution.

Spec: caffe-layers.md section A.
Quirk: the weight is (C, M / G, kernel...), so the fillers' "fan in" is M / G * kernel cells.

Shapes: as in `convolution`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from caffe_ssd.layers.common import learnt_blobs
from caffe_ssd.layers.conv_geometry import ConvGeometry, read_geometry
from caffe_ssd.layers.convolution import Convolution, check_conv_settings
from caffe_ssd.layers.registry import AT_LEAST_ONE, LayerSpec, Shape, register_layer

_DECONV: tuple[Callable[..., Tensor], ...] = (
    torch.conv_transpose1d,
    torch.conv_transpose1d,
    torch.conv_transpose2d,
    torch.conv_transpose3d,
)


def deconvolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, geometry: ConvGeometry, group: int
) -> Tensor:
    """Deconvolve one bottom.

    Args:
        x: (B..., C, sizes...).
        weight: (C, M / G, kernel...).
        bias: (M,) or None.
        geometry: see `ConvGeometry`.
        group: G.

    Returns:
        (B..., M, sizes...).
    """
    num_axes = len(geometry.kernel)
    batch = x.shape[: geometry.axis]
    stride, pad, dilation = geometry.stride, geometry.pad, geometry.dilation
    if geometry.axis != 1:
        x = x.reshape(math.prod(batch), *x.shape[geometry.axis :])
    if num_axes == 0:  # a 1 x 1 kernel over a single cell
        x, weight = x.unsqueeze(-1), weight.unsqueeze(-1)
        stride, pad, dilation = (1,), (0,), (1,)
    no_extra = (0,) * len(stride)
    y = _DECONV[num_axes](x, weight, bias, stride, pad, no_extra, group, dilation)
    if num_axes == 0:
        y = y.squeeze(-1)
    return y if geometry.axis == 1 else y.reshape(*batch, *y.shape[1:])


class Deconvolution(Convolution):
    """The layer; blob 0 is the weight (C, M / G, kernel...), blob 1 the bias (M,) if any."""

    def _sizes(self, sizes: Shape) -> Shape:
        return self.geometry.deconv_sizes(sizes)

    def _apply_kernel(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return deconvolve(x, weight, bias, geometry=self.geometry, group=self.group)


@register_layer("Deconvolution", bottoms=AT_LEAST_ONE, tops=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> Deconvolution:
    param = spec.param.convolution_param
    geometry = read_geometry(param, spec.bottoms[0])
    channels = check_conv_settings(spec, param, geometry)
    layer = Deconvolution(
        num_output=param.num_output, channels=channels, group=param.group, geometry=geometry
    )
    layer.top_shapes(*spec.bottoms)
    shape = (channels, param.num_output // param.group, *geometry.kernel)
    blobs = [(shape, param.weight_filler)]
    if param.bias_term:
        blobs.append(((param.num_output,), param.bias_filler))
    layer.blobs.extend(learnt_blobs(spec, *blobs))
    return layer
