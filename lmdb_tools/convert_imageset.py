"""convert_imageset: images and class numbers -> LMDB of Datum, with the reference's command line.

Spec: ssd-data.md sections 1 and 3.1 (keys, images and order are those of convert_annoset).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from caffe_ssd.desk.console import run_command
from caffe_ssd.desk.flags import FlagParser
from lmdb_tools.annoset import ConvertOptions, convert, read_list
from lmdb_tools.convert_annoset import add_image_flags, check_backend, image_options, in_order
from lmdb_tools.database import check_target

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Turn images and their class numbers into an LMDB for Data layers.

ROOTFOLDER/ is put before every path of the list as it is, so it should end in a slash. Each line of
LISTFILE holds an image and a number. DB_NAME must not exist yet. For boxes, see convert_annoset."""
EXAMPLES = """\
  convert_imageset -resize_height=256 -resize_width=256 -shuffle pictures/ train.txt train_lmdb"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "convert_imageset", argv)


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("convert_imageset", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("root", metavar="ROOTFOLDER/", help="put before every path")
    parser.add_argument("list_file", metavar="LISTFILE", help="images and class numbers")
    parser.add_argument("database", metavar="DB_NAME", help="the database to make")
    add_image_flags(parser)
    parser.add_switch("lenient", help="end the list with a warning at a line that cannot be read")
    args = parser.parse_flags(argv)
    check_backend(args.backend)
    lines = read_list(args.list_file, detection=False, lenient=args.lenient, blanks=True)
    lines = in_order(args, lines, args.list_file)
    logger.info("A total of %d images.", len(lines))
    image = image_options(args)
    check_target(args.database)
    options = ConvertOptions(root=args.root, image=image, check_size=args.check_size, plain=True)
    convert(lines, args.database, options)


if __name__ == "__main__":
    sys.exit(main())
