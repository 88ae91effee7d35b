"""`caffe export`: write a net as an ONNX file, for programs that know nothing of Caffe.

An addition to the reference's actions; see `caffe_ssd.engines.exported`.
"""

from __future__ import annotations

import argparse

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
from caffe_ssd.engines.exported import describe, exported_part
from caffe_ssd.engines.frozen_net import FrozenNet
from caffe_ssd.engines.onnx_export import onnx_model
from caffe_ssd.engines.quantization import Quantizer
from caffe_ssd.errors import UsageError
from caffe_ssd.files import atomic_write
from caffe_ssd.layers.registry import Code
from caffe_ssd.net import Net
from caffe_ssd.scoring.calibration import (
    DEFAULT_IMAGES,
    calibration_pictures,
    check_calibration,
    own_transform,
    picture_transform,
)
from caffe_ssd.scoring.loading import load_net

DESCRIPTION = (
    "Write a net as an ONNX file. Of a detector it holds everything before DetectionOutput; its "
    "outputs are the box offsets, the scores and the priors."
)
EXAMPLES = """\
  caffe export -model deploy.prototxt -weights net.caffemodel -output net.onnx
  caffe export -model deploy.prototxt -weights net.caffemodel -output net.onnx \\
      -batch 8 -input_size 300x416
  caffe export -model deploy.prototxt -weights net.caffemodel -output net.onnx \\
      -precision int8 -calibration train_pictures/"""

PRECISIONS = ("fp32", "int8")


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    check_files(args, "model", "weights")
    net = load_net(
        args.model,
        weights_of(args),
        lenient=args.lenient,
        allow_unfilled=args.allow_unfilled,
        code=Code.REFUSE,
    )
    frozen = exported_part(net, args.batch, args.input_size)
    model = onnx_model(frozen, net.name if net.name else "net")
    if args.precision == "int8":
        model = _quantized(args, net, model, frozen)
    atomic_write(args.output, model)
    show(describe(net, frozen, args.output))
    return 0


def _quantized(args: argparse.Namespace, net: Net, model: bytes, frozen: FrozenNet) -> bytes:
    own_transform(net)  # refuses nets that take no pictures
    shape = frozen.shapes[frozen.inputs[0][1]]
    _, channels, height, width = shape
    transform = picture_transform(channels, (height, width), mean=args.mean_value, scale=args.scale)
    images = DEFAULT_IMAGES if args.calibration_images is None else args.calibration_images
    pictures = calibration_pictures(args.calibration, images, net, transform)
    return Quantizer(pictures).quantized(model, shape)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("export", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_reference_flags("model", "weights")
    add = parser.add_flag
    add("output", metavar="FILE", default="", help="the ONNX file to write")
    add("batch", type=int, default=None, metavar="N", help="pictures in one pass (the net's own)")
    add_precision_flags(parser, PRECISIONS)
    add_pixel_flags(parser)
    add_unfilled_flag(parser)
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    required(args, "model", "weights")
    if not args.output:
        raise UsageError("-output is missing: the ONNX file to write")
    if not args.output.lower().endswith(".onnx"):
        raise UsageError(f"-output is an ONNX file, so its name must end in .onnx: {args.output!r}")
    at_least(args, "batch", 1)
    check_calibration(args.precision, args.calibration, args.calibration_images)
    return args
