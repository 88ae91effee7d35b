"""`caffe detect`: find objects on pictures and videos with any deploy net, draw and list them.

An addition to the reference's actions.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from itertools import chain
from textwrap import indent

from caffe_ssd.cli.detector_flags import FEW, detector_of
from caffe_ssd.cli.flags import (
    ActionParser,
    add_engine_flags,
    add_lenient_flag,
    add_pixel_flags,
    add_scale_flags,
    add_unfilled_flag,
    at_least,
    check_files,
    required,
    scales_of,
)
from caffe_ssd.desk.console import show
from caffe_ssd.desk.flags import FlagParser, about_flag
from caffe_ssd.desk.speed_bar import SpeedMeter, track_speed
from caffe_ssd.errors import UsageError
from caffe_ssd.proto.label_map import read_label_map
from caffe_ssd.scoring.detect_job import Job, Looked, Shard, plan_job, plan_output, run_job
from caffe_ssd.scoring.detector import check_threshold
from caffe_ssd.scoring.engine_choice import AUTO
from caffe_ssd.scoring.found_files import FORMATS
from caffe_ssd.scoring.sources import items_of, listed_items

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Find objects on pictures: what is where, and the pictures with boxes. SOURCE is a picture, a folder,
a glob, a list of pictures (.txt), a video, the number of a camera, or - for a list on standard
input. Results go into a folder of their own, by default a new one here: detections, detections-2...
"""
EXAMPLES = """\
  caffe detect street.jpg -model deploy.prototxt -weights net.caffemodel
  caffe detect pictures/ -model deploy.prototxt -weights net.caffemodel \\
      -label_map labelmap_voc.prototxt -threshold 0.4 -output found -format jsonl,csv
  caffe detect drive.mp4 -model deploy.prototxt -weights net.caffemodel
  find . -name '*.jpg' | caffe detect - -model deploy.prototxt -weights net.caffemodel
  caffe detect -list million.txt -shard 3/8 -text_only -format coco -output found \\
      -model deploy.prototxt -weights net.caffemodel
  caffe detect code.png -model detect.prototxt -weights detect.caffemodel \\
      -mean_value 0 -scale 1/255
  caffe detect street.jpg -model deploy.prototxt -weights net.caffemodel -scales 1,1.5 -flip
  caffe detect *.jpg -model deploy.prototxt -weights net.caffemodel -precision int8 \\
      -calibration train_pictures/"""

_MOST_TABLES = 10


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    check_files(args, "model", "weights")
    job = _job(args)
    output = plan_output(
        job, args.output, formats=args.format, json=args.json, has_pictures=not args.text_only
    )
    names = None if args.label_map is None else read_label_map(args.label_map).label_to_name
    if args.label_map is None:
        logger.info("Classes are shown by their numbers; -label_map FILE gives them names")
    detector = detector_of(args, multi_scale=scales_of(args), num_pictures=job.num_pictures())
    meter = SpeedMeter(job.num_pictures(), "images")
    faults = run_job(
        detector,
        job,
        output,
        names=names,
        tell_fault=lambda error: logger.error("%s; it is left out", error),
        watch=lambda looked: _shown(track_speed(looked, meter, "detect"), job),
    )
    logger.info("%s%s", meter.summary(), f" -> {output}" if str(output) else "")
    faults.settle(meter.done)
    return 0


def _job(args: argparse.Namespace) -> Job:
    if not args.sources and args.list is None:
        raise UsageError("no SOURCE: name pictures, a folder, a video, or -list FILE")
    listed = () if args.list is None else listed_items(args.list)
    with about_flag("shard"):
        return plan_job(chain(items_of(args.sources), listed), shard=args.shard)


def _shown(looked: Iterator[Looked], job: Job) -> Iterator[Looked]:
    """Print what is found: tables for a few pictures, else a line for each."""
    for named, found in looked:
        height, width = found.size
        if named.frame is None and len(job.items) <= _MOST_TABLES:
            show(f"{found.place} ({width} x {height})\n{indent(found.table(), '  ')}")
        else:
            show(f"{found.place}: {found.counts()}")
        yield named, found


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("detect", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help="the pictures")
    parser.add_reference_flags("model", "weights", "gpu")
    add = parser.add_flag
    add("list", metavar="FILE", help="a list of pictures, whatever its name; - is standard input")
    add("shard", type=_shard, metavar="i/n", help="only the i-th of n parts of all pictures")
    add("label_map", metavar="FILE", help="class names, a label map in prototxt")
    add("threshold", type=float, default=0.5, help="lowest score to show (%(default)s)")
    add_pixel_flags(parser)
    add("batch", type=int, default=8, help="pictures in one pass (%(default)s)")
    _add_output_flags(parser)
    add_scale_flags(parser)
    add_engine_flags(parser, f"{AUTO}; for {FEW} pictures or fewer on the CPU none")
    add_unfilled_flag(parser)
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    required(args, "model", "weights")
    at_least(args, "batch", 1)
    with about_flag("threshold"):
        check_threshold(args.threshold)
    return args


def _add_output_flags(parser: FlagParser) -> None:
    add = parser.add_flag
    add("output", metavar="DIR|FILE", help="folder of the results, or the one picture or video")
    add(
        "format",
        type=_formats,
        default=(),
        metavar="F,...",
        help=f"also write what was found to that folder, as {', '.join(FORMATS)}",
    )
    add("json", metavar="FILE", help="also write what was found to a JSON file")
    parser.add_switch("text_only", help="draw nothing")


def _formats(text: str) -> tuple[str, ...]:
    formats = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    unknown = [word for word in formats if word not in FORMATS]
    if unknown:
        raise argparse.ArgumentTypeError(f"takes {', '.join(FORMATS)}; got {unknown[0]!r}")
    return formats


def _shard(text: str) -> Shard:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"takes i/n with 1 <= i <= n, like 2/8; got {text!r}")
    return int(index), int(count)
