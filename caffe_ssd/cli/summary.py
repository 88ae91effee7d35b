"""`caffe summary`: a net's layers with their shapes, parameters and memory, and the totals.

An addition to the reference's actions. Counts are of float32 numbers; a blob shared by several
layers counts where it appears first. Activation memory is that of every blob of the net at once,
as the reference allocates it for the forward pass; in-place layers need none.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from caffe_ssd.cli.console import set_up_logging
from caffe_ssd.cli.flags import FlagParser, add_lenient_flag, net_state
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.registry import Shape
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.detector import without_result_files
from caffe_ssd.proto.caffe_pb2 import NetState, Phase
from caffe_ssd.proto.text import read_net

DESCRIPTION = "List a net's layers with the shapes of their tops, their parameters, and totals."
EXAMPLES = """\
  caffe summary deploy.prototxt
  caffe summary train_val.prototxt -phase TRAIN"""

_FLOAT_BYTES = 4
_MIB = 1024**2
_HEADINGS = ("layer", "type", "tops", "parameters")


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer of the table.

    Args:
        name: the layer's.
        type: the layer's.
        tops: shapes of its tops.
        num_parameters: numbers in its blobs, without those shared with an earlier layer.
        num_activations: numbers in the blobs it is the first to write.
    """

    name: str
    type: str
    tops: tuple[Shape, ...]
    num_parameters: int
    num_activations: int


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    set_up_logging()
    args = _parse(arguments)
    param = without_result_files(read_net(args.net, lenient=args.lenient))
    state = NetState()
    state.MergeFrom(param.state)
    state.MergeFrom(net_state(args, Phase.Value(args.phase)))
    net = build_net(param, state)
    rows = layer_rows(net)
    print(format_rows(rows))
    parameters = sum(row.num_parameters for row in rows)
    activations = sum(row.num_activations for row in rows)
    print()
    print(f"net                {net.name}")
    print(f"layers             {len(rows)}")
    print(f"inputs             {', '.join(net.inputs) if net.inputs else '-'}")
    print(f"outputs            {', '.join(net.outputs) if net.outputs else '-'}")
    print(f"parameters         {parameters:,} ({parameters * _FLOAT_BYTES / 1e6:.1f} MB)")
    print(f"activation memory  {activations * _FLOAT_BYTES / _MIB:.1f} MiB")
    return 0


def layer_rows(net: Net) -> list[LayerRow]:
    """The layers of the prototxt in order; Split layers that the net adds are left out."""
    rows = []
    seen: set[int] = set()
    shapes = net.blob_shapes
    for step, layer in zip(net.steps, net.layers, strict=True):
        own = [blob for blob in layer.blobs if id(blob) not in seen]
        seen.update(map(id, own))
        if step.param.type == "Split":
            continue
        tops = tuple(shapes[value.blob] for value in step.tops)
        first = [shapes[value.blob] for value in step.tops if value.version == 0]
        rows.append(
            LayerRow(
                name=step.param.name,
                type=step.param.type,
                tops=tops,
                num_parameters=sum(blob.numel() for blob in own),
                num_activations=sum(map(prod, first)),
            )
        )
    return rows


def format_rows(rows: Sequence[LayerRow]) -> str:
    """The layers as an aligned table."""
    cells = [_HEADINGS]
    for row in rows:
        tops = ", ".join("x".join(map(str, shape)) or "scalar" for shape in row.tops)
        count = f"{row.num_parameters:,}" if row.num_parameters else "-"
        cells.append((row.name, row.type, tops or "-", count))
    widths = [max(len(line[i]) for line in cells) for i in range(len(_HEADINGS))]
    return "\n".join(
        f"{name:<{widths[0]}}  {kind:<{widths[1]}}  {tops:<{widths[2]}}  {count:>{widths[3]}}"
        for name, kind, tops, count in cells
    )


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = FlagParser("summary", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("net", metavar="NET", help="the net's prototxt")
    parser.add_reference_flags("phase", "level", "stage")
    add_lenient_flag(parser)
    args = parser.parse_flags(arguments)
    if not args.phase:
        args.phase = "TEST"
    if args.phase not in ("TRAIN", "TEST"):
        raise UsageError(f"-phase must be TRAIN or TEST, got {args.phase!r}")
    return args
