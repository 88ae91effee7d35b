"""`caffe export`: write a net for programs that know nothing of Caffe.

An addition to the reference's actions; see `caffe_ssd.engines.export`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_ssd.cli.flags import (
    ActionParser,
    add_lenient_flag,
    add_pixel_flags,
    add_precision_flags,
    add_unfilled_flag,
    at_least,
    check_files,
    required,
    weights_of,
)
from caffe_ssd.desk.console import show
from caffe_ssd.engines.export.formats import FORMATS, format_of
from caffe_ssd.engines.export.part import Request
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.registry import Code
from caffe_ssd.scoring.calibration import check_calibration
from caffe_ssd.scoring.exporting import export_request
from caffe_ssd.scoring.loading import load_net

DESCRIPTION = (
    "Write a net for programs that know nothing of Caffe; the suffix says in which format: "
    + ", ".join(f"{form.suffix} ({name})" for name, form in FORMATS.items())
    + ". ONNX, OpenVINO, torch and TorchScript files hold a detector whole: they take pictures and "
    "give detections. safetensors files hold the weights."
)
EXAMPLES = """\
  caffe export -model deploy.prototxt -weights net.caffemodel -output net.onnx \\
      -label_map labelmap_voc.prototxt
  caffe export -model deploy.prototxt -weights net.caffemodel -output net.xml \\
      -batch 8 -input_size 300x416
  caffe export -model deploy.prototxt -weights net.caffemodel -output net.onnx \\
      -precision int8 -calibration train_pictures/"""

PRECISIONS = ("fp32", "int8")


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    check_files(args, "model", "weights", "label_map")
    net = load_net(
        args.model,
        weights_of(args),
        lenient=args.lenient,
        allow_unfilled=args.allow_unfilled,
        code=Code.REFUSE,
    )
    request: Request = export_request(
        net,
        batch=args.batch,
        size=args.input_size,
        heads=args.heads,
        mean=args.mean_value,
        scale=args.scale,
        label_map=args.label_map,
        calibration=args.calibration,
        images=args.calibration_images,
    )
    show("\n".join(FORMATS[args.format].write(request, Path(args.output))))
    return 0


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("export", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags("model", "weights")
    add = parser.add_flag
    add("output", metavar="FILE", default="", help="the file to write")
    add("format", choices=tuple(FORMATS), default=None, help="of the file (by its suffix)")
    add("label_map", metavar="FILE", default=None, help="class names, a label map in prototxt")
    add(
        "batch",
        type=int,
        default=None,
        metavar="N",
        help="pictures in one pass (any, else the net's)",
    )
    parser.add_switch("heads", help="end before DetectionOutput, with what it reads (ONNX)")
    add_precision_flags(parser, PRECISIONS)
    add_pixel_flags(parser)
    add_unfilled_flag(parser)
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    required(args, "model", "weights")
    if not args.output:
        raise UsageError("-output is missing: the file to write")
    args.format = format_of(args.output, args.format)
    _check_format(args)
    at_least(args, "batch", 1)
    check_calibration(args.precision, args.calibration, args.calibration_images)
    return args


def _check_format(args: argparse.Namespace) -> None:
    form = FORMATS[args.format]
    if args.precision != "fp32" and not form.takes_int8:
        raise UsageError(f"-precision {args.precision} is not for format {args.format}")
    if args.heads and not form.takes_heads:
        raise UsageError(f"-heads is not for format {args.format}")
    if not form.holds_net and (args.batch or args.input_size):
        raise UsageError(f"format {args.format} holds weights, which have no batch or input size")
