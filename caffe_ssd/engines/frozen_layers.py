"""The modules that exact rewriting of a net in phase TEST puts in place of its layers.

They hold plain tensors instead of learnable blobs, and know neither prototxt nor training.

Letters: N images, C channels, M outputs, G groups.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from caffe_ssd.layers.conv_geometry import ConvGeometry
from caffe_ssd.layers.convolution import convolve
from caffe_ssd.layers.deconvolution import deconvolve
from caffe_ssd.layers.pool_window import Window


class FrozenConvolution(nn.Module):
    """A convolution over (N, C, H, W), or its transpose, with all that follows it per channel.

    What folds multiply the weight by is kept beside it, so that the weight stays the net's own
    blob; `multiplied` is for those who run it.

    Args:
        weight: (M, C / G, kernel...); transposed (C, M / G, kernel...).
        bias: (M,) or None.
        geometry: see `ConvGeometry`; its axis is 1.
        group: G.
        transposed: whether it is a Deconvolution.
        relu: whether a ReLU follows.
        factors: what the weight is multiplied by, each spread over it.
    """

    unscaled: Tensor
    bias: Tensor | None

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        *,
        geometry: ConvGeometry,
        group: int,
        transposed: bool = False,
        relu: bool = False,
        factors: tuple[Tensor, ...] = (),
    ) -> None:
        super().__init__()
        self.register_buffer("unscaled", weight)
        self.register_buffer("bias", bias)
        self.num_factors = len(factors)
        for i, factor in enumerate(factors):
            self.register_buffer(f"factor{i}", factor)
        self.geometry = geometry
        self.group = group
        self.transposed = transposed
        self.relu = relu

    @property
    def factors(self) -> tuple[Tensor, ...]:
        """What the weight is multiplied by."""
        return tuple(getattr(self, f"factor{i}") for i in range(self.num_factors))

    @property
    def weight(self) -> Tensor:
        """The weight times its factors."""
        return reduce(torch.mul, self.factors, self.unscaled)

    @property
    def multiplied(self) -> FrozenConvolution:
        """The same without factors; its weight is a copy if there were any."""
        return self._copy(self.weight, self.bias, ()) if self.factors else self

    def scaled(self, factor: Tensor, bias: Tensor | None) -> FrozenConvolution:
        """The same convolution with one more factor and another bias."""
        return self._copy(self.unscaled, bias, (*self.factors, factor))

    def with_relu(self) -> FrozenConvolution:
        """The same convolution with a ReLU behind it."""
        copy = self._copy(self.unscaled, self.bias, self.factors)
        copy.relu = True
        return copy

    def _copy(
        self, weight: Tensor, bias: Tensor | None, factors: tuple[Tensor, ...]
    ) -> FrozenConvolution:
        return FrozenConvolution(
            weight,
            bias,
            geometry=self.geometry,
            group=self.group,
            transposed=self.transposed,
            relu=self.relu,
            factors=factors,
        )

    @property
    def num_output(self) -> int:
        """M."""
        shape = self.unscaled.shape
        return shape[1] * self.group if self.transposed else shape[0]

    @property
    def reads_no_padding(self) -> bool:
        """Whether every top cell is a weighted sum of bottom cells alone, never of padding."""
        ones = (1, *self.geometry.kernel)
        pads = (*self.geometry.pad, *self.geometry.pad_behind)
        return not self.transposed and not any(pads) and max(ones) == 1

    def forward(self, bottom: Tensor) -> Tensor:
        apply = deconvolve if self.transposed else convolve
        top = apply(bottom, self.weight, self.bias, geometry=self.geometry, group=self.group)
        return F.relu_(top) if self.relu else top


class FrozenInnerProduct(nn.Module):
    """A fully connected layer.

    Args:
        weight: (M, K).
        bias: (M,) or None.
        axis: first axis of an item.
        relu: whether a ReLU follows.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self, weight: Tensor, bias: Tensor | None, *, axis: int, relu: bool = False
    ) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.axis = axis
        self.relu = relu

    def forward(self, bottom: Tensor) -> Tensor:
        top = F.linear(bottom.flatten(self.axis), self.weight, self.bias)
        return F.relu_(top) if self.relu else top


class ChannelAffine(nn.Module):
    """x * scale + shift per channel, perhaps with a ReLU: what BatchNorm and Scale come to.

    Args:
        scale: (C,).
        shift: (C,).
        relu: whether a ReLU follows.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor, *, relu: bool = False) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)
        self.relu = relu

    def forward(self, bottom: Tensor) -> Tensor:
        top = torch.addcmul(over(self.shift, bottom), bottom, over(self.scale, bottom))
        return F.relu_(top) if self.relu else top


class ChannelClamp(nn.Module):
    """min(max(x, low), high) per channel: what an affine map and a ReLU leave before weights.

    Args:
        low: (C,); may be -inf.
        high: (C,), or None for no upper limit.
    """

    low: Tensor
    high: Tensor | None

    def __init__(self, low: Tensor, high: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("low", low)
        self.register_buffer("high", high)

    def forward(self, bottom: Tensor) -> Tensor:
        low = over(self.low, bottom)
        if self.high is None:
            return torch.maximum(bottom, low)
        return torch.clamp(bottom, low, over(self.high, bottom))


class FrozenMaxPool(nn.Module):
    """Max pooling of windows as the framework makes them, without indices.

    Quirk: a NaN wins; in the layer it never does (docs/fidelity.md).

    Args:
        window: see `Window`.
    """

    def __init__(self, window: Window) -> None:
        super().__init__()
        self.window = window

    def forward(self, bottom: Tensor) -> Tensor:
        window, pad = self.window, self.window.pad
        if window.pad_behind is not None:
            below, right = window.far_pad((bottom.shape[2], bottom.shape[3]))
            bottom = F.pad(bottom, (pad[1], right, pad[0], below), value=-torch.inf)
            pad = (0, 0)
        return F.max_pool2d(bottom, window.kernel, window.stride, pad, ceil_mode=window.rounds_up)


class FrozenNormalize(nn.Module):
    """L2 normalisation over the channels of each position, times a scale per channel.

    Args:
        scale: (C,) or ().
        eps: added to the sum of squares.
    """

    scale: Tensor

    def __init__(self, scale: Tensor, *, eps: float) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.eps = eps

    def forward(self, bottom: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(bottom, dim=1, keepdim=True)
        scale = over(self.scale, bottom) if self.scale.dim() else self.scale
        return (bottom * (norm.square() + self.eps).rsqrt()).mul_(scale)


def over(per_channel: Tensor, x: Tensor) -> Tensor:
    """(C,) shaped to be spread over (N, C, ...)."""
    return per_channel.reshape(-1, *(1,) * (x.dim() - 2))
