"""`caffe detect`: find objects on pictures with any deploy net, draw them and list them.

An addition to the reference's actions.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import cv2

from caffe_ssd import devices
from caffe_ssd.cli.flags import (
    ActionParser,
    add_engine_flags,
    add_lenient_flag,
    add_pixel_flags,
    add_scale_flags,
    add_unfilled_flag,
    at_least,
    check_files,
    engine_of,
    only_device,
    required,
    scales_of,
    weights_of,
)
from caffe_ssd.desk.console import show
from caffe_ssd.errors import FileError, UsageError
from caffe_ssd.files import atomic_write
from caffe_ssd.scoring.detector import Detector
from caffe_ssd.scoring.engine_choice import AUTO
from caffe_ssd.scoring.sources import Picture
from caffe_ssd.scoring.tables import write_json

DESCRIPTION = "Find objects on pictures: a table of what is where, and the pictures with boxes."
EXAMPLES = """\
  caffe detect street.jpg -model deploy.prototxt -weights net.caffemodel
  caffe detect *.jpg -model deploy.prototxt -weights net.caffemodel \\
      -label_map labelmap_voc.prototxt -threshold 0.4 -output found/ -json found.json
  caffe detect code.png -model detect.prototxt -weights detect.caffemodel \\
      -mean_value 0 -scale 1/255
  caffe detect street.jpg -model deploy.prototxt -weights net.caffemodel -scales 1,1.5 -flip
  caffe detect *.jpg -model deploy.prototxt -weights net.caffemodel -precision int8 \\
      -calibration train_pictures/"""

_MARK = "_detections"


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to look at.

    Args:
        source: the picture's file.
        target: the file for the picture with boxes.
    """

    source: Path
    target: Path


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    jobs = plan_jobs(args.images, args.output)
    detector = _detector(args)
    entries = []
    stream = detector.stream([job.source for job in jobs])
    for job, (picture, found) in zip(jobs, stream, strict=True):
        height, width = found.size
        table = indent(found.table(), "  ")
        show(f"{job.source} ({width} x {height}) -> {job.target}\n{table}")
        write_picture(job.target, found.draw(picture))
        entries.append(found.to_dict())
    if args.json is not None:
        write_json(args.json, entries)
    return 0


def plan_jobs(images: Sequence[str], output: str | None) -> list[Job]:
    """Decide where each picture goes; makes no file.

    Args:
        images: the pictures.
        output: a file for a single picture, or a folder; None puts them beside their originals.

    Raises:
        UsageError: two pictures would get the same file, or one would replace an original.
        FileError: a picture does not exist.
    """
    sources = [Path(image) for image in images]
    for source in sources:
        if not source.is_file():
            raise FileError(f"Could not open file {source}: there is no such file")
    folder = None if output is None else Path(output)
    if len(sources) == 1 and folder is not None and folder.suffix and not folder.is_dir():
        targets = [folder]
    else:
        marked = [source.with_name(f"{source.stem}{_MARK}.png") for source in sources]
        targets = marked if folder is None else [folder / path.name for path in marked]
    twice = [path for path, count in Counter(targets).items() if count > 1]
    if twice:
        raise UsageError(f"two pictures would be written to {twice[0]}; give them different names")
    originals = {source.resolve() for source in sources}
    for target in targets:
        if target.resolve() in originals:
            raise UsageError(f"-output {target} would replace a picture that is to be read")
        if not cv2.haveImageWriter(target.name):
            raise UsageError(f"-output {target}: no picture format for {target.suffix!r}; try .png")
    return [Job(source=a, target=b) for a, b in zip(sources, targets, strict=True)]


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture, in the format its name says; its folder is made if need be.

    Raises:
        FileError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"Could not make folder {path.parent}: {error.strerror}") from error
    _, data = cv2.imencode(path.suffix, picture)
    atomic_write(path, data.tobytes())


def _detector(args: argparse.Namespace) -> Detector:
    device = only_device(args)
    choice = engine_of(args, device, default=AUTO)
    check_files(args, "model", "weights")
    devices.set_up_device(device, tf32=False)
    return Detector(
        args.model,
        weights_of(args),
        labels=args.label_map,
        engine=choice,
        device=device,
        threshold=args.threshold,
        mean=args.mean_value,
        scale=args.scale,
        size=args.input_size,
        multi_scale=scales_of(args),
        batch=args.batch,
        lenient=args.lenient,
        allow_unfilled=args.allow_unfilled,
    )


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("detect", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="the pictures")
    parser.add_reference_flags("model", "weights", "gpu")
    add = parser.add_flag
    add("label_map", metavar="FILE", help="class names, a label map in prototxt")
    add("threshold", type=float, default=0.5, help="lowest score to show (%(default)s)")
    add_pixel_flags(parser)
    add("batch", type=int, default=8, help="pictures in one pass (%(default)s)")
    add("output", metavar="FILE|DIR", help="picture to write (IMAGE_detections.png)")
    add("json", metavar="FILE", help="also write what was found as JSON")
    add_scale_flags(parser)
    add_engine_flags(parser, AUTO)
    add_unfilled_flag(parser)
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    required(args, "model", "weights")
    at_least(args, "batch", 1)
    return args
