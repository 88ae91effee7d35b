"""convert_annoset: images and annotations -> LMDB, with the reference's command line.

Spec: ssd-data.md section 3.1.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence

from caffe_ssd.desk.console import run_command
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.proto.label_map import read_label_map
from lmdb_tools.annoset import ConvertOptions, convert, read_list, reading_rules, shuffled
from lmdb_tools.database import check_target
from lmdb_tools.images import ImageOptions

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Turn images and annotations into an LMDB for AnnotatedData layers.

ROOTFOLDER/ is put before every path of the list as it is, so it should end in a slash. Each line of
LISTFILE holds an image and its annotation file (or class number). DB_NAME must not exist yet."""
EXAMPLES = """\
  convert_annoset -anno_type=detection -label_map_file=labelmap.prototxt \\
      -check_label -encode_type=jpg -encoded shapes/ shapes/trainval.txt shapes_trainval_lmdb"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "convert_annoset", argv)


def add_conversion_flags(parser: FlagParser) -> None:
    """Add the flags that say how a list becomes a database."""
    add, add_switch = parser.add_flag, parser.add_switch
    add(
        "anno_type",
        default="classification",
        choices=("classification", "detection"),
        help="what the second column is: a class number, or an annotation file (%(default)s)",
    )
    add(
        "label_type",
        default="xml",
        choices=("xml", "json", "txt"),
        help="format of annotation files: VOC XML, per-image COCO JSON, or text lines 'label xmin "
        "ymin xmax ymax' in pixels (%(default)s)",
    )
    add("label_map_file", default="", help="LabelMap prototxt; detection needs one")
    add_switch("check_label", help="refuse a label map with a name twice")
    add_image_flags(parser)
    for name, text in (
        ("min_dim", "enlarge until the shorter side has these pixels"),
        ("max_dim", "shrink until the longer side has at most these pixels"),
    ):
        add(name, type=int, default=0, metavar="PX", help=f"{text} (0: not)")
    add_switch(
        "repair_xml",
        help="use XML difficult flags that stand behind their box. SSD-Caffe loses them, and so "
        "does this tool without the switch, so that databases come out the same",
    )
    add_switch(
        "as_original",
        help="read XML as SSD-Caffe does to the letter: a coordinate with decimals becomes 0, and "
        "difficult is true only as 1",
    )
    add_switch(
        "lenient",
        help="only warn, as SSD-Caffe does, where an annotation file is missing, a line or value "
        "cannot be read, a label is 0 or not in the map, boxes are fractions, or no image has a "
        "box",
    )


def add_image_flags(parser: FlagParser) -> None:
    """Add the flags that say how the images of a list are stored, whatever goes with them."""
    add, add_switch = parser.add_flag, parser.add_switch
    add("backend", default="lmdb", help="kind of database; only lmdb is supported")
    add_switch("gray", help="load images as grayscale")
    add_switch("shuffle", help="shuffle the list")
    add(
        "shuffle_seed",
        type=int,
        default=-1,
        help="seed of -shuffle; -1, the default, takes another each time",
    )
    for name, text in (
        ("resize_width", "width to resize to, with -resize_height"),
        ("resize_height", "height to resize to, with -resize_width"),
    ):
        add(name, type=int, default=0, metavar="PX", help=f"{text} (0: not)")
    add_switch("check_size", help="refuse raw images of different sizes")
    add_switch("encoded", help="store encoded images, not raw pixels")
    add(
        "encode_type",
        default="",
        help="encoding: jpg, png, ...; implies -encoded. A file that already has it is stored "
        "untouched unless it is resized",
    )


def image_options(args: argparse.Namespace, *, min_dim: int = 0, max_dim: int = 0) -> ImageOptions:
    """What the flags of `add_image_flags` ask for.

    Raises:
        UsageError: there is no such encoding.
    """
    return ImageOptions(
        gray=args.gray,
        height=max(0, args.resize_height),
        width=max(0, args.resize_width),
        min_dim=max(0, min_dim),
        max_dim=max(0, max_dim),
        encoded=args.encoded,
        encode_type=args.encode_type,
    )


def read_lines(args: argparse.Namespace, list_file: str) -> list[tuple[str, str]]:
    """The lines of a list in the order that the flags ask for.

    Raises:
        UsageError: another kind of database than LMDB is asked for.
        DataError: the list names no image; see `read_list`.
    """
    check_backend(args.backend)
    lines = read_list(list_file, detection=args.anno_type == "detection", lenient=args.lenient)
    return in_order(args, lines, list_file)


def in_order(
    args: argparse.Namespace, lines: list[tuple[str, str]], list_file: str
) -> list[tuple[str, str]]:
    """The lines, shuffled if the flags of `add_image_flags` ask for it.

    Raises:
        DataError: there are none.
    """
    if not lines:
        raise DataError(f"{list_file} names no image")
    if args.shuffle:
        lines = shuffled(lines, None if args.shuffle_seed < 0 else args.shuffle_seed)
    return lines


def conversion(args: argparse.Namespace, root: str) -> ConvertOptions:
    """What the flags of `add_conversion_flags` ask for.

    Raises:
        UsageError: there is no label map, but detection needs one.
        CaffeError: it cannot be read.
    """
    detection = args.anno_type == "detection"
    names: Mapping[str, int] = {}
    if detection:
        if not args.label_map_file:
            raise UsageError("-anno_type=detection needs -label_map_file")
        names = read_label_map(args.label_map_file, unique_names=args.check_label).name_to_label
    return ConvertOptions(
        root=root,
        detection=detection,
        label_type=args.label_type,
        name_to_label=names,
        image=image_options(args, min_dim=args.min_dim, max_dim=args.max_dim),
        check_size=args.check_size,
        rules=reading_rules(repair_xml=args.repair_xml, as_original=args.as_original),
        lenient=args.lenient,
    )


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("convert_annoset", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("root", metavar="ROOTFOLDER/", help="put before every path")
    parser.add_argument("list_file", metavar="LISTFILE", help="images and annotations")
    parser.add_argument("database", metavar="DB_NAME", help="the database to make")
    add_conversion_flags(parser)
    args = parser.parse_flags(argv)
    lines = read_lines(args, args.list_file)
    logger.info("A total of %d images.", len(lines))
    options = conversion(args, args.root)
    check_target(args.database)
    convert(lines, args.database, options)


def check_backend(backend: str) -> None:
    """Raise UsageError for a kind of database other than LMDB."""
    if backend == "leveldb":
        raise UsageError("-backend is 'leveldb', which is not supported; use lmdb")
    if backend != "lmdb":
        raise UsageError(f"-backend is {backend!r}; allowed: lmdb")


if __name__ == "__main__":
    raise SystemExit(main())
