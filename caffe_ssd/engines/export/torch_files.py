"""PyTorch's own files: a program of `torch.export` (.pt2), and TorchScript (.pt).

Both run without this package, and give the net's outputs as a tuple in the order of `net.outputs`.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.while_loop import while_loop

from caffe_ssd.engines.export.part import (
    Request,
    detections_of,
    head_names,
    part_of,
    refuse_extensions,
    shape_text,
    specialised,
    zero_inputs,
)
from caffe_ssd.engines.export.torch_detection import (
    Suppress,
    TraceableDetection,
    last_place,
    settle,
)
from caffe_ssd.engines.folding import multiply_out
from caffe_ssd.engines.frozen_net import FrozenNet
from caffe_ssd.errors import UsageError, first_line
from caffe_ssd.files import atomic_write
from caffe_ssd.layers.detection_output import DetectionOutput


def write_program(request: Request, path: Path) -> list[str]:
    """Write a program of `torch.export`; it takes any batch where the net does.

    Args:
        request: what to write.
        path: the file.

    Returns:
        What was written, in lines.

    Raises:
        UsageError: the net cannot be traced.
        NetError: it does not take the shape that is asked for.
    """
    net, inputs = _traceable(request, suppressed_by_operator)
    program = None
    if request.batch is None and len(inputs) == 1 and inputs[0].dim() == 4:
        program = _free_batch(net, inputs[0])
    is_free = program is not None
    if program is None:
        program = _program(net, tuple(inputs))
    images = 2 if is_free else None
    _check(program.module(), net, [_noise(x, images) for x in inputs])
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"facts.json": _facts(request)})
    atomic_write(path, file.getvalue())
    return _described(path, net, is_free)


def write_torchscript(request: Request, path: Path) -> list[str]:
    """Write TorchScript; it takes inputs of one shape.

    Args:
        request: what to write.
        path: the file.

    Returns:
        What was written, in lines.

    Raises:
        NetError: the net does not take the shape that is asked for.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and tracing gives advice
        net, inputs = _traceable(request, torch.jit.script(suppressed_by_script))
        checked = _Checked(net, [list(x.shape) for x in inputs])
        with torch.no_grad():
            module: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
                checked, tuple(inputs), check_trace=False
            )
        _check(module, net, [_noise(x) for x in inputs])
        file = io.BytesIO()
        torch.jit.save(module, file, _extra_files={"facts.json": _facts(request)})
    atomic_write(path, file.getvalue())
    return _described(path, net, is_free=False)


def _traceable(request: Request, suppress: Suppress) -> tuple[FrozenNet, list[Tensor]]:
    """The net with its DetectionOutput layers replaced, and inputs it is made for."""
    detections = detections_of(request.net)
    refuse_extensions(detections, "PyTorch")
    head_names(request.net, detections)  # refuses layers behind DetectionOutput
    part = part_of(request.net, request.net.outputs)
    inputs = zero_inputs(request, part)
    net = specialised(part, inputs).rewritten(multiply_out)
    program = [
        replace(op, layer=TraceableDetection(op.layer, suppress))
        if isinstance(op.layer, DetectionOutput)
        else op
        for op in net.program
    ]
    return FrozenNet(program, net.inputs, net.outputs, net.shapes).eval(), inputs


def _free_batch(net: FrozenNet, x: Tensor) -> Any:
    """The program for any number of images, or None where the net is bound to one."""
    # Not 1, which is a number of its own kind in broadcasts.
    several = x.new_zeros(3, *x.shape[1:])
    program = _program(net, (several,), {"inputs": ({0: torch.export.Dim.AUTO},)})
    (name,) = program.graph_signature.user_inputs
    given = next(node for node in program.graph.nodes if node.name == name)
    return program if isinstance(given.meta["val"].shape[0], torch.SymInt) else None


def _program(net: FrozenNet, inputs: tuple[Tensor, ...], dims: dict[str, Any] | None = None) -> Any:
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return torch.export.export(net, inputs, dynamic_shapes=dims)
        except Exception as error:  # its errors have no common class
            raise UsageError(f"torch.export cannot follow this net: {first_line(error)}") from error


def _noise(x: Tensor, images: int | None = None) -> Tensor:
    """Something like a picture less its mean, of an input's shape."""
    shape = x.shape if images is None else (images, *x.shape[1:])
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 4 - 2


def _check(made: Callable[..., Sequence[Tensor]], net: FrozenNet, inputs: list[Tensor]) -> None:
    """Refuse a net of which a trace follows one way where its layers choose among several.

    Raises:
        UsageError: what was made gives something else than the net for other inputs.
    """
    with torch.no_grad():
        pairs = zip(net(*inputs), made(*inputs), strict=True)
        same = all(
            a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)
            for a, b in pairs
        )
    if not same:
        raise UsageError(
            "PyTorch cannot follow this net: what it wrote down gives something else than the net; "
            "nothing is written"
        )


class _Checked(nn.Module):
    """A net that refuses inputs of other shapes, for which a trace may compute anything."""

    def __init__(self, net: nn.Module, shapes: list[list[int]]) -> None:
        super().__init__()
        self.net = net
        self.shapes = shapes
        # A trace keeps calls of scripts, with the choices inside them.
        self.same_shape = torch.jit.script(_refuse_other_shape)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        tops: tuple[Tensor, ...] = self.net(
            *(self.same_shape(x, shape) for x, shape in zip(inputs, self.shapes, strict=True))
        )
        return tops


def _refuse_other_shape(x: Tensor, shape: list[int]) -> Tensor:
    if list(x.shape) != shape:
        raise ValueError("this file was exported for inputs of another shape: ", shape)
    return x


def suppressed_by_script(boxes: Tensor, counts: Tensor, threshold: float, eta: float) -> Tensor:
    kept, worst = counts, torch.zeros_like(boxes[:, :, 0])
    limit = torch.full([boxes.shape[0], 1], threshold, dtype=boxes.dtype, device=boxes.device)
    last = int(last_place(counts))
    for i in range(last):
        place = torch.full([1], i, dtype=torch.int64, device=boxes.device)
        kept, worst, limit = settle(place, boxes, kept, worst, limit, eta)
    return kept


def suppressed_by_operator(boxes: Tensor, counts: Tensor, threshold: float, eta: float) -> Tensor:
    last = last_place(counts)

    def goes_on(i: Tensor, kept: Tensor, worst: Tensor, limit: Tensor) -> Tensor:
        return (i < last)[0]

    def step(i: Tensor, kept: Tensor, worst: Tensor, limit: Tensor) -> tuple[Tensor, ...]:
        return i + 1, *settle(i, boxes, kept, worst, limit, eta)

    worst = torch.zeros_like(boxes[:, :, 0])
    limit = torch.full_like(boxes[:, :1, 0], threshold)
    started = (torch.zeros_like(last), counts.clone(), worst, limit)
    kept: Tensor = while_loop(goes_on, step, started)[1]  # type: ignore[no-untyped-call]
    return kept


def _facts(request: Request) -> str:
    facts = request.facts
    return json.dumps(
        {"mean": facts.mean, "scale": facts.scale, "class_names": dict(facts.class_names)}
    )


def _described(path: Path, net: FrozenNet, is_free: bool) -> list[str]:
    lines = [f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)"]
    for name, value in net.inputs:
        shape: tuple[int | str, ...] = net.shapes[value]
        lines.append(f"  input   {name}  {shape_text(('batch', *shape[1:]) if is_free else shape)}")
    return [*lines, *(f"  output  {name}" for name, _ in net.outputs)]
