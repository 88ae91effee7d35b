"""upgrade_net_proto_text, upgrade_net_proto_binary and upgrade_solver_proto_text.

Spec: caffe-net.md section 2. `caffe upgrade_net` finds out by itself which kind a file is.
Quirk: a file that is up to date already is written all the same, with an error in the log; here
it is a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from google.protobuf.message import Message

from caffe_ssd.desk.console import run_command
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.proto.binary import read_binary, read_weights, write_binary
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.proto.text import read_net, read_solver, read_text, write_text

logger = logging.getLogger(__name__)


def net_text(argv: Sequence[str] | None = None) -> int:
    """Run upgrade_net_proto_text; returns the exit code."""
    name, example = "upgrade_net_proto_text", "old.prototxt new.prototxt"
    return run_command(lambda words: _upgrade(words, name, example, _net_text), name, argv)


def net_binary(argv: Sequence[str] | None = None) -> int:
    """Run upgrade_net_proto_binary; returns the exit code."""
    name, example = "upgrade_net_proto_binary", "old.caffemodel new.caffemodel"
    return run_command(lambda words: _upgrade(words, name, example, _net_binary), name, argv)


def solver_text(argv: Sequence[str] | None = None) -> int:
    """Run upgrade_solver_proto_text; returns the exit code."""
    name, example = "upgrade_solver_proto_text", "old_solver.prototxt solver.prototxt"
    return run_command(lambda words: _upgrade(words, name, example, _solver_text), name, argv)


_Upgrade = Callable[[str, str], tuple[Message, Message]]
"""Source and target to the message as it was and as it was written."""


def _upgrade(argv: Sequence[str], name: str, example: str, upgrade: _Upgrade) -> None:
    kind, form = name.split("_")[1], name.split("_")[3]
    parser = FlagParser(
        name,
        description=f"Bring a {kind} definition in {form} form to the current format.",
        examples=f"  {name} {example}",
    )
    parser.add_argument("source", metavar="IN", help="the old file")
    parser.add_argument("target", metavar="OUT", help="the new file, may be the old one")
    args = parser.parse_flags(argv)
    before, after = upgrade(args.source, args.target)
    if before == after:
        logger.warning("File already in latest proto format: %s", args.source)
    logger.info("Wrote upgraded %s %s proto to %s", type(after).__name__, form, args.target)


def _net_text(source: str, target: str) -> tuple[Message, Message]:
    before, after = read_text(source, NetParameter()), read_net(source)
    write_text(target, after)
    return before, after


def _net_binary(source: str, target: str) -> tuple[Message, Message]:
    before, after = read_binary(source, NetParameter()), read_weights(source, whole=True)
    write_binary(target, after)
    return before, after


def _solver_text(source: str, target: str) -> tuple[Message, Message]:
    before, after = read_text(source, SolverParameter()), read_solver(source)
    write_text(target, after)
    return before, after
