"""What is exported together with a net: how pictures become its input, and names of its classes."""

from __future__ import annotations

from caffe_ssd.engines.export.part import PictureFacts, Request
from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net
from caffe_ssd.proto.label_map import read_label_map
from caffe_ssd.scoring.calibration import (
    DEFAULT_IMAGES,
    CalibrationPictures,
    calibration_pictures,
    own_transform,
    picture_transform,
)
from caffe_ssd.scoring.loading import PathLike
from caffe_ssd.scoring.picture_detector import MEAN_BGR, MEAN_GREY


def export_request(
    net: Net,
    *,
    batch: int | None = None,
    size: tuple[int, int] | None = None,
    heads: bool = False,
    mean: tuple[float, ...] | None = None,
    scale: float = 1.0,
    label_map: PathLike | None = None,
    calibration: str | None = None,
    images: int | None = None,
) -> Request:
    """All that an exporter needs.

    Args:
        net: in phase TEST, with its weights, on the CPU.
        batch: images in one pass; None for any number where the format can.
        size: (height, width) of the input; None for any where the format can.
        heads: end before DetectionOutput.
        mean: per channel; None for 104, 117, 123, or 0 in grey.
        scale: factor after the mean.
        label_map: a file with the names of the classes.
        calibration: for 8 bits: a folder of pictures or an LMDB; None for float32.
        images: how many of them to take.

    Raises:
        UsageError: the mean does not fit the channels; for 8 bits: the net takes no pictures.
        CaffeError: the label map cannot be read.
    """
    shapes = [net.blob_shapes[net.blob_names.index(name)] for name in net.inputs]
    channels = shapes[0][1] if len(shapes) == 1 and len(shapes[0]) == 4 else None
    if mean is None:
        mean = MEAN_BGR if channels == len(MEAN_BGR) else MEAN_GREY
    elif len(mean) not in (1, channels):
        raise UsageError(
            f"the mean has {len(mean)} values; the net's input has {channels} channels"
        )
    names = {} if label_map is None else dict(read_label_map(label_map).label_to_display_name)
    pictures = None
    if calibration is not None:
        pictures = _pictures(net, size, mean, scale, calibration, images)
    return Request(
        net=net,
        batch=batch,
        size=size,
        heads=heads,
        facts=PictureFacts(mean=mean, scale=scale, class_names=names),
        calibration=pictures,
    )


def _pictures(
    net: Net,
    size: tuple[int, int] | None,
    mean: tuple[float, ...],
    scale: float,
    calibration: str,
    images: int | None,
) -> CalibrationPictures:
    own_transform(net)  # refuses nets that take no pictures
    _, channels, *own_size = net.blob_shapes[net.blob_names.index(net.inputs[0])]
    height, width = own_size if size is None else size
    transform = picture_transform(channels, (height, width), mean=mean, scale=scale)
    images = DEFAULT_IMAGES if images is None else images
    return calibration_pictures(calibration, images, net, transform)
