"""`caffe summary`: what a net's layers make, hold and cost, and the totals.

An addition to the reference's actions. Counts are those of `caffe_ssd.net.cost`: parameters are
float32 numbers, BatchNorm's statistics included, and a multiply-accumulate is two operations.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from caffe_ssd.cli.flags import ActionParser, add_lenient_flag, net_state, settle_phase
from caffe_ssd.desk.console import show
from caffe_ssd.layers.registry import Shape
from caffe_ssd.net import Net
from caffe_ssd.net.cost import (
    FLOAT_BYTES,
    FLOPS_PER_MAC,
    LayerCost,
    NetCost,
    net_cost,
    net_to_look_at,
)
from caffe_ssd.proto.text import read_net

DESCRIPTION = """\
List a net's layers with the shapes of their tops, their parameters, operations and memory.

FLOPs are two for each multiply-accumulate of convolutions, deconvolutions, fully connected and
recurrent layers; other layers count as none. Activations are those of one batch: all blobs, as
training keeps them for the backward pass (the reference makes as many gradients), and the most
that are alive at once where there is no backward pass and blobs are let go after their last use."""
EXAMPLES = """\
  caffe summary deploy.prototxt
  caffe summary train_val.prototxt -phase TRAIN
  caffe summary deploy.prototxt -json"""

_MIB = 1024**2
_HEADINGS = ("layer", "type", "tops", "parameters", "MFLOP", "MiB")
_NUM_TEXTS = 3  # columns that are aligned to the left


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    param = read_net(args.net, lenient=args.lenient)
    net = net_to_look_at(param, net_state(args, args.phase))
    cost = net_cost(net)
    if args.json:
        show(json.dumps(_entry(net, cost), indent=1))
    else:
        show(f"{format_rows(cost.layers)}\n\n{format_totals(net, cost)}")
    return 0


def format_rows(rows: Sequence[LayerCost]) -> str:
    """The layers as an aligned table."""
    cells = [_HEADINGS]
    for row in rows:
        count = f"{row.num_parameters:,}" if row.num_parameters else "-"
        flops = f"{row.num_macs * FLOPS_PER_MAC / 1e6:,.1f}" if row.num_macs else "-"
        memory = f"{row.num_activations * FLOAT_BYTES / _MIB:.2f}" if row.num_activations else "-"
        tops = "?" if row.type == "Python" else ", ".join(map(_shape, row.tops))
        cells.append((row.name, row.type, tops if tops else "-", count, flops, memory))
    widths = [max(len(line[i]) for line in cells) for i in range(len(_HEADINGS))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i < _NUM_TEXTS else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    )


def format_totals(net: Net, cost: NetCost) -> str:
    """The net as a whole, a line for each number."""
    floats = cost.num_parameters
    lines = {
        "net": net.name,
        "layers": str(len(cost.layers)),
        "inputs": _named_shapes(net, net.inputs),
        "outputs": _named_shapes(net, net.outputs),
        "parameters": f"{floats:,} floats ({floats * FLOAT_BYTES / 1e6:.1f} MB)",
        "caffemodel": f"{_file_bytes(net) / 1e6:.1f} MB",
        "forward pass": f"{cost.num_flops / 1e9:.1f} GFLOP",
    }
    if cost.priors:
        maps = ", ".join(f"{each.height}x{each.width}x{each.per_cell}" for each in cost.priors)
        lines["priors"] = f"{cost.num_priors:,} ({maps})"
    lines["activations"] = (
        f"{cost.num_activations * FLOAT_BYTES / _MIB:.1f} MiB in training, "
        f"{cost.peak_activations * FLOAT_BYTES / _MIB:.1f} MiB at a time without backward pass"
    )
    width = max(map(len, lines)) + 2
    return "\n".join(f"{name:<{width}}{value}" for name, value in lines.items())


def _entry(net: Net, cost: NetCost) -> dict[str, object]:
    """The same numbers for programs; memory in bytes."""
    return {
        "net": net.name,
        "parameters": cost.num_parameters,
        "caffemodel_bytes": _file_bytes(net),
        "flops": cost.num_flops,
        "priors": cost.num_priors,
        "activation_bytes_training": cost.num_activations * FLOAT_BYTES,
        "activation_bytes_inference": cost.peak_activations * FLOAT_BYTES,
        "layers": [
            {
                "name": row.name,
                "type": row.type,
                "tops": [list(shape) for shape in row.tops],
                "parameters": row.num_parameters,
                "flops": row.num_macs * FLOPS_PER_MAC,
                "activation_bytes": row.num_activations * FLOAT_BYTES,
            }
            for row in cost.layers
        ],
    }


def _file_bytes(net: Net) -> int:
    """Size of the file that holds the net's weights: floats, names and settings."""
    return net.to_proto().ByteSize()


def _named_shapes(net: Net, names: Sequence[str]) -> str:
    shapes = dict(zip(net.blob_names, net.blob_shapes, strict=True))
    return ", ".join(f"{name} ({_shape(shapes[name])})" for name in names) if names else "-"


def _shape(shape: Shape) -> str:
    return "x".join(map(str, shape)) if shape else "scalar"


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("summary", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("net", metavar="NET", help="the net's prototxt")
    parser.add_reference_flags("level", "stage", phase="phase of the net, TRAIN or TEST (TEST)")
    parser.add_switch("json", help="print JSON; memory is in bytes")
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    settle_phase(args, default="TEST")
    return args
