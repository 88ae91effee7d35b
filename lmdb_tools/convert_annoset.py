"""convert_annoset: images and annotations -> LMDB, with the reference's command line.

Spec: ssd-data.md section 3.1.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence

from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.proto.label_map import read_label_map
from lmdb_tools.annoset import ConvertOptions, convert, read_list, reading_rules, shuffled
from lmdb_tools.console import run_tool
from lmdb_tools.database import check_target
from lmdb_tools.flags import Flag, FlagValues, format_flags, parse_flags
from lmdb_tools.images import ImageOptions

logger = logging.getLogger(__name__)

FLAGS = (
    Flag(name="gray", default=False, help="Load images as grayscale."),
    Flag(name="shuffle", default=False, help="Shuffle the list."),
    Flag(name="shuffle_seed", default=-1, help="Seed of --shuffle; -1 takes another each time."),
    Flag(name="backend", default="lmdb", help="Kind of database; leveldb is not supported."),
    Flag(
        name="anno_type",
        default="classification",
        choices=("classification", "detection"),
        help="What the second column is: a class number, or an annotation file.",
    ),
    Flag(
        name="label_type",
        default="xml",
        choices=("xml", "json", "txt"),
        help="Format of annotation files: VOC XML, per-image COCO JSON, or text lines "
        "'label xmin ymin xmax ymax' in pixels.",
    ),
    Flag(name="label_map_file", default="", help="LabelMap prototxt; detection needs one."),
    Flag(name="check_label", default=False, help="Refuse a label map with a name twice."),
    Flag(name="min_dim", default=0, help="Enlarge until the shorter side has these pixels."),
    Flag(name="max_dim", default=0, help="Shrink until the longer side has at most these pixels."),
    Flag(name="resize_width", default=0, help="Width to resize to (with --resize_height)."),
    Flag(name="resize_height", default=0, help="Height to resize to (with --resize_width)."),
    Flag(name="check_size", default=False, help="Refuse raw images of different sizes."),
    Flag(name="encoded", default=False, help="Store encoded images, not raw pixels."),
    Flag(
        name="encode_type",
        default="",
        help="Encoding: jpg, png, ...; implies --encoded. A file that already has it is stored "
        "untouched unless it is resized.",
    ),
    Flag(
        name="repair_xml",
        default=False,
        help="Use XML difficult flags that stand behind their box. SSD-Caffe loses them, and so "
        "does this tool without the switch, so that databases come out the same.",
    ),
    Flag(
        name="as_original",
        default=False,
        help="Read XML as SSD-Caffe does to the letter: a coordinate with decimals becomes 0, "
        "and difficult is true only as 1.",
    ),
    Flag(
        name="lenient",
        default=False,
        help="Only warn, as SSD-Caffe does, where an annotation file is missing, a line or value "
        "cannot be read, a label is 0 or not in the map, boxes are fractions, or no image has a "
        "box.",
    ),
)

USAGE = """\
convert_annoset: turn images and annotations into an LMDB for AnnotatedData layers.
Usage:
    convert_annoset [FLAGS] ROOTFOLDER/ LISTFILE DB_NAME

ROOTFOLDER/ is put before every path of the list as it is, so it should end in a slash. Each line of
LISTFILE holds an image and its annotation file (or class number). DB_NAME must not exist yet.

Example:
    convert_annoset --anno_type=detection --label_map_file=labelmap.prototxt \\
        --check_label --encode_type=jpg --encoded shapes/ shapes/trainval.txt shapes_trainval_lmdb

Flags:
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_tool(lambda: _run(sys.argv[1:] if argv is None else argv), "convert_annoset")


def _run(argv: Sequence[str]) -> None:
    if {"--help", "-help", "-h"} & set(argv):
        print(USAGE + format_flags(FLAGS))
        return
    flags, arguments = parse_flags(argv, FLAGS)
    if len(arguments) != 3:
        print(USAGE + format_flags(FLAGS), file=sys.stderr)
        raise UsageError(f"need ROOTFOLDER/ LISTFILE DB_NAME, got {len(arguments)} arguments")
    root, list_file, database = arguments
    check_backend(flags.text("backend"))
    options = _options(root, flags)
    lines = read_list(list_file, detection=options.detection, lenient=options.lenient)
    if flags.switch("shuffle"):
        seed = flags.number("shuffle_seed")
        lines = shuffled(lines, None if seed < 0 else seed)
    logger.info("A total of %d images.", len(lines))
    if not lines:
        raise DataError(f"{list_file} names no image")
    check_target(database)
    convert(lines, database, options)


def check_backend(backend: str) -> None:
    """Raise UsageError for a kind of database other than LMDB."""
    if backend == "leveldb":
        raise UsageError("--backend is 'leveldb', which is not supported; use lmdb")
    if backend != "lmdb":
        raise UsageError(f"--backend is {backend!r}; allowed: lmdb")


def _options(root: str, flags: FlagValues) -> ConvertOptions:
    detection = flags.text("anno_type") == "detection"
    names: Mapping[str, int] = {}
    if detection:
        label_map = flags.text("label_map_file")
        if not label_map:
            raise UsageError("--anno_type=detection needs --label_map_file")
        names = read_label_map(label_map, unique_names=flags.switch("check_label")).name_to_label
    return ConvertOptions(
        root=root,
        detection=detection,
        label_type=flags.text("label_type"),
        name_to_label=names,
        image=ImageOptions(
            gray=flags.switch("gray"),
            height=max(0, flags.number("resize_height")),
            width=max(0, flags.number("resize_width")),
            min_dim=max(0, flags.number("min_dim")),
            max_dim=max(0, flags.number("max_dim")),
            encoded=flags.switch("encoded"),
            encode_type=flags.text("encode_type"),
        ),
        check_size=flags.switch("check_size"),
        rules=reading_rules(
            repair_xml=flags.switch("repair_xml"), as_original=flags.switch("as_original")
        ),
        lenient=flags.switch("lenient"),
    )


if __name__ == "__main__":
    raise SystemExit(main())
