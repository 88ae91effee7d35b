"""extract_features: what a net computes for its data, blob by blob, into LMDBs.

Each item of a batch becomes a Datum with float_data, under its number in ten digits. A blob of
fewer than four axes has height and width 1.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from difflib import get_close_matches

import caffe
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.desk.console import run_command, track
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import NetError, UsageError
from caffe_ssd.proto.caffe_pb2 import Datum
from lmdb_tools.convert_annoset import check_backend
from lmdb_tools.database import DatabaseWriter, check_target, new_database

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Run a net over its data and store blobs of it, each in an LMDB of its own.

The net's first layer should be a data layer. BLOBS and DATABASES are lists separated by commas, of
one length; the databases must not exist yet."""
EXAMPLES = """\
  extract_features net.caffemodel train_val.prototxt fc7,pool5 fc7_lmdb,pool5_lmdb 10 lmdb
  extract_features net.caffemodel train_val.prototxt fc7 fc7_lmdb 10 lmdb GPU 0"""

_DEVICES = ("CPU", "GPU")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "extract_features", argv)


def extract(net: caffe.Net, databases: dict[str, str], num_batches: int) -> int:
    """Store blobs of a net.

    Args:
        net: in phase TEST.
        databases: the LMDB to make for each blob.
        num_batches: forward passes.

    Returns:
        The number of records of the last blob.

    Raises:
        NetError: the net has no such blob.
        FileError: a database exists or cannot be written.
    """
    for name in databases:
        if name not in net.blobs:
            close = get_close_matches(name, net.blobs) or list(net.blobs)
            raise NetError(f"the net has no blob {name!r}; it has: {', '.join(close)}")
    counts = dict.fromkeys(databases, 0)
    with ExitStack() as stack:
        writers = {blob: stack.enter_context(new_database(db)) for blob, db in databases.items()}
        for _ in track(range(num_batches), num_batches, "extract"):
            net.forward()
            for blob, writer in writers.items():
                counts[blob] = _put(writer, blob, net.blobs[blob].data, counts[blob])
    for blob, count in counts.items():
        logger.info("Extracted features of %d query images for feature blob %s", count, blob)
    return count


def _put(writer: DatabaseWriter, blob: str, values: NDArray[np.float32], start: int) -> int:
    """Write the items of a batch; returns the number of the next one."""
    if values.ndim > 4:
        raise NetError(f"blob {blob!r} has {values.ndim} axes, but a Datum holds 3 an item")
    items = values.reshape(*values.shape, *[1] * (4 - values.ndim))
    for number, item in enumerate(items, start):
        channels, height, width = item.shape
        datum = Datum(channels=channels, height=height, width=width)
        datum.float_data.extend(item.ravel().tolist())
        writer.put(f"{number:010d}", datum.SerializeToString())
    return start + len(items)


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("extract_features", description=DESCRIPTION, examples=EXAMPLES)
    for name, metavar, text in (
        ("weights", "WEIGHTS", "caffemodel"),
        ("model", "PROTOTXT", "the net, with a data layer"),
        ("blobs", "BLOBS", "names, separated by commas"),
        ("databases", "DATABASES", "one for each blob, separated by commas"),
    ):
        parser.add_argument(name, metavar=metavar, help=text)
    parser.add_argument("batches", metavar="BATCHES", type=int, help="forward passes")
    parser.add_argument("db_type", metavar="DB_TYPE", help="kind of the databases: lmdb")
    parser.add_argument("mode", nargs="?", metavar="CPU|GPU", default="CPU", help="(CPU)")
    parser.add_argument("device", nargs="?", metavar="ID", type=int, default=0, help="GPU (0)")
    args = parser.parse_flags(argv)
    if args.mode not in _DEVICES:
        raise UsageError(f"the device is {args.mode!r}; allowed: {', '.join(_DEVICES)}")
    if args.batches < 1:
        raise UsageError(f"BATCHES must be at least 1, got {args.batches}")
    check_backend(args.db_type)
    databases = _pairs(args.blobs.split(","), args.databases.split(","))
    for database in databases.values():
        check_target(database)
    if args.mode == "GPU":
        caffe.set_device(args.device)
        caffe.set_mode_gpu()
    else:
        caffe.set_mode_cpu()
    extract(caffe.Net(args.model, args.weights, caffe.TEST), databases, args.batches)
    logger.info("Successfully extracted the features!")


def _pairs(blobs: list[str], databases: list[str]) -> dict[str, str]:
    if len(blobs) != len(databases):
        raise UsageError(f"{len(blobs)} blobs need as many databases, not {len(databases)}")
    for names in (blobs, databases):
        if len(set(names)) != len(names):
            raise UsageError(f"a name stands twice in {','.join(names)}")
    return dict(zip(blobs, databases, strict=True))


if __name__ == "__main__":
    sys.exit(main())
