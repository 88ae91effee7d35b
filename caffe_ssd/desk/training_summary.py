"""What is going to be trained, in a few lines: data, net, schedule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import ceil

from caffe_ssd.errors import CaffeError
from caffe_ssd.layers.data import RecordLayer
from caffe_ssd.layers.registry import SourceLayer
from caffe_ssd.log import cpp_number
from caffe_ssd.net import Net
from caffe_ssd.net.cost import FLOAT_BYTES, net_cost
from caffe_ssd.proto.caffe_pb2 import LayerParameter, SolverParameter
from caffe_ssd.solver.solver import Solver

_TYPES_SHOWN = 5
_NAMES_SHOWN = 12
_ENDLESS = 1 << 40  # a shuffled list has no end
_PER_CLASS_LAYERS = ("Split", "Silence")  # say nothing about a net


def training_summary(solver: Solver, names: Mapping[int, str]) -> list[tuple[str, str]]:
    """Lines with a title each.

    Args:
        solver: as it is about to start.
        names: of the classes by label.
    """
    return [
        *_data(solver, names),
        *_net(solver.net, images_per_pass(solver.net)),
        ("schedule", _schedule(solver)),
    ]


def images_per_pass(net: Net) -> int:
    """The batch size of a net's first data layer; 0 without one."""
    for layer in net.layers:
        if isinstance(layer, SourceLayer):
            # A Python layer may have no top, or one that is a single number.
            return next((shape[0] for shape in layer.top_shapes() if shape), 0)
    return 0


def num_pictures(net: Net) -> int:
    """How many records a net's first data layer has; 0 if nobody knows."""
    for layer in net.layers:
        reader = layer.loader.reader if isinstance(layer, RecordLayer) else None
        source = getattr(reader, "source", None)
        if source is not None and len(source) < _ENDLESS:
            return len(source)
    return 0


def _data(solver: Solver, names: Mapping[int, str]) -> Iterator[tuple[str, str]]:
    yield "training", _source(solver.net)
    for net in solver.test_nets:
        yield "tests", _source(net)
    if names:
        shown = list(names.values())
        more = len(shown) - _NAMES_SHOWN
        listed = ", ".join(shown[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        yield "classes", f"{len(shown)}: {listed}"


def _source(net: Net) -> str:
    """Where a net's data come from."""
    sources = [step.param for step in net.steps if not step.param.bottom and step.param.top]
    if not sources:
        return "no data layer"
    count = num_pictures(net)
    path = _path(sources[0])
    return f"{path if path else sources[0].type}" + (f", {count:,} pictures" if count else "")


def _path(layer: LayerParameter) -> str:
    for field in ("data_param", "image_data_param", "hdf5_data_param", "window_data_param"):
        if layer.HasField(field):
            return str(getattr(layer, field).source)
    return ""


def _net(net: Net, batch: int) -> Iterator[tuple[str, str]]:
    counts = Counter(step.param.type for step in net.steps)
    for name in _PER_CLASS_LAYERS:
        counts.pop(name, None)
    common = counts.most_common(_TYPES_SHOWN)
    others = counts.total() - sum(count for _, count in common)
    listed = ", ".join(f"{count} {name}" for name, count in common)
    yield "net", f"{net.name}: {listed}" + (f", {others} others" if others else "")
    try:
        cost = net_cost(net)
    except CaffeError:  # a layer of the user's own without shapes
        return
    floats = cost.num_parameters
    yield "parameters", f"{floats:,} ({floats * FLOAT_BYTES / 1e6:.3g} MB)"
    if batch:
        yield "cost", f"{cost.num_flops / batch / 1e9:.3g} GFLOP a picture (forward)"
        shape = next((layer.tops[0] for layer in cost.layers if layer.tops), ())
        yield "input", f"{' x '.join(map(str, shape[1:]))}, batches of {batch}"
    if cost.priors:
        maps = ", ".join(f"{each.height}x{each.width}x{each.per_cell}" for each in cost.priors)
        yield "priors", f"{cost.num_priors:,} ({maps})"


def _schedule(solver: Solver) -> str:
    param = solver.param
    parts = [f"iterations {solver.iter:,} to {param.max_iter:,}"]
    images = images_per_pass(solver.net) * param.iter_size * solver.runtime.world_size
    count = num_pictures(solver.net)
    if images:
        parts[0] += f" of {images} pictures"
    if images and count:
        parts[0] += f", {param.max_iter * images / count:.3g} passes over all"
    parts.append(f"rate {cpp_number(param.base_lr)}{_policy(param)}")
    if solver.test_nets:
        is_reached = 0 < param.test_interval <= param.max_iter or param.test_initialization
        parts.append(
            f"{'a' if is_reached else 'too short for a'} test every {param.test_interval:,}"
        )
    if 0 < param.snapshot <= param.max_iter:
        parts.append(f"a snapshot every {param.snapshot:,}")
    elif param.snapshot_after_train:
        parts.append("a snapshot at the end")
    return "; ".join(parts)


def _policy(param: SolverParameter) -> str:
    """How the rate changes, in words."""
    times = f" x {cpp_number(param.gamma)}"
    if param.lr_policy == "multistep":
        steps = [step for step in param.stepvalue if step < param.max_iter]
        return f",{times} at {_listed(steps)}" if steps else ""
    if param.lr_policy == "step" and param.stepsize > 0:
        steps = [param.stepsize * i for i in range(1, ceil(param.max_iter / param.stepsize))]
        return f",{times} every {param.stepsize:,}" if steps else ""
    return "" if param.lr_policy == "fixed" else f" ({param.lr_policy})"


def _listed(numbers: list[int]) -> str:
    texts = [f"{number:,}" for number in numbers]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
