"""`caffe upgrade_net`: bring a net's definition or weights to the current format.

Spec: caffe-net.md section 2. It does what the reference's upgrade_net_proto_text and
upgrade_net_proto_binary do, and finds out by itself which of the two kinds a file is; the new
file is of the same kind. `-strict` is an addition: it makes sure that the original can read the
result.
"""

from __future__ import annotations

import argparse
import logging
import os

from caffe_ssd.cli.flags import ActionParser, add_lenient_flag
from caffe_ssd.desk.console import show
from caffe_ssd.errors import UsageError
from caffe_ssd.proto.binary import is_binary, read_weights, write_binary
from caffe_ssd.proto.caffe_pb2 import NetParameter
from caffe_ssd.proto.extensions import refuse_in_message, refuse_in_text
from caffe_ssd.proto.text import read_net, write_text

logger = logging.getLogger(__name__)

DESCRIPTION = (
    "Bring an old net definition (prototxt) or weights file (caffemodel) to the current format."
)
EXAMPLES = """\
  caffe upgrade_net old.prototxt new.prototxt
  caffe upgrade_net old.caffemodel new.caffemodel
  caffe upgrade_net -strict net.prototxt plain.prototxt"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    if is_binary(args.source):
        net = read_weights(args.source, whole=True)
        if args.strict:
            refuse_in_message(args.source, net)
        write_binary(args.target, net)
        kind = "binary"
    else:
        net = read_net(args.source, lenient=args.lenient)
        if args.strict:
            refuse_in_text(args.source)
            refuse_in_message(args.source, net)  # rare spellings that have no place
        write_text(args.target, net)
        kind = "text"
    show(f"wrote {os.fspath(args.target)}: {kind}, {describe(net)}")
    return 0


def describe(net: NetParameter) -> str:
    """How much a net message holds."""
    blobs = sum(len(layer.blobs) for layer in net.layer)
    return f"{len(net.layer)} layers, {blobs} blobs"


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("upgrade_net", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("source", metavar="IN", help="the old file")
    parser.add_argument("target", metavar="OUT", help="the new file, may be the old one")
    parser.add_reference_flags()
    add_lenient_flag(parser)
    parser.add_switch(
        "strict", help="refuse a net that uses what the original SSD-Caffe does not know"
    )
    args = parser.parse_action(arguments)
    if args.target.endswith(".h5"):
        raise UsageError(f"OUT is no HDF5 file, so its name must not end in .h5: {args.target!r}")
    return args
