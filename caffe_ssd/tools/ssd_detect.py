"""ssd_detect: what a detector finds on the pictures or videos of a list, as lines of text.

Spec: ssd-data.md section 8. One picture at a time through the plain net, whose numbers are the
reference's; `caffe detect` draws, and uses whatever is fastest.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd import devices
from caffe_ssd.data.decode import read_picture
from caffe_ssd.data.mean import Mean
from caffe_ssd.data.video import open_video
from caffe_ssd.desk.console import run_command, show
from caffe_ssd.desk.flags import FlagParser, about_flag
from caffe_ssd.errors import DataError, LayerParamError, UsageError
from caffe_ssd.files import atomic_writer, read_text
from caffe_ssd.log import cpp_number
from caffe_ssd.proto.caffe_pb2 import TransformationParameter
from caffe_ssd.scoring.loading import load_net
from caffe_ssd.scoring.picture_detector import MEAN_BGR, PictureDetector

DESCRIPTION = """\
Find objects on the pictures or videos of a list.

LIST holds a path a line. Each object found is a line 'path label score xmin ymin xmax ymax', in
pixels; of a video, path ends in _ and the number of the frame, in six digits from 000000."""
EXAMPLES = """\
  ssd_detect deploy.prototxt net.caffemodel pictures.txt -out_file found.txt
  ssd_detect -file_type video -confidence_threshold 0.4 deploy.prototxt net.caffemodel videos.txt"""

Image = NDArray[Any]

_WHOLE_NUMBERS = (-(2**31), 2**31 - 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "ssd_detect", argv)


def detection_lines(
    detector: PictureDetector, name: str, picture: Image, threshold: float
) -> Iterator[str]:
    """The lines of one picture, in DetectionOutput's order.

    Args:
        detector: finds.
        name: what each line begins with.
        picture: (height, width, 3), BGR.
        threshold: lowest score.

    Yields:
        Coordinates are cut to whole pixels and may lie outside the picture.

    Raises:
        DataError: the net gives something that is no number.
    """
    height, width = picture.shape[:2]
    scale = np.array([width, height, width, height], np.float32)
    for row in detector.rows([picture]).cpu().numpy():
        if np.isnan(row).any():
            raise DataError(f"{name}: the net gives a box or score that is not a number")
        if row[2] >= np.float32(threshold):
            # Boxes of bad nets may have no end; the reference's whole numbers have 32 bits.
            box = (row[3:] * scale).astype(np.float64).clip(*_WHOLE_NUMBERS).astype(np.int64)
            words = [name, str(int(row[1])), cpp_number(float(row[2])), *map(str, box.tolist())]
            yield " ".join(words)


def pictures_in(path: str, file_type: str) -> Iterator[tuple[str, Image]]:
    """The picture of a file, or a video's frames, each with its name; BGR.

    Raises:
        FileError: the file cannot be read.
        DataError: it is no picture or video.
    """
    if file_type == "image":
        yield path, _as_bgr(read_picture(path, cv2.IMREAD_UNCHANGED))
        return
    video = open_video(path)
    try:
        done, frame = video.read()
        if not done:
            raise DataError(f"{path}: cannot be read as a video")
        number = 0
        while done:
            yield f"{path}_{number:06d}", frame
            number += 1
            done, frame = video.read()
    finally:
        video.release()


def _as_bgr(image: Image) -> Image:
    """(height, width, 3) of a picture in grey or with transparency, which is dropped."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    if channels == 1:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    return image[:, :, :3]


def _run(argv: Sequence[str]) -> None:
    args = _parser().parse_flags(argv)
    with about_flag("gpu"):
        device = devices.choose_devices(args.gpu)[0]
    net = load_net(args.model, args.weights, device=device)
    detector = PictureDetector(net, mean=_mean(args.mean_file, args.mean_value))
    paths = [line.strip() for line in read_text(args.list).split("\n") if line.strip()]
    if not paths:
        raise DataError(f"{args.list} names no file")

    def detect_all(write: Callable[[str], object]) -> None:
        for path in paths:
            for name, picture in pictures_in(path, args.file_type):
                for line in detection_lines(detector, name, picture, args.confidence_threshold):
                    write(line)

    if not args.out_file:
        detect_all(show)
        return
    with atomic_writer(args.out_file) as file:
        detect_all(lambda line: file.write(f"{line}\n".encode()))


def _parser() -> FlagParser:
    parser = FlagParser("ssd_detect", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("model", metavar="MODEL", help="the deploy net's prototxt")
    parser.add_argument("weights", metavar="WEIGHTS", help="its caffemodel")
    parser.add_argument("list", metavar="LIST", help="the pictures or videos")
    add = parser.add_flag
    add("mean_file", default="", metavar="FILE", help="binaryproto; its mean per channel counts")
    add("mean_value", default=None, metavar="B,G,R", help="one or one per channel (104,117,123)")
    add("file_type", default="image", choices=("image", "video"), help="of the list (%(default)s)")
    add("out_file", default="", metavar="FILE", help="the lines (standard output)")
    add("confidence_threshold", type=float, default=0.01, help="lowest score (%(default)s)")
    add("gpu", default="", metavar="ID", help="the GPU to run on; the CPU if absent")
    return parser


def _mean(file: str, values: str | None) -> tuple[float, ...]:
    """The mean per channel, or one for all."""
    if file and values:
        raise UsageError("give -mean_file or -mean_value, not both")
    if file:
        try:
            mean = Mean.from_param(TransformationParameter(mean_file=file))
        except LayerParamError as error:
            raise DataError(error.message.replace("transform_param.", "-")) from error
        return tuple(mean.per_channel(len(mean.values)).tolist())
    if values is None:
        return MEAN_BGR
    try:
        return tuple(float(word) for word in values.split(",")) if values else (0.0,)
    except ValueError:
        raise UsageError(f"-mean_value is {values!r}; allowed: numbers like 104,117,123") from None


if __name__ == "__main__":
    sys.exit(main())
