"""The records of a data layer at several input sizes, for multi-scale testing.

Everything else happens to a picture as the layer's own transformation says, with the same random
numbers where it draws any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from caffe_ssd.data.batches import Batch, BatchReader, LabelKind, Reader
from caffe_ssd.data.resize import Resize
from caffe_ssd.data.transform import Transform
from caffe_ssd.errors import UsageError
from caffe_ssd.proto.caffe_pb2 import ResizeParameter


@dataclass(frozen=True, kw_only=True)
class SizesReader(Reader):
    """Reads a batch once per size.

    Args:
        readers: one per size.
    """

    readers: tuple[BatchReader, ...]

    def read(self, batch: int) -> Batch:
        """Batch number `batch`: the pictures at each size, [N, C, H, W].

        Raises:
            DataError: see `BatchReader.read`.
        """
        return tuple(reader.read(batch)[0] for reader in self.readers)

    def finish(self, batch: Batch) -> Batch:
        pairs = zip(self.readers, batch, strict=True)
        return tuple(reader.finish((data,))[0] for reader, data in pairs)


def at_sizes(reader: BatchReader, sizes: Sequence[tuple[int, int]]) -> SizesReader:
    """A reader of the same records at other sizes.

    Args:
        reader: of the data layer.
        sizes: (height, width), in place of those of `resize_param`.

    Raises:
        UsageError: the transformation cannot be made for another size.
    """
    resize = resize_of(reader.transform)
    for height, width in sizes:
        _check_shape(resize, height, width)
    return SizesReader(
        readers=tuple(
            replace(
                reader,
                label=LabelKind.NONE,
                transform=replace(
                    reader.transform, resize=replace(resize, height=height, width=width)
                ),
            )
            for height, width in sizes
        )
    )


def resize_of(transform: Transform) -> Resize:
    """How a data layer brings pictures to its size, where that size can be another.

    Raises:
        UsageError: it does not resize, crops afterwards, or counts boxes in pixels.
    """
    resize = transform.resize
    if resize is None or transform.crop_size is not None:
        what = "has no resize_param" if resize is None else "crops (crop_size)"
        raise UsageError(
            f"other scales need a data layer that resizes its pictures to the net's input and does "
            f"not crop; this one {what}"
        )
    if resize.height_scale > 0 or resize.width_scale > 0:
        raise UsageError(
            "other scales need boxes relative to the picture; this data layer's resize_param sets "
            "height_scale and width_scale"
        )
    return resize


def _check_shape(resize: Resize, height: int, width: int) -> None:
    """Padding takes another part of an input of another shape; boxes would no longer agree."""
    if resize.mode != ResizeParameter.FIT_LARGE_SIZE_AND_PAD:
        return
    if abs(height * resize.width - width * resize.height) > max(resize.height, resize.width):
        raise UsageError(
            f"scale {height}x{width} has another shape than the data layer's {resize.height}x"
            f"{resize.width}; with FIT_LARGE_SIZE_AND_PAD all scales must have the same"
        )
