"""`caffe data show`: training batches as the net sees them, with the priors that match."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.cli.data_sources import is_database, label_map_near
from caffe_ssd.cli.flags import ActionParser, add_lenient_flag
from caffe_ssd.data.drawing import DrawnBox, Pen, draw_frame, draw_tag
from caffe_ssd.datasets.training_batches import (
    TrainingExample,
    data_layer_of,
    training_examples,
)
from caffe_ssd.desk.console import show
from caffe_ssd.errors import UsageError, plural
from caffe_ssd.files import atomic_write
from caffe_ssd.proto.label_map import read_label_map
from caffe_ssd.proto.text import read_net
from lmdb_tools.contact_sheet import tile_images
from lmdb_tools.images import encode
from lmdb_tools.inspect import contact_sheet

DESCRIPTION = """\
Draw pictures of training batches exactly as the net will see them: the net's own data layer reads
and augments them. Thick boxes are objects, thin ones of the same colour the priors that match them
under the settings of the net's MultiBoxLoss; the number behind a name says how many these are.
Dashed objects are difficult, or no prior matches them.

Of an LMDB its records are drawn, as they are."""
EXAMPLES = """\
  caffe data show train.prototxt
  caffe data show train.prototxt -n 32 -seed 7 -output batches.png
  caffe data show trainval_lmdb -label_map labelmap.prototxt -output records.png"""

_SIDE_PX = 320
_FORMATS = (".png", ".jpg", ".jpeg")


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    if is_database(args.source):
        sheet = contact_sheet(args.source, args.n, _names(args.label_map, args.source))
    else:
        sheet = _batches(args)
    atomic_write(args.output, encode(sheet, Path(args.output).suffix.lower().lstrip(".")))
    show(f"Wrote {args.output}")
    return 0


def _batches(args: argparse.Namespace) -> NDArray[np.uint8]:
    param = read_net(args.source, lenient=args.lenient)
    names = _names(args.label_map, data_layer_of(param).data_param.source)
    examples = training_examples(param, args.n, seed=args.seed)
    seen = sorted({label for example in examples for label in example.labels})
    legend = {label: _ascii(names.get(label, str(label))) for label in seen}
    counts = [len(priors) for example in examples for priors in example.priors]
    show(
        f"{plural(len(examples), 'picture')}, {plural(len(counts), 'object')}, "
        f"{plural(sum(counts), 'matched prior')}; "
        f"{plural(counts.count(0), 'object')} without a prior"
    )
    return tile_images([_drawn(example, legend) for example in examples], _SIDE_PX, legend)


def _drawn(example: TrainingExample, names: Mapping[int, str]) -> NDArray[np.uint8]:
    factor = _SIDE_PX / max(example.image.shape[:2])
    height, width = (max(1, round(side * factor)) for side in example.image.shape[:2])
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    tile = cv2.resize(example.image, (width, height), interpolation=interpolation)
    canvas = np.ascontiguousarray(tile, np.uint8)
    objects = list(
        zip(example.boxes, example.labels, example.difficult, example.priors, strict=True)
    )
    for _, label, _, priors in objects:
        for prior in priors:
            draw_frame(canvas, DrawnBox(label=label, text="", corners=prior), Pen(line_px=1))
    for box, label, is_difficult, priors in objects:
        is_dashed = is_difficult or not len(priors)
        text = f"{names[label]} {len(priors)}"
        shown = DrawnBox(label=label, text=text, corners=box, dashed=is_dashed)
        draw_frame(canvas, shown, Pen(line_px=3))
        draw_tag(canvas, shown, Pen(font_scale=0.36))
    return canvas


def _names(label_map: str | None, database: str) -> Mapping[int, str]:
    path = label_map_near(database) if label_map is None else label_map
    return {} if path is None else read_label_map(path).label_to_display_name


def _ascii(text: str) -> str:
    """OpenCV's letters are ASCII."""
    return text.encode("ascii", "replace").decode()


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("data show", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("source", metavar="TRAIN_NET.prototxt|LMDB", help="what to show")
    parser.add_flag("output", default="show.png", help="picture to write (%(default)s)")
    parser.add_flag("n", type=int, default=16, help="how many pictures (%(default)s)")
    parser.add_flag(
        "seed", type=int, help="the training's random_seed; another one each time if not given"
    )
    parser.add_flag("label_map", help="names of the classes (default: the one beside the LMDB)")
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    if args.n < 1:
        raise UsageError(f"-n is {args.n}; allowed: 1 or more")
    if Path(args.output).suffix.lower() not in _FORMATS:
        raise UsageError(f"-output is {args.output!r}; allowed: names ending in .png or .jpg")
    return args
