"""Pictures for int8: a folder or a database, prepared as the net's own input is."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from caffe_ssd.data.decode import ColorMode
from caffe_ssd.data.draws import Draws
from caffe_ssd.data.mean import Mean
from caffe_ssd.data.records import LmdbSource, RecordSource
from caffe_ssd.data.resize import Resize
from caffe_ssd.data.samples import parse_picture
from caffe_ssd.data.transform import Transform
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.files import read_bytes
from caffe_ssd.net import Net
from caffe_ssd.proto.caffe_pb2 import Datum
from caffe_ssd.scoring.picture_detector import MEAN_BGR, MEAN_GREY
from caffe_ssd.scoring.sources import PICTURE_ENDINGS, picture_files
from caffe_ssd.scoring.whole_set import record_readers

logger = logging.getLogger(__name__)

DEFAULT_IMAGES = 200
ADVICE = "a few hundred pictures of the kind the net is for, not those of the test set"


class CalibrationPictures:
    """The net's input for some pictures, spread evenly over all there are; read when asked for.

    Args:
        source: the pictures' records.
        transform: from a record to the net's input.
        most: how many to take.
    """

    def __init__(self, source: RecordSource, transform: Transform, most: int) -> None:
        self._source = source
        self._transform = transform
        self._count = min(most, len(source))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        """One picture, (1, C, H, W).

        Raises:
            DataError: it cannot be read; says which.
        """
        if not 0 <= index < self._count:
            raise IndexError(index)
        record = index * len(self._source) // self._count
        try:
            sample = parse_picture(self._source[record])
            blob, _ = self._transform(sample, Draws(0, index))
        except DataError as error:
            raise DataError(f"{self._source.where(record)} {error}") from None
        return torch.from_numpy(blob)[None]


class FolderSource:
    """The pictures below a folder as records, ordered by name.

    Args:
        folder: where they are.

    Raises:
        UsageError: there are none.
    """

    def __init__(self, folder: Path) -> None:
        self._paths = picture_files(folder)
        if not self._paths:
            raise UsageError(
                f"{folder} holds neither a database (data.mdb) nor pictures "
                f"({', '.join(PICTURE_ENDINGS)})"
            )

    def __len__(self) -> int:
        return len(self._paths)

    def first(self) -> bytes:
        """Record 0."""
        return self[0]

    def __getitem__(self, index: int) -> bytes:
        """The picture of this number as a Datum.

        Raises:
            DataError: the file cannot be read.
        """
        data = read_bytes(self._paths[index])
        return Datum(data=data, encoded=True).SerializeToString()

    def where(self, index: int) -> str:
        """The picture's file."""
        return str(self._paths[index])


def check_calibration(precision: str, path: str | None, images: int | None) -> None:
    """Make sure that int8 has pictures, and nothing else has.

    Args:
        precision: how the engine calculates.
        path: folder or LMDB.
        images: how many pictures of it to take; None for `DEFAULT_IMAGES`.

    Raises:
        UsageError: it has none, or there are some for nothing.
    """
    if precision == "int8" and path is None:
        raise UsageError(f"precision int8 needs calibration with a folder or an LMDB: {ADVICE}")
    for name, value in (("calibration", path), ("calibration_images", images)):
        if value is not None and precision != "int8":
            raise UsageError(f"{name} belongs to precision int8")
    if images is not None and images < 1:
        raise UsageError(f"calibration_images must be at least 1, got {images}")
    if path is not None:
        open_pictures(path)


def calibration_pictures(
    path: str, images: int, net: Net, transform: Transform | None = None
) -> CalibrationPictures:
    """Pictures as a net takes them.

    Args:
        path: folder or LMDB.
        images: how many to take.
        net: takes them.
        transform: prepares them; None for the net's own way.
    """
    source = open_pictures(path)
    transform = own_transform(net) if transform is None else transform
    pictures = CalibrationPictures(source, transform, images)
    logger.info("Calibrating int8 with %d of %d pictures in %s", len(pictures), len(source), path)
    return pictures


def open_pictures(path: str) -> RecordSource:
    """The pictures of a folder, or of an LMDB.

    Raises:
        UsageError: there are none.
    """
    folder = Path(path)
    if not folder.exists():
        raise UsageError(f"calibration {path}: there is no such folder or database")
    if folder.is_dir() and not (folder / "data.mdb").exists():
        return FolderSource(folder)
    source = LmdbSource(path)
    source.first()
    return source


def picture_transform(
    channels: int,
    size: tuple[int, int],
    *,
    mean: tuple[float, ...] | None = None,
    scale: float = 1.0,
) -> Transform:
    """What `PictureDetector` does to a picture for a net with one Input.

    Args:
        channels: 1 or 3.
        size: (height, width).
        mean: per channel; None for 104, 117, 123, or 0 in grey.
        scale: factor after the mean.
    """
    grey = channels == 1
    if mean is None:
        mean = MEAN_GREY if grey else MEAN_BGR
    height, width = size
    return Transform(
        color=ColorMode.GRAY if grey else ColorMode.COLOR,
        resize=Resize(height=height, width=width),
        mean=Mean(values=np.array(mean, np.float32)[:, None, None]),
        scale=scale,
    )


def own_transform(net: Net) -> Transform:
    """How a net's pictures are prepared: by its data layer, or for its Input.

    Raises:
        UsageError: it takes no pictures.
    """
    for _, reader in record_readers(net):
        return reader.transform
    shapes = [net.blob_shapes[net.blob_names.index(name)] for name in net.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][1] not in (1, 3):
        raise UsageError(
            "int8 is calibrated with pictures, so it needs a net that reads a database or has one "
            f"input (N, 1 or 3, H, W); this one has {[list(shape) for shape in shapes]}"
        )
    _, channels, height, width = shapes[0]
    return picture_transform(channels, (height, width))
