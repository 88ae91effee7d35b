"""compute_image_mean: the mean image of an LMDB, as a `mean_file` of `transform_param`.

Sums are exact, so the mean is the true one, rounded once; the reference adds up in single
precision, which rounds from some 65,000 images on.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from caffe_ssd.data.decode import decode_datum
from caffe_ssd.data.records import LmdbSource
from caffe_ssd.desk.console import run_command, track
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import DataError
from caffe_ssd.log import cpp_number
from caffe_ssd.proto.binary import write_binary
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum, BlobProto, Datum
from lmdb_tools.convert_annoset import check_backend

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Compute the mean of all images of an LMDB, which must have one size.

The mean image goes to OUTPUT_FILE, a binaryproto for mean_file of transform_param; the log tells
the mean of each channel, for mean_value."""
EXAMPLES = """\
  compute_image_mean train_lmdb mean.binaryproto"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "compute_image_mean", argv)


def image_mean(database: str | os.PathLike[str]) -> NDArray[np.float32]:
    """The mean image of a database of Datum or AnnotatedDatum records.

    Returns:
        [C, H, W], in the records' units: 0 to 255 for pictures; channels are BGR.

    Raises:
        DataError: there is no such database, it is empty, a record is damaged, or they differ in
            size.
    """
    source = LmdbSource(database)
    total: NDArray[np.float64] | None = None
    for index in track(range(len(source)), len(source), "mean"):
        image = _image(source, index).transpose(2, 0, 1)
        if total is None:
            total = np.zeros(image.shape, np.float64)
        if image.shape != total.shape:
            raise DataError(
                f"{source.where(index)} has (channels, height, width) {image.shape}, those before "
                f"{total.shape}: a mean needs one size; convert_imageset -resize_height "
                "-resize_width gives one"
            )
        total += image
        if (index + 1) % 10000 == 0:
            logger.info("Processed %d files.", index + 1)
    if total is None:
        raise DataError(f"data source {os.fspath(database)!r} has no records")
    logger.info("Processed %d files.", len(source))
    return (total / len(source)).astype(np.float32)


def _image(source: LmdbSource, index: int) -> NDArray[np.float64]:
    """The pixels of a record, [H, W, C]."""
    value = source[index]
    try:
        datum = Datum.FromString(value)
        if not datum.HasField("channels"):  # the first field of an AnnotatedDatum is the Datum
            datum = AnnotatedDatum.FromString(value).datum
        return decode_datum(datum).astype(np.float64)
    except (DataError, DecodeError) as error:
        raise DataError(f"{source.where(index)} is no image: {error}") from error


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("compute_image_mean", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("database", metavar="INPUT_DB", help="the LMDB")
    parser.add_argument("output", nargs="?", metavar="OUTPUT_FILE", help="the mean to write")
    parser.add_flag("backend", default="lmdb", help="kind of database; only lmdb is supported")
    args = parser.parse_flags(argv)
    check_backend(args.backend)
    mean = image_mean(args.database)
    channels, height, width = mean.shape
    if args.output is not None:
        logger.info("Write to %s", args.output)
        blob = BlobProto(num=1, channels=channels, height=height, width=width)
        blob.data.extend(mean.ravel().tolist())
        write_binary(args.output, blob)
    logger.info("Number of channels: %d", channels)
    for channel, value in enumerate(mean.mean(axis=(1, 2), dtype=np.float64)):
        logger.info("mean_value channel [%d]: %s", channel, cpp_number(float(value)))


if __name__ == "__main__":
    sys.exit(main())
