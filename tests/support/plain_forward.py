"""What a detector's body computes, written a second time: one formula per layer type."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class PlainForward:
    """Runs a net in double precision, phase TEST, from its message and learnt blobs alone.

    Args:
        message: its first layer is the input `data`; every layer has one top.
        blobs: the learnt blobs by layer.
    """

    def __init__(self, message: Any, blobs: dict[str, list[np.ndarray]]) -> None:
        self.layers = message.layer
        self.blobs = {
            name: [torch.from_numpy(blob).double() for blob in group]
            for name, group in blobs.items()
        }

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        tops = {"data": image}
        for layer in self.layers:
            if layer.type != "Input":
                bottoms = [tops[name] for name in layer.bottom]
                compute = getattr(self, layer.type.lower())
                tops[layer.top[0]] = compute(layer, *bottoms, *self.blobs.get(layer.name, ()))
        return tops

    def convolution(self, layer: Any, x: Tensor, weight: Tensor) -> Tensor:
        param = layer.convolution_param
        return F.conv2d(x, weight, stride=param.stride[0], padding=param.pad[0])

    def deconvolution(self, layer: Any, x: Tensor, weight: Tensor) -> Tensor:
        """Add the kernel, times the sum over the channels, at every second place."""
        kernel = weight.shape[-1]
        rows, columns = (2 * (size - 1) + kernel for size in x.shape[2:])
        y = torch.zeros(x.shape[0], weight.shape[1], rows, columns, dtype=x.dtype)
        for row in range(x.shape[2]):
            for column in range(x.shape[3]):
                patch = torch.einsum("nc,cmij->nmij", x[:, :, row, column], weight)
                y[:, :, 2 * row : 2 * row + kernel, 2 * column : 2 * column + kernel] += patch
        return y

    def batchnorm(self, layer: Any, x: Tensor, *statistics: Tensor) -> Tensor:
        mean, variance, factor = statistics
        mean, variance = (s[:, None, None] / factor for s in (mean, variance))
        return (x - mean) / torch.sqrt(variance + layer.batch_norm_param.eps)

    def scale(self, layer: Any, x: Tensor, *factors: Tensor) -> Tensor:
        factor, *bias = factors
        if bias:
            return x * factor[:, None, None] + bias[0][:, None, None]
        return x * factor.reshape(*factor.shape, *[1] * (4 - factor.dim()))

    def relu(self, layer: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    def sigmoid(self, layer: Any, x: Tensor) -> Tensor:
        return 1 / (1 + torch.exp(-x))

    def pooling(self, layer: Any, x: Tensor) -> Tensor:
        param = layer.pooling_param
        if param.global_pooling:
            return x.mean(dim=(2, 3), keepdim=True)
        return F.max_pool2d(x, param.kernel_size, param.stride, ceil_mode=True)

    def innerproduct(self, layer: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return x.flatten(1) @ weight.T + bias

    def concat(self, layer: Any, *bottoms: Tensor) -> Tensor:
        return torch.cat(bottoms, dim=1)

    def eltwise(self, layer: Any, *bottoms: Tensor) -> Tensor:
        return sum(bottoms[1:], bottoms[0])

    def reshape(self, layer: Any, x: Tensor) -> Tensor:
        return x.flatten()
