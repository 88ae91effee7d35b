"""`caffe detect`: find objects on pictures with any deploy net, draw them and list them.

An addition to the reference's actions. Only the command's own work is done here: `net.detector`
runs the net and `data.drawing` draws, for this command as for the data set inspector.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.cli import devices
from caffe_ssd.cli.calibration import picture_transform
from caffe_ssd.cli.console import set_up_logging
from caffe_ssd.cli.engines import AUTO, add_engine_flags, give_engine, read_choice
from caffe_ssd.cli.flags import (
    FlagParser,
    add_lenient_flag,
    add_pixel_flags,
    check_files,
    input_size,
    required,
)
from caffe_ssd.cli.scales import add_scale_flags, is_multi_scale, read_rule
from caffe_ssd.data.decode import read_picture as decode_file
from caffe_ssd.data.drawing import DrawnBox, Pen, draw_boxes_on
from caffe_ssd.errors import FileError, UsageError
from caffe_ssd.files import atomic_write
from caffe_ssd.net import build_net
from caffe_ssd.net.detector import DetectedObject, PictureDetector, without_result_files
from caffe_ssd.net.multi_scale import MultiScaleDetector
from caffe_ssd.net.weights import OTHER_NET_ADVICE, copy_trained_file
from caffe_ssd.proto.caffe_pb2 import NetState, Phase
from caffe_ssd.proto.label_map import read_label_map
from caffe_ssd.proto.text import read_net

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

Picture = NDArray[np.uint8]

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
    set_up_logging()
    args = _parse(arguments)
    jobs = plan_jobs(args.images, args.output)
    names = {} if args.label_map is None else read_label_map(args.label_map).label_to_display_name
    detector = _load(args)
    entries = []
    for start in range(0, len(jobs), args.batch):
        part = jobs[start : start + args.batch]
        pictures = [read_picture(job.source) for job in part]
        found = detector.detect(pictures, threshold=args.threshold)
        for job, picture, objects in zip(part, pictures, found, strict=True):
            height, width = picture.shape[:2]
            print(f"{job.source} ({width} x {height}) -> {job.target}")
            print(format_table(objects, names, height, width), flush=True)
            write_picture(job.target, draw(picture, objects, names))
            entries.append(_entry(job, objects, names, height, width))
    if args.json is not None:
        atomic_write(args.json, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")
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


def read_picture(path: Path) -> Picture:
    """A picture as (height, width, 3), BGR, turned as its EXIF data say.

    Raises:
        FileError: the file cannot be opened.
        DataError: it is no picture.
    """
    return decode_file(path).astype(np.uint8, copy=False)


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


def draw(picture: Picture, objects: Sequence[DetectedObject], names: Mapping[int, str]) -> Picture:
    """A copy of a picture with a box, a name and a score per object, the best on top."""
    boxes = [
        DrawnBox(
            label=each.label,
            text=f"{class_name(each.label, names)} {each.score:.2f}",
            corners=np.array(each.corners, np.float32),
        )
        for each in reversed(objects)
    ]
    return draw_boxes_on(picture, boxes, Pen.for_size(*picture.shape[:2]))


def class_name(label: int, names: Mapping[int, str]) -> str:
    """A label's name, or its number."""
    return names.get(label, str(label))


def format_table(
    objects: Sequence[DetectedObject], names: Mapping[int, str], height: int, width: int
) -> str:
    """Objects as lines of text: class, score and box in pixels."""
    if not objects:
        return "  nothing found"
    shown = [class_name(each.label, names) for each in objects]
    column = max(len(text) for text in ("class", *shown))
    lines = [f"  {'class':<{column}}  score   xmin   ymin   xmax   ymax"]
    for name, each in zip(shown, objects, strict=True):
        box = "".join(f"{value:7d}" for value in each.box_px(height, width))
        lines.append(f"  {name:<{column}}  {each.score:.3f}{box}")
    return "\n".join(lines)


def _entry(
    job: Job, objects: Sequence[DetectedObject], names: Mapping[int, str], height: int, width: int
) -> dict[str, object]:
    """What the JSON file says of one picture."""
    return {
        "image": str(job.source),
        "width": width,
        "height": height,
        "detections": [
            {
                "label": each.label,
                "class": class_name(each.label, names),
                "score": each.score,
                "box": each.corners,
                "box_px": each.box_px(height, width),
            }
            for each in objects
        ],
    }


def _load(args: argparse.Namespace) -> PictureDetector:
    device = devices.choose_devices(args.gpu)[0]
    choice = read_choice(args, device, default=AUTO)
    check_files(args, "model", "weights")
    devices.set_up_device(device, tf32=False)
    param = without_result_files(read_net(args.model, lenient=args.lenient))
    net = build_net(param, NetState(phase=Phase.Value("TEST")))  # type: ignore[arg-type]
    for path in args.weights.split(","):
        copy_trained_file(net, path, advice=OTHER_NET_ADVICE)
    preparation = {"mean": args.mean_value, "scale": args.scale}
    detector = PictureDetector(net.to(device), size=args.input_size, **preparation)
    transform = picture_transform(detector.channels, detector.size, **preparation)
    sizes = 1
    if is_multi_scale(args):
        rule = read_rule(args, net, detector.size)
        detector = MultiScaleDetector(net, rule, **preparation)
        sizes = len(rule.sizes)
    give_engine(net, choice, transform=transform, sizes=sizes)
    return detector


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = FlagParser("detect", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="the pictures")
    parser.add_reference_flags("model", "weights", "gpu")
    add = parser.add_flag
    add("label_map", metavar="FILE", help="class names, a label map in prototxt")
    add("threshold", type=float, default=0.5, help="lowest score to show (%(default)s)")
    add_pixel_flags(parser)
    add("input_size", type=input_size, metavar="HxW", help="size of the net's input (its own)")
    add("batch", type=int, default=8, help="pictures in one pass (%(default)s)")
    add("output", metavar="FILE|DIR", help="picture to write (IMAGE_detections.png)")
    add("json", metavar="FILE", help="also write what was found as JSON")
    add_scale_flags(parser)
    add_engine_flags(parser, AUTO)
    add_lenient_flag(parser)
    args = parser.parse_flags(arguments)
    required(args, "model", "weights")
    if args.batch < 1:
        raise UsageError(f"-batch must be at least 1, got {args.batch}")
    return args
