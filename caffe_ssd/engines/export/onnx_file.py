"""ONNX: the whole detector in standard operators, and a script that runs it without this package.

    name_of_input (N, C, H, W) -> detections (1, 1, D, 7)

Opset 13. Metadata: `class_names`, `mean` and `scale` as JSON, `input_size` as HxW. In 8 bits the
net is in the QDQ form that ONNX Runtime and OpenVINO read; decoding and suppression are float32.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caffe_ssd.engines.export.free_sizes import freest_model
from caffe_ssd.engines.export.onnx_detection import refuse_unwritable, write_detection
from caffe_ssd.engines.export.part import (
    Detection,
    Request,
    detections_of,
    head_names,
    part_of,
    refuse_extensions,
    shape_text,
    zero_inputs,
)
from caffe_ssd.engines.export.standalone import FIRST_WORDS, SCRIPT
from caffe_ssd.engines.onnx_graph import OnnxGraph
from caffe_ssd.engines.quantization import Quantizer
from caffe_ssd.errors import UsageError
from caffe_ssd.files import atomic_write, read_text


def write_onnx(request: Request, path: Path) -> list[str]:
    """Write the file, and of a detector of pictures the script beside it.

    Args:
        request: what to write.
        path: the file.

    Returns:
        What was written, in lines.

    Raises:
        UsageError: something of the net cannot be written in ONNX, or a package is missing.
        NetError: the net does not take the shape that is asked for.
    """
    detections = detections_of(request.net)
    message = onnx_message(request, detections)
    script = path.with_name(f"{path.stem}_detect.py")
    is_detector = len(detections) == 1 and not request.heads
    is_detector = is_detector and _takes_pictures(message.graph.input)
    if is_detector and script.exists() and not read_text(script).startswith(FIRST_WORDS):
        raise UsageError(f"{script} is there and is not of this command; it would be overwritten")
    atomic_write(path, message.SerializeToString())
    lines = [f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)", *_described(message.graph)]
    if not is_detector:
        return lines
    atomic_write(script, SCRIPT.replace("MODEL.onnx", path.name))
    return [*lines, f"wrote {script}: python {script} picture.jpg"]


def onnx_message(request: Request, detections: Sequence[Detection]) -> Any:
    """The model as the package onnx holds it; see `write_onnx`."""
    wanted = head_names(request.net, detections)
    whole = [] if request.heads else detections
    refuse_extensions(whole, "ONNX")
    for detection in whole:
        refuse_unwritable(detection)
    part = part_of(request.net, wanted)
    inputs = zero_inputs(request, part)
    model = freest_model(request, part, inputs)
    data = model.data
    if request.calibration is not None:
        data = Quantizer(request.calibration).quantized(data, tuple(inputs[0].shape))
    import onnx

    message = onnx.load_from_string(data)
    if whole:
        graph = OnnxGraph(request.name, prefix="detection")
        for detection in whole:
            write_detection(graph, detection)
        tops = {detection.top for detection in whole}
        graph.append_to(
            message,
            [(name, (1, 1, None, 7) if name in tops else ()) for name in request.net.outputs],
        )
    if len(inputs) == 1 and inputs[0].dim() == 4:
        onnx.helper.set_model_props(message, _facts(request, tuple(inputs[0].shape[2:])))
    onnx.checker.check_model(message)
    return message


def _facts(request: Request, size: tuple[int, ...]) -> dict[str, str]:
    facts = request.facts
    return {
        "class_names": json.dumps({str(k): v for k, v in facts.class_names.items()}),
        "mean": json.dumps(list(facts.mean)),
        "scale": json.dumps(facts.scale),
        "input_size": shape_text(size),
        "channels": "BGR",
    }


def _takes_pictures(inputs: Sequence[Any]) -> bool:
    if len(inputs) != 1:
        return False
    dims = inputs[0].type.tensor_type.shape.dim
    return len(dims) == 4 and dims[1].dim_value in (1, 3)


def _described(graph: Any) -> list[str]:
    """A line for each input and output."""
    rows = [
        (kind, each.name, shape_text([d.dim_param or d.dim_value or None for d in _dims(each)]))
        for kind, values in (("input", graph.input), ("output", graph.output))
        for each in values
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    return [f"  {a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows]


def _dims(value: Any) -> Sequence[Any]:
    dims: Sequence[Any] = value.type.tensor_type.shape.dim
    return dims
