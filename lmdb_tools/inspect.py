"""Shows what is in an LMDB: counts, sizes, classes, broken records; draws some of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
from google.protobuf.message import DecodeError
from rich.console import Console
from rich.table import Table

from caffe_ssd.data.decode import decode_datum
from caffe_ssd.data.records import LmdbSource
from caffe_ssd.datasets.summary import Summary, summarise
from caffe_ssd.desk.console import run_command, track
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import CaffeError, DataError
from caffe_ssd.files import atomic_write
from caffe_ssd.proto.caffe_pb2 import AnnotatedDatum
from caffe_ssd.proto.label_map import read_label_map
from lmdb_tools.contact_sheet import DrawnBox, draw_boxes, tile_images
from lmdb_tools.images import Image, encode

_TILE_PX = 260
_SIZE_STEPS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
_BLOCKS = " ▏▎▍▌▋▊▉█"
_BAR_WIDTH = 30

EXAMPLES = """\
  python -m lmdb_tools.inspect shapes_test_lmdb -label_map shapes/labelmap_shapes.prototxt \\
      -show 24 -output grid.png
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (1 too if a record is broken)."""
    return run_command(_run, "inspect", argv)


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser(
        "python -m lmdb_tools.inspect",
        description="Show what an LMDB holds.",
        examples=EXAMPLES,
    )
    parser.add_argument("database", help="folder made by convert_annoset")
    parser.add_flag("label_map", help="to show names instead of numbers")
    parser.add_flag("show", type=int, default=24, help="records to draw (%(default)s)")
    parser.add_flag("output", help="picture to draw them in, .png or .jpg")
    parser.add_switch("no_decode", help="do not decode images: quicker")
    args = parser.parse_flags(argv)
    names: Mapping[int, str] = {}
    if args.label_map:
        names = read_label_map(args.label_map).label_to_display_name
    summary = summarise(args.database, decode=not args.no_decode, watch=track)
    print_summary(summary, args.database, names)
    if args.output:
        sheet = contact_sheet(args.database, args.show, names)
        atomic_write(args.output, encode(sheet, _image_format(args.output)))
    if summary.broken:
        raise DataError(f"{args.database}: {len(summary.broken)} records are broken")


def contact_sheet(database: str | os.PathLike[str], count: int, names: Mapping[int, str]) -> Image:
    """Draw records, evenly spread over the database, with their boxes.

    Args:
        database: the LMDB.
        count: how many.
        names: label -> what is written on a box; others show their number.

    Raises:
        DataError: the database cannot be read, or holds no readable image.
    """
    source = LmdbSource(database)
    count = min(count, len(source))
    chosen = np.linspace(0, len(source) - 1, max(count, 0)).round().astype(int).tolist()
    drawn = [tile for index in chosen for tile in _draw(source[index], names)]
    tiles = [tile for tile, _ in drawn]
    if not tiles:
        raise DataError(f"{os.fspath(database)}: there is no image to draw")
    seen = {box.label: box.text for _, boxes in drawn for box in boxes}
    legend = {label: seen[label] for label in sorted(seen)}
    return tile_images(tiles, _TILE_PX, legend)


def print_summary(
    summary: Summary, database: str | os.PathLike[str], names: Mapping[int, str]
) -> None:
    """Print tables for people on stdout."""
    console = Console(highlight=False, emoji=False, markup=False)
    num_boxes = sum(summary.boxes_of.values())
    console.print(
        f"{os.fspath(database)}: {summary.num_records} records, {num_boxes} boxes", soft_wrap=True
    )
    _print_shapes(console, summary)
    console.print(_class_table(summary, names))
    if num_boxes:
        console.print(_histogram("boxes in an image", _box_counts(summary)))
        title = "box size (sqrt of area share)"
        console.print(_histogram(title, _scale_counts(summary)))
    if summary.num_empty or summary.num_outside:
        console.print(
            f"{summary.num_empty} boxes have no area, {summary.num_outside} leave their image"
        )
    for key, fault in summary.broken[:20]:
        console.print(f"broken: {key} {fault}", soft_wrap=True)
    if len(summary.broken) > 20:
        console.print(f"... and {len(summary.broken) - 20} more broken records")


def _draw(value: bytes, names: Mapping[int, str]) -> Iterator[tuple[Image, list[DrawnBox]]]:
    """The tile of a record and the boxes on it; nothing if it is broken."""
    record = AnnotatedDatum()
    try:
        record.ParseFromString(value)
        image = decode_datum(record.datum)
    except (DecodeError, CaffeError):
        return
    if image.shape[2] == 1:
        image = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    boxes = [
        DrawnBox(
            label=group.group_label,
            text=names.get(group.group_label, str(group.group_label)),
            corners=np.array([b.xmin, b.ymin, b.xmax, b.ymax], np.float32),
            dashed=b.difficult,
        )
        for group in record.annotation_group
        for b in (annotation.bbox for annotation in group.annotation)
    ]
    yield draw_boxes(image.astype(np.uint8), boxes, _TILE_PX), boxes


def _image_format(path: str) -> str:
    suffix = Path(path).suffix.lower().lstrip(".")
    if suffix not in ("png", "jpg", "jpeg"):
        raise DataError(f"-output is {path!r}; allowed: names ending in .png or .jpg")
    return suffix


def _print_shapes(console: Console, summary: Summary) -> None:
    if not summary.shapes:
        return
    heights, widths, channels = zip(*summary.shapes, strict=True)
    console.print(
        f"height {min(heights)} to {max(heights)}, width {min(widths)} to {max(widths)}, "
        f"channels {', '.join(str(c) for c in sorted(set(channels)))}; "
        f"{len(summary.shapes)} different shapes"
    )


def _class_table(summary: Summary, names: Mapping[int, str]) -> Table:
    table = Table("label", "class", box=None, pad_edge=False, header_style="bold")
    for header in ("images", "boxes", "difficult"):
        table.add_column(header, justify="right")
    table.add_column()
    counts = summary.boxes_of if summary.boxes_of else summary.images_of
    most = max(counts.values(), default=0)
    for label in sorted({*counts, *(names if summary.boxes_of else ())}):
        if label == 0 and counts[0] == 0:
            continue
        numbers = (summary.images_of[label], summary.boxes_of[label], summary.difficult_of[label])
        name = names.get(label, "")
        table.add_row(str(label), name, *map(str, numbers), _bar(counts[label], most))
    return table


def _box_counts(summary: Summary) -> dict[str, int]:
    counts = summary.boxes_per_image
    shown = {str(n): counts[n] for n in range(min(max(counts), 9) + 1)}
    if max(counts) > 9:
        shown["10 +"] = sum(count for n, count in counts.items() if n > 9)
    return shown


def _scale_counts(summary: Summary) -> dict[str, int]:
    edges = (*_SIZE_STEPS, np.inf)
    numbers, _ = np.histogram(summary.scales, edges)
    labels = [f"{a:g} to {b:g}" for a, b in pairwise(_SIZE_STEPS)]
    labels.append(f"{_SIZE_STEPS[-1]:g} +")
    return dict(zip(labels, numbers.tolist(), strict=True))


def _histogram(title: str, counts: Mapping[str, int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(title, no_wrap=True)
    table.add_column("", justify="right")
    table.add_column()
    for name, count in counts.items():
        table.add_row(name, str(count), _bar(count, max(counts.values())))
    return table


def _bar(value: int, most: int) -> str:
    eighths = round(value / most * _BAR_WIDTH * 8) if most else 0
    rest = _BLOCKS[eighths % 8] if eighths % 8 else ""
    return _BLOCKS[-1] * (eighths // 8) + rest


if __name__ == "__main__":
    sys.exit(main())
