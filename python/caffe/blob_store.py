"""The values of a pass, kept in blobs that scripts can see."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence

import torch
from torch import Tensor

from caffe_ssd.layers.blob import Blob
from caffe_ssd.net.plan import Value


class BlobStore(MutableMapping[Value, Tensor]):
    """See the module's docstring.

    Args:
        blobs: the net's, by number.
        device: where the layers run.

    Attributes:
        unwritten: values that are in their memory without being written.
    """

    def __init__(self, blobs: Sequence[Blob], device: torch.device) -> None:
        self._blobs = blobs
        self._device = device
        self.unwritten: set[Value] = set()

    def __getitem__(self, value: Value) -> Tensor:
        blob = self._blobs[value.blob]
        return blob.data_memory.tensor(blob.shape, self._device)

    def __setitem__(self, value: Value, top: Tensor) -> None:
        blob = self._blobs[value.blob]
        blob.reshape(*top.shape)
        if value not in self.unwritten:
            blob.data_memory.write(top)

    def __delitem__(self, value: Value) -> None:
        """Blobs stay."""

    def __iter__(self) -> Iterator[Value]:
        raise NotImplementedError("blobs are asked for by value")

    def __len__(self) -> int:
        return len(self._blobs)
