"""What of a net goes into an ONNX file, and what is left to do behind it.

The file ends where ONNX ends: of a detector it has everything before DetectionOutput, whose bottoms
are the file's outputs under their own names. Priors are among them as a constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from caffe_ssd.engines.frozen_net import Constant, FrozenNet, freeze
from caffe_ssd.engines.onnx_export import is_exportable
from caffe_ssd.errors import LayerError, NetError, UsageError
from caffe_ssd.layers.detection_output import DetectionOutput
from caffe_ssd.layers.registry import Shape
from caffe_ssd.net import Net
from caffe_ssd.net.part import NetPart
from caffe_ssd.net.plan import Step, Value


def exported_part(
    net: Net, batch: int | None = None, size: tuple[int, int] | None = None
) -> FrozenNet:
    """What of a net goes into the file, for one shape of its inputs.

    Args:
        net: in phase TEST, with its weights, on the CPU.
        batch: N; None for the net's own.
        size: (height, width) of the input; None for the net's own.

    Raises:
        UsageError: a layer cannot be written in ONNX, or the net has no single input to resize.
        NetError: it reads its own data, or does not take the size.
    """
    names = output_names(net)
    frozen = freeze(net, names)
    if len(frozen.inputs) != len(net.inputs):
        raise NetError("the net reads a database; give the deploy net, which has an Input layer")
    both = set(names).intersection(net.inputs)
    if both:
        raise UsageError(f"{both.pop()!r} is an input of the net and an output, too; rename a top")
    inputs = _inputs(net, frozen, batch, size)
    try:
        with torch.no_grad():
            frozen = frozen.specialised(*inputs)
    except LayerError as error:
        shapes = ", ".join(_shape(tuple(x.shape)) for x in inputs)
        raise NetError(f"the net does not take an input of {shapes}: {error}") from error
    for op in frozen.program:
        if not isinstance(op.layer, Constant) and not is_exportable(op.layer):
            raise UsageError(
                f"layer {op.step.param.name!r} ({op.step.param.type}) cannot be written in ONNX"
            )
    return frozen


def output_names(net: Net) -> list[str]:
    """The blobs that the file's outputs are: what DetectionOutput reads, or the net's outputs."""
    original: dict[Value, Value] = {}
    names: dict[str, None] = {}
    for step, layer in zip(net.steps, net.layers, strict=True):
        if step.param.type == "Split":
            bottom = step.bottoms[0]
            original.update(dict.fromkeys(step.tops, original.get(bottom, bottom)))
        if isinstance(layer, DetectionOutput):
            blobs = [original.get(value, value).blob for value in step.bottoms]
            names.update(dict.fromkeys(net.blob_names[blob] for blob in blobs))
    return list(names) if names else net.outputs


def describe(net: Net, frozen: FrozenNet, path: str) -> str:
    """The file's inputs and outputs, and what is left to do behind it."""
    rows = [
        (kind, name, _shape(frozen.shapes[value]))
        for kind, named in (("input", frozen.inputs), ("output", frozen.outputs))
        for name, value in named
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    lines = [f"wrote {path} ({Path(path).stat().st_size / 1e6:.1f} MB)"]
    lines += [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows]
    behind = _behind(net, frozen)
    lines.append("not in the file, to be done with its outputs:" if behind else "nothing is left")
    lines += [f"  {line}" for line in behind]
    return "\n".join(lines)


def _behind(net: Net, frozen: FrozenNet) -> list[str]:
    """A line for every layer that reads the file's outputs, or what is made of them."""
    given = {value for _, value in frozen.outputs}
    lines = []
    for step, layer in zip(net.steps, net.layers, strict=True):
        if not given.intersection(step.bottoms):
            continue
        given.update(step.tops)
        if isinstance(layer, DetectionOutput):
            lines.append(f"{step.param.name} (DetectionOutput): {_detection_text(layer)}")
        elif step.param.type not in ("Split", "Silence"):
            lines.append(f"{step.param.name} ({step.param.type})")
    return lines


def _detection_text(layer: DetectionOutput) -> str:
    rule = layer.rule
    top_k = "all" if rule.top_k < 0 else f"the best {rule.top_k}"
    keep = "all" if rule.keep_top_k < 0 else f"the best {rule.keep_top_k}"
    times = "" if layer.variance_encoded else ", times the priors' variances"
    steps = f"; {layer.steps}" if layer.steps else ""
    return (
        f"decode boxes ({layer.code_type.name}{times}); per class, of {layer.num_classes} with "
        f"background {rule.background_label_id}: scores above {rule.confidence_threshold:g}, "
        f"{top_k}, NMS at {rule.nms_threshold:g}; keep {keep} per image{steps}"
    )


def _inputs(
    net: Net, frozen: FrozenNet, batch: int | None, size: tuple[int, int] | None
) -> list[Tensor]:
    """Zeros of the shapes that the file shall take."""
    known = dict(zip(net.blob_names, net.blob_shapes, strict=True))
    shapes = [known[name] for name, _ in frozen.inputs]
    if batch is not None or size is not None:
        if len(shapes) != 1 or len(shapes[0]) != 4:
            raise UsageError(
                "another batch or size is for nets with one input (N, C, H, W); this one has "
                f"{[list(shape) for shape in shapes]}"
            )
        own_batch, channels, *own_size = shapes[0]
        images = own_batch if batch is None else batch
        shapes = [(images, channels, *(own_size if size is None else size))]
        _check_priors(net, shapes[0])
    return [torch.zeros(shape) for shape in shapes]


def _check_priors(net: Net, shape: Shape) -> None:
    """Refuse a size that a detector's priors are not made for."""
    fed: Step = next(step for step in net.steps if step.param.type == "Input")
    for step in net.steps:
        if step.param.type == "DetectionOutput":
            NetPart(net, fed=fed.tops[0], wanted=step.tops[0]).check_size(shape)


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) if shape else "scalar"
