"""MemoryData: batches of arrays that the program hands over.

Spec: caffe-layers.md section H, caffe-net.md section 13 (`set_input_arrays`).
Quirk: the arrays are used in place, so what is written into them later is seen.
Quirk: transform_param does not apply.

Shapes: N items, C channels, H rows, W columns.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.errors import DataError, LayerError, LayerParamError
from caffe_ssd.layers.registry import LayerSpec, Shape, SourceLayer, register_layer


class MemoryData(SourceLayer):
    """The layer; tops are data (batch_size, C, H, W) and labels (batch_size).

    Args:
        batch_size: items per forward.
        item: (C, H, W).
    """

    def __init__(self, *, batch_size: int, item: Shape) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.item = item
        self._batches: tuple[Tensor, Tensor] | None = None
        self._next = 0

    def set_arrays(self, data: NDArray[np.float32], labels: NDArray[np.float32]) -> None:
        """Give the layer its items; the next forward returns the first batch.

        Args:
            data: (N, C, H, W), float32 and C-contiguous; N is a multiple of the batch size.
            labels: (N) or (N, 1, 1, 1), float32 and C-contiguous.

        Raises:
            DataError: another type or shape.
        """
        for what, array in (("data", data), ("labels", labels)):
            if array.dtype != np.float32 or not array.flags.c_contiguous:
                raise DataError(
                    f"{what} must be float32 and C-contiguous, got {array.dtype} with strides "
                    f"{array.strides}"
                )
        count = len(data)
        if data.shape != (count, *self.item) or labels.shape not in ((count,), (count, 1, 1, 1)):
            raise DataError(
                f"data must have shape (N, {', '.join(map(str, self.item))}) and labels (N), "
                f"got {list(data.shape)} and {list(labels.shape)}"
            )
        if count == 0 or count % self.batch_size:
            raise DataError(f"{count} items are no multiple of the batch size {self.batch_size}")
        self._batches = (
            torch.from_numpy(data).reshape(-1, self.batch_size, *self.item),
            torch.from_numpy(labels).reshape(-1, self.batch_size),
        )
        self._next = 0

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return ((self.batch_size, *self.item), (self.batch_size,))

    def forward(self) -> tuple[Tensor, Tensor]:
        if self._batches is None:
            raise LayerError("has no data yet; call set_input_arrays first")
        data, labels = self._batches
        at = self._next % len(data)
        self._next += 1
        return data[at], labels[at]

    def seek(self, batch: int) -> None:
        self._next = batch


@register_layer("MemoryData", bottoms=0, tops=2)
def _build(spec: LayerSpec) -> MemoryData:
    param = spec.param.memory_data_param
    for name in ("batch_size", "channels", "height", "width"):
        if getattr(param, name) < 1:
            raise LayerParamError(f"{name} must be positive, got {getattr(param, name)}")
    item = (param.channels, param.height, param.width)
    return MemoryData(batch_size=param.batch_size, item=item)
