"""OpenVINO's own format (.xml and, beside it, .bin), with its own DetectionOutput.

Everything before DetectionOutput goes by way of ONNX. The layer's output has one row of seven for
each of `keep_top_k` per image; those behind the last detection begin with -1.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from caffe_ssd.boxes.coding import CodeType
from caffe_ssd.distribution import install_hint
from caffe_ssd.engines.export.onnx_file import onnx_message
from caffe_ssd.engines.export.part import (
    Detection,
    Request,
    detections_of,
    refuse_extensions,
    shape_text,
)
from caffe_ssd.engines.onnx_runtimes import openvino_core
from caffe_ssd.errors import UsageError
from caffe_ssd.files import atomic_write


def write_openvino(request: Request, path: Path) -> list[str]:
    """Write the two files.

    Args:
        request: what to write.
        path: the .xml file; the weights go beside it.

    Returns:
        What was written, in lines.

    Raises:
        UsageError: something of the net cannot be written, or a package is missing.
        NetError: the net does not take the shape that is asked for.
    """
    try:
        import openvino
    except ImportError as error:
        raise UsageError(
            f"OpenVINO files are written with its package: {install_hint('openvino,onnx')}"
        ) from error
    detections = detections_of(request.net)
    refuse_extensions(detections, "OpenVINO")
    heads = onnx_message(replace(request, heads=True), detections)
    model = openvino_core().read_model(heads.SerializeToString())
    if detections:
        model = _completed(model, request, detections)
    facts = request.facts
    for key, value in {
        "mean": list(facts.mean),
        "scale": facts.scale,
        "labels": [f"{k}:{v}" for k, v in facts.class_names.items()],
    }.items():
        model.set_rt_info(value, ["caffe_ssd", key])
    return _saved(openvino, model, path)


def _completed(model: Any, request: Request, detections: list[Detection]) -> Any:
    """The model with DetectionOutput behind its outputs."""
    import openvino
    from openvino import opset8

    made = {name: output for output in model.outputs for name in output.get_names()}
    tops = {}
    for detection in detections:
        bottoms = [made[name].get_node().input_value(0) for name in detection.bottoms[:3]]
        node = detection_node(detection, *bottoms)
        node.set_friendly_name(detection.name)
        node.output(0).set_names({detection.top})
        tops[detection.top] = node.output(0)
    results = [
        opset8.result(tops[name] if name in tops else made[name].get_node().input_value(0))
        for name in request.net.outputs
    ]
    return openvino.Model(results, model.get_parameters(), request.name)


def detection_node(detection: Detection, loc: Any, conf: Any, priors: Any) -> Any:
    """OpenVINO's DetectionOutput with the layer's settings.

    Args:
        detection: the layer.
        loc, conf, priors: values of a model, shaped as the layer's bottoms.

    Raises:
        UsageError: OpenVINO's has no such setting.
    """
    from openvino import opset8

    attributes = _attributes(detection)
    loc, conf = (opset8.reshape(x, [0, -1], True) for x in (loc, conf))
    if detection.layer.variance_encoded:  # then it wants the boxes alone
        priors = opset8.gather(priors, [0], 1)
    return opset8.detection_output(loc, conf, priors, attributes)


def _attributes(detection: Detection) -> dict[str, Any]:
    layer, rule = detection.layer, detection.layer.rule
    if detection.adapts:
        detection.refuse("OpenVINO", f"nms_param.eta {rule.eta:g}, a threshold that adapts")
    codes = {CodeType.CORNER: "CORNER", CodeType.CENTER_SIZE: "CENTER_SIZE"}
    if layer.code_type not in codes:
        detection.refuse("OpenVINO", f"code_type {layer.code_type.name}")
    return {
        "background_label_id": rule.background_label_id,
        "top_k": rule.top_k,
        "variance_encoded_in_target": layer.variance_encoded,
        "keep_top_k": [rule.keep_top_k],
        "code_type": f"caffe.PriorBoxParameter.{codes[layer.code_type]}",
        "share_location": layer.num_loc_classes == 1,
        "nms_threshold": rule.nms_threshold,
        "confidence_threshold": rule.confidence_threshold,
        "normalized": True,
        "clip_before_nms": rule.clip,
    }


def _saved(openvino: Any, model: Any, path: Path) -> list[str]:
    weights = path.with_suffix(".bin")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / path.name
        openvino.save_model(model, str(made), compress_to_fp16=False)
        atomic_write(weights, made.with_suffix(".bin").read_bytes())
        atomic_write(path, made.read_bytes())
    size = (path.stat().st_size + weights.stat().st_size) / 1e6
    lines = [f"wrote {path} and {weights} ({size:.1f} MB)"]
    for kind, ports in (("input ", model.inputs), ("output", model.outputs)):
        for port in ports:
            sizes = [d.get_length() if d.is_static else None for d in port.partial_shape]
            lines.append(f"  {kind}  {port.any_name}  {shape_text(sizes)}")
    return lines
