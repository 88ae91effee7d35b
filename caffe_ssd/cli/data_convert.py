"""`caffe data convert`: a data set in another format."""

from __future__ import annotations

import argparse

from caffe_ssd.cli.data_sources import add_format_flag
from caffe_ssd.cli.flags import ActionParser
from caffe_ssd.datasets import FORMATS, read_folder, split, write_folder
from caffe_ssd.desk.console import show, tell
from caffe_ssd.errors import UsageError, plural

DESCRIPTION = """\
Write a data set in another format: pictures, annotations, the division into train and test, and a
label map. Boxes stay what they are, to the last digit.

Pictures are copied as they are, but for those that an EXIF tag turns: they are stored turned. What
the new format cannot hold is counted."""
EXAMPLES = """\
  caffe data convert my_pictures my_pictures_voc -to voc
  caffe data convert my_pictures my_pictures_yolo -to yolo -split 0.2"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    dataset = read_folder(args.folder, args.format)
    if args.split is not None:
        dataset = split(dataset, args.split, args.seed)
    for finding in dataset.findings:
        if finding.severity != "note":
            places = ", ".join(finding.where[:3])
            tell(f"{finding.severity}: {finding.text} ({len(finding.where)}: {places})")
    lost = write_folder(dataset, args.out, args.to)
    boxes = sum(len(picture.boxes) for picture in dataset.pictures)
    show(f"Read {dataset.root}: {dataset.reason}")
    show(
        f"Wrote {args.out}: {plural(len(dataset.pictures), 'picture')}, "
        f"{plural(boxes, 'box')}, {args.to}"
    )
    for what, count in lost.items():
        show(f"The format {args.to} cannot hold: {what}, {count}")
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("data convert", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("folder", metavar="FOLDER", help="the data set")
    parser.add_argument("out", metavar="OUT", help="folder to write; absent or empty")
    parser.add_flag("to", required=True, choices=tuple(FORMATS), help="the new format")
    add_format_flag(parser)
    parser.add_flag(
        "split",
        type=float,
        help="share of the pictures for testing, if the folder is not divided yet (0 to 1)",
    )
    parser.add_flag("seed", type=int, default=0, help="of that division (%(default)s)")
    args = parser.parse_action(arguments)
    if args.split is not None and not 0 < args.split < 1:
        raise UsageError(f"-split is {args.split:g}; allowed: above 0 and below 1")
    return args
