"""Rules of other forks' layers by numbers one can check by hand, and the recorded cases."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import caffe
import numpy as np
import pytest
import torch

from caffe_ssd.errors import CaffeError, LayerError, LayerParamError, ShapeError
from caffe_ssd.layers.extensions.regions import round_half_away
from caffe_ssd.layers.registry import layer_types, variants
from caffe_ssd.proto.extensions import LAYER_TYPES, MOST_BLOBS
from tests.layers.build import build
from tests.support.golden import GOLDEN


def numbers(*shape: int) -> torch.Tensor:
    """0, 1, 2, ... in this shape."""
    return torch.arange(float(np.prod(shape))).reshape(shape)


def test_every_extension_lives_in_its_folder() -> None:
    from caffe_ssd.layers.registry import layer_type

    folder = "caffe_ssd.layers.extensions."
    for name in layer_types():
        assert layer_type(name).build.__module__.startswith(folder) == (name in LAYER_TYPES), name
        for kind in variants(name):
            assert kind.build.__module__.startswith(folder)
            assert kind.told_by
            assert name not in LAYER_TYPES or name == "Upsample"


def test_variants_that_take_more_blobs_are_refused_by_strict() -> None:
    for name in set(layer_types()) - LAYER_TYPES:
        for kind in variants(name):
            most = (kind.bottoms.stop - 1, kind.tops.stop - 1)
            own = build_limits(name)
            if most[0] > own[0] or most[1] > own[1]:
                assert name in MOST_BLOBS


def build_limits(name: str) -> tuple[int, int]:
    from caffe_ssd.layers.registry import layer_type

    kind = layer_type(name)
    return kind.bottoms.stop - 1, kind.tops.stop - 1


def test_relu6_stops_at_six() -> None:
    x = torch.tensor([-1.0, 3.0, 6.0, 9.0], requires_grad=True)
    for layer in (build("ReLU6", "", (4,)), build("ReLU", "relu_param { relu6: true }", (4,))):
        y = layer(x)
        assert y.tolist() == [0, 3, 6, 6]
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.tolist() == [0, 1, 0, 0]


def test_channels_are_interleaved() -> None:
    layer = build("ShuffleChannel", "shuffle_channel_param { group: 2 }", (1, 6, 1, 1))
    assert layer(numbers(1, 6, 1, 1)).flatten().tolist() == [0, 3, 1, 4, 2, 5]


def test_the_last_of_several_values_is_put_back() -> None:
    layer = build("Upsample", "", (1, 1, 1, 3), (1, 1, 1, 3), tops=1)
    values = torch.tensor([5.0, 6, 7], requires_grad=True).reshape(1, 1, 1, 3)
    y = layer(values, torch.tensor([2.0, 9, 2]).reshape(1, 1, 1, 3))
    assert y.flatten().tolist() == [0, 0, 7, 0, 0, 0, 0, 0, 0, 6, 0, 0]
    with pytest.raises(LayerError, match=r"0\.\.11, got 12"):
        layer(values, torch.full((1, 1, 1, 3), 12.0))


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ("shrink_factor: 2", (3, 4)),
        ("zoom_factor: 2", (9, 13)),
        ("height: 2 width: 3", (2, 3)),
        ("shrink_factor: 2 zoom_factor: 3", (7, 10)),
        ("shrink_factor: 2 zoom_factor: 3 height: 2 width: 3", (2, 3)),
        ("shrink_factor: 2 height: 2 width: 3", (3, 4)),
        ("zoom_factor: 2 pad_beg: -1 pad_end: -2", (3, 7)),
    ],
)
def test_which_size_counts(settings: str, size: tuple[int, int]) -> None:
    layer = build("Interp", f"interp_param {{ {settings} }}", (1, 2, 5, 7))
    assert tuple(layer(numbers(1, 2, 5, 7)).shape[2:]) == size
    assert layer.top_shapes((1, 2, 5, 7)) == ((1, 2, *size),)


def test_darknets_order_is_not_space_to_depth() -> None:
    layer = build("Reorg", "reorg_param { stride: 2 }", (1, 4, 2, 2))
    back = build("Reorg", "reorg_param { stride: 2 reverse: true }", (1, 8, 1, 1))
    x = numbers(1, 4, 2, 2)
    y = layer(x)
    # The 16 numbers are dealt out as a plane of 4x4 cells, 2x2 of which go to each channel.
    assert y.flatten().tolist() == [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]
    # Channel 2 i + k goes to cell i of plane k.
    assert back(numbers(1, 8, 1, 1)).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_halves_are_rounded_away_from_zero() -> None:
    x = torch.tensor([-1.5, -0.5, 0.49999997, 0.5, 2.5])
    assert round_half_away(x).tolist() == [-2, -1, 0, 1, 3]


def test_a_region_in_bins() -> None:
    layer = build(
        "ROIPooling", "roi_pooling_param { pooled_h: 1 pooled_w: 2 }", (1, 1, 3, 4), (2, 5)
    )
    x = numbers(1, 1, 3, 4).requires_grad_()
    y = layer(x, torch.tensor([[0, 1, 0, 2, 1], [0, 9, 9, 9, 9.0]]))
    assert y.flatten().tolist() == [5, 6, 0, 0]  # the second region lies outside
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.flatten().nonzero().flatten().tolist() == [5, 6]
    assert layer(x, torch.zeros(0, 5)).shape == (0, 1, 1, 2)


@pytest.mark.parametrize(
    ("settings", "count"), [("", 4), ("ceil_mode: false", 3), ("round_mode: FLOOR", 3)]
)
def test_windows_are_rounded_down_if_asked(settings: str, count: int) -> None:
    layer = build(
        "Pooling", f"pooling_param {{ kernel_size: 2 stride: 2 {settings} }}", (1, 1, 7, 7)
    )
    assert layer(numbers(1, 1, 7, 7)).shape == (1, 1, count, count)


def test_a_pad_of_its_own_for_each_side() -> None:
    text = "convolution_param { num_output: 1 kernel_size: 2 pad_l: 1 bias_term: false }"
    layer = build("Convolution", text, (1, 1, 2, 2))
    layer.blobs[0].data.fill_(1)
    assert layer(numbers(1, 1, 2, 2)).flatten().tolist() == [2, 6]
    pool = build("Pooling", "pooling_param { kernel_size: 2 pad_b: 1 }", (1, 1, 2, 2))
    assert pool(-1 - numbers(1, 1, 2, 2)).flatten().tolist() == [-1, -3]


@pytest.mark.parametrize(
    ("kind", "text", "bottoms", "complaint"),
    [
        (
            "Deconvolution",
            "convolution_param { num_output: 1 kernel_size: 1 pad_l: 1 }",
            1,
            "pad_l",
        ),
        ("Im2col", "convolution_param { kernel_size: 1 pad_b: 1 }", 1, "pad_b"),
        ("Pooling", "pooling_param { pool: AVE kernel_size: 3 pad_l: 1 }", 1, "divided by"),
        (
            "Pooling",
            "pooling_param { kernel_size: 3 torch_pooling: true }",
            1,
            "torch_pooling: true",
        ),
        (
            "Convolution",
            "convolution_param { num_output: 1 kernel_size: 1 pad_type: 1 }",
            1,
            "type",
        ),
        (
            "ConvolutionDepthwise",
            "convolution_param { num_output: 5 kernel_size: 1 }",
            1,
            "got num",
        ),
        ("BatchNorm", "batch_norm_param { disable_mean: true }", 1, "disable_mean: true is not"),
        ("BN", "bn_param { engine: CAFFE }", 1, "bn_mode: LEARN"),
        ("Normalize", "norm_param { } normalize_param { }", 1, "give one"),
        ("SoftmaxWithLoss", "loss_param { pre_fixed_normalizer: 3 }", 2, "PRE_FIXED"),
        ("EuclideanLoss", "loss_param { normalization: PRE_FIXED }", 2, ""),
    ],
)
def test_refusals(kind: str, text: str, bottoms: int, complaint: str) -> None:
    shapes = [(2, 4, 5, 6)] * bottoms
    if kind == "EuclideanLoss":  # which has no normalisation to choose
        build(kind, text, *shapes)
        return
    with pytest.raises((LayerParamError, ShapeError), match=complaint):
        build(kind, text, *shapes)


PRIORS = [(1, 3, 2, 2), (1, 3, 20, 20)]


def test_a_harmless_value_of_a_refused_field_is_taken() -> None:
    build("Pooling", "pooling_param { kernel_size: 3 torch_pooling: false }", (1, 1, 5, 5))
    build(
        "Convolution",
        "convolution_param { num_output: 1 kernel_size: 1 pad_type: 0 }",
        (1, 1, 5, 5),
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("min_size: 4 aspect_ratio: 2 offset_w: 0.5", "given together"),
        ("min_size: 4 aspect_ratio: 1 offset_w: 0.5 offset_h: 0.5", "aspect_ratio 1"),
        ("min_size: 4 offset_w: 0.5 offset_h: 0.5", "aspect_ratio is missing"),
        ("min_size: 4 aspect_ratio: 2 offset_w: 0 offset_h: 0 offset: 0.5", "either offset"),
        ("width: 4 height: 5 min_size: 4", "take no min_size"),
        ("width: 4 height: 5 offset_w: 0.5 offset_h: 0.5", "different layers"),
        ("min_size: 4 aspect_ratio: 2 offset_w: 0 offset_h: 0 denser_prior_boxes: true", "differ"),
    ],
)
def test_prior_boxes_that_contradict_themselves(text: str, complaint: str) -> None:
    with pytest.raises(LayerParamError, match=complaint):
        build("PriorBox", f"prior_box_param {{ {text} }}", *PRIORS)


def test_priors_again_a_bit_further_down() -> None:
    text = "prior_box_param { min_size: 4 denser_prior_boxes: true }"
    boxes = build("PriorBox", text, *PRIORS)(*map(torch.zeros, PRIORS))[0, 0].reshape(-1, 4)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert len(boxes) == 8
    torch.testing.assert_close(centers[:2], torch.tensor([[0.25, 0.25], [0.25, 0.5]]))


def test_too_few_priors_name_what_textboxes_do() -> None:
    text = "detection_output_param { num_classes: 2 }"
    with pytest.raises(
        ShapeError, match=r"for 4 priors, twice as many: .*denser_prior_boxes: true"
    ):
        build("DetectionOutput", text, (1, 16), (1, 8), (1, 2, 8))
    with pytest.raises(ShapeError, match=r"for 6 priors .*offset_w and offset_h"):
        build("DetectionOutput", text, (1, 24), (1, 12), (1, 2, 8))


def test_an_image_as_fourth_bottom_is_still_the_originals() -> None:
    text = "detection_output_param { num_classes: 2 }"
    plain = build("DetectionOutput", text, (1, 8), (1, 4), (1, 2, 8), (1, 3, 9, 9))
    arm = build("DetectionOutput", text, (1, 8), (1, 4), (1, 2, 8), (1, 4))
    assert (type(plain).__name__, type(arm).__name__) == ("DetectionOutput", "RefineDetOutput")
    with pytest.raises(ShapeError, match=r"arm_conf must have shape \[1, 4\]"):
        build("DetectionOutput", text, (1, 8), (1, 4), (1, 2, 8), (1, 5))


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_statistics_never_learn(phase: str, tmp_path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(
        'layer { name: "x" type: "Input" top: "x" '
        "input_param { shape { dim: 2 dim: 3 dim: 4 dim: 5 } } }"
        'layer { name: "bn" type: "BN" bottom: "x" top: "y" bn_param { slope_filler { value: 1 } }'
        " param { } param { } param { lr_mult: 1 } param { lr_mult: 2 } }"
        'layer { name: "b" type: "BatchNorm" bottom: "y" top: "z" '
        "batch_norm_param { scale_bias: true } }"
        'layer { name: "loss" type: "Reduction" bottom: "z" top: "l" loss_weight: 1 }'
    )
    net = caffe.Net(str(path), getattr(caffe, phase)).engine
    rates = {(entry.layer, entry.index): entry.lr_mult for entry in net.learnable}
    assert [rates["bn", i] for i in range(4)] == [1, 1, 0, 0]
    assert [rates["b", i] for i in range(5)] == [0, 0, 0, 1, 1]


def test_a_net_says_once_what_it_uses(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "net.prototxt"
    relu = 'layer { name: "r%d" type: "ReLU6" bottom: "x" top: "x" }'
    path.write_text(
        'name: "n" layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }'
        + "".join(relu % i for i in range(3))
    )
    with caplog.at_level(logging.WARNING):
        caffe.Net(str(path), caffe.TEST)
    told = [record.getMessage() for record in caplog.records]
    what = "what the original SSD-Caffe does not know"
    assert told == [f"net 'n' uses {what}: type: \"ReLU6\" (3)"]


REFUSALS = json.loads((GOLDEN / "forks" / "errors.json").read_text())
RAW = sorted((GOLDEN / "forks" / "raw_data").glob("*.caffemodel"))


@pytest.mark.parametrize("entry", REFUSALS, ids=lambda entry: entry["name"])
def test_recorded_refusals(entry: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(entry["prototxt"].replace("@DIR@", str(tmp_path)))
    with pytest.raises(CaffeError):
        run_refused(path, entry)


def run_refused(path: Path, entry: dict[str, Any]) -> None:
    net = caffe.Net(str(path), getattr(caffe, entry["phase"]))
    for name, shape in entry["inputs"].items():
        net.blobs[name].reshape(*shape)
        net.blobs[name].data[...] = np.asarray(entry.get("fill", {}).get(name, 0), np.float32)
    net.forward()
    net.backward()


@pytest.mark.parametrize("path", RAW, ids=lambda path: path.stem)
def test_recorded_bytes(path: Path) -> None:
    """Blobs of bytes: half, float and double precision, whatever form their shapes have."""
    net = caffe.Net(str(path.with_suffix(".prototxt")), caffe.TEST, weights=str(path))
    with np.load(path.with_suffix(".blobs")) as recorded:
        wanted = dict(recorded)
    for key, want in wanted.items():
        layer, index = key.removeprefix("blob:").split(":")
        np.testing.assert_array_equal(net.params[layer][int(index)].data, want, err_msg=key)


def test_all_recorded_cases_are_here() -> None:
    assert (len(REFUSALS), len(RAW)) == (21, 4)
