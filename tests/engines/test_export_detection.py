"""DetectionOutput in the words of each format, on predictions of every kind."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from openvino import opset8
from torch import Tensor

from caffe_ssd.boxes.coding import CodeType
from caffe_ssd.boxes.detection import DetectionRule
from caffe_ssd.engines.export.onnx_detection import write_detection
from caffe_ssd.engines.export.openvino_ir import detection_node
from caffe_ssd.engines.export.part import Detection
from caffe_ssd.engines.export.torch_detection import TraceableDetection
from caffe_ssd.engines.export.torch_files import suppressed_by_operator, suppressed_by_script
from caffe_ssd.engines.onnx_graph import OnnxGraph
from caffe_ssd.engines.onnx_runtimes import openvino_core
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.detection_output import DetectionOutput
from tests.support.exported import assert_same_detections, openvino_rows

IMAGES, PRIORS, CLASSES = 3, 40, 4
Found = Callable[[DetectionOutput, tuple[Tensor, Tensor, Tensor]], Tensor]


def onnx(layer: DetectionOutput, bottoms: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    names = ("loc", "conf", "priors")
    graph = OnnxGraph("net", prefix="detection")
    write_detection(graph, Detection(name="found", layer=layer, bottoms=names, top="found"))
    shapes = [(name, tuple(x.shape)) for name, x in zip(names, bottoms, strict=True)]
    model = graph.model(shapes, [("found", (1, 1, None, 7))]).SerializeToString()
    feed = {name: x.numpy() for name, x in zip(names, bottoms, strict=True)}
    return torch.from_numpy(onnxruntime.InferenceSession(model).run(None, feed)[0])


def operator(layer: DetectionOutput, bottoms: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    module = TraceableDetection(layer, suppressed_by_operator)
    found: Tensor = torch.export.export(module, bottoms).module()(*bottoms)
    return found


def script(layer: DetectionOutput, bottoms: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = TraceableDetection(layer, torch.jit.script(suppressed_by_script))
        traced = torch.jit.trace(module, bottoms, check_trace=False)
    found: Tensor = traced(*bottoms)
    return found


WAYS = {"onnx": onnx, "operator": operator, "script": script}


def bottoms_of(layer: DetectionOutput, *, ties: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(4)
    shares = layer.num_loc_classes
    loc = torch.randn(IMAGES, PRIORS * shares * 4, generator=rng)
    if layer.variance_encoded or layer.code_type == CodeType.CORNER:
        loc *= 0.1
    conf = torch.randn(IMAGES, PRIORS, CLASSES, generator=rng).softmax(2)
    if ties:
        conf = (conf * 8).round() / 8
    low = torch.rand(PRIORS, 2, generator=rng) * 0.6
    boxes = torch.cat([low, low + 0.1 + 0.3 * torch.rand(PRIORS, 2, generator=rng)], 1)
    variances = torch.tensor([0.1, 0.1, 0.2, 0.2]).expand(PRIORS, 4)
    return loc, conf.flatten(1), torch.stack([boxes, variances]).reshape(1, 2, -1)


def layer_of(
    *,
    share: bool = True,
    code: CodeType = CodeType.CENTER_SIZE,
    encoded: bool = False,
    background: int = 0,
    threshold: float = 0.2,
    overlap: float = 0.3,
    top_k: int = 20,
    eta: float = 1.0,
    keep: int = 25,
    clip: bool = False,
) -> DetectionOutput:
    rule = DetectionRule(
        background_label_id=background,
        confidence_threshold=threshold,
        nms_threshold=overlap,
        top_k=top_k,
        eta=eta,
        keep_top_k=keep,
        clip=clip,
    )
    return DetectionOutput(
        num_classes=CLASSES,
        rule=rule,
        share_location=share,
        code_type=code,
        variance_encoded=encoded,
    )


SETTINGS = {
    "plain": {},
    "a location per class": {"share": False},
    "corners, boxes turned inside out": {"code": CodeType.CORNER, "overlap": 0.1},
    "corners by size": {"code": CodeType.CORNER_SIZE},
    "variance in the code": {"encoded": True},
    "no background": {"background": -1},
    "background last": {"background": CLASSES - 1},
    "all candidates": {"top_k": -1, "keep": -1},
    "few candidates": {"top_k": 3},
    "few kept": {"keep": 4},
    "more than there are": {"top_k": 400, "keep": 1000},
    "clipped": {"clip": True},
    "overlap above 1": {"overlap": 1.5},
    "nothing found": {"threshold": 0.999},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_rows_and_their_order(way: str, settings: dict[str, object]) -> None:
    layer = layer_of(**settings)  # type: ignore[arg-type]
    bottoms = bottoms_of(layer)
    want = layer(*bottoms)
    torch.testing.assert_close(WAYS[way](layer, bottoms), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_equal_scores_keep_the_order_of_priors(way: str) -> None:
    layer = layer_of(top_k=5, keep=7)
    bottoms = bottoms_of(layer, ties=True)
    torch.testing.assert_close(WAYS[way](layer, bottoms), layer(*bottoms), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("way", ["operator", "script"])
def test_a_threshold_that_adapts(way: str) -> None:
    layer = layer_of(overlap=0.8, eta=0.8, threshold=0.05, keep=-1)
    bottoms = bottoms_of(layer)
    want = layer(*bottoms)
    assert len(want[0, 0]) != len(layer_of(overlap=0.8, threshold=0.05, keep=-1)(*bottoms)[0, 0])
    torch.testing.assert_close(WAYS[way](layer, bottoms), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_openvino_finds_the_same(settings: dict[str, object]) -> None:
    layer = layer_of(**settings)  # type: ignore[arg-type]
    bottoms = bottoms_of(layer)
    detection = Detection(name="found", layer=layer, bottoms=("loc", "conf", "priors"), top="found")
    given = [opset8.parameter(list(x.shape), np.float32) for x in bottoms]
    if layer.code_type == CodeType.CORNER_SIZE:
        with pytest.raises(
            UsageError, match=r"layer 'found' .* OpenVINO with code_type CORNER_SIZE"
        ):
            detection_node(detection, *given)
        return
    model = openvino.Model([detection_node(detection, *given)], given, "net")
    compiled = openvino_core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (found,) = compiled([x.numpy() for x in bottoms]).values()
    assert_same_detections(layer(*bottoms)[0, 0].numpy(), openvino_rows(np.array(found)))


def test_nothing_found_is_a_row_for_each_image() -> None:
    layer = layer_of(threshold=0.999)
    found = onnx(layer, bottoms_of(layer))
    np.testing.assert_array_equal(found[0, 0, :, 0], np.arange(IMAGES))
    assert bool((found[..., 1:] == -1).all())
