"""Passes that stand for several: every layer type gives what it gives in passes of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from caffe_ssd.data.batches import join_boxes, part_of_boxes
from caffe_ssd.errors import NetError
from caffe_ssd.layers.registry import layer_types
from caffe_ssd.layers.run_context import Groups
from caffe_ssd.net import Net
from caffe_ssd.net.checkpoints import Segment
from caffe_ssd.net.grouped import Kind, OneByOne
from caffe_ssd.net.passes import FusedBatchNorm
from tests.layers.build import draw
from tests.layers.minimal_config import Config
from tests.layers.minimal_files import write_files
from tests.layers.minimal_nets import CONFIGS
from tests.layers.test_registry import build

GROUPS = 3
# Files that are written once, and a video that ends.
ONCE = {"HDF5Output", "VideoData"}
# What a net in phase TRAIN has no use for: how many rows they make depends on the pictures.
ROWS_AS_FOUND = {"DetectionOutput", "YoloDetectionOutput", "Yolov3DetectionOutput"}

every_type = pytest.mark.parametrize(
    ("name", "config"),
    [
        pytest.param(name, config, id=f"{name}-{i}" if i else name)
        for name, configs in CONFIGS.items()
        if name in layer_types() and name not in {"Python", *ONCE, *ROWS_AS_FOUND}
        for i, config in enumerate(configs)
    ],
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("files")
    write_files(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path))
        yield path


def inputs_of_groups(config: Config) -> list[dict[str, Tensor]]:
    """Different values for each group, where any values will do."""
    groups = []
    for group in range(GROUPS):
        inputs = config.inputs(2)
        for i, (name, given) in enumerate(inputs.items()):
            if i not in config.values:
                inputs[name] = draw(*given.shape, seed=10 * group + i) * (group + 1)
        groups.append(inputs)
    return groups


def joined(net: Net, inputs: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The inputs of several passes as one pass takes them."""
    result = {}
    for name in inputs[0]:
        parts = [given[name] for given in inputs]
        is_boxes = net.kinds[net.final_value(name)] is Kind.BOXES
        result[name] = join_boxes(parts, 2) if is_boxes else torch.cat(parts)
    return result


def weighted(top: Tensor) -> Tensor:
    """A scalar that depends on every element."""
    return (top * torch.linspace(0.5, 1.5, max(1, top.numel())).view_as(top)).sum()


def backward(total: Tensor) -> None:
    if total.requires_grad:
        total.backward()


@every_type
def test_one_pass_is_as_good_as_several(name: str, config: Config, folder: Path) -> None:
    alone, together = (build(config.text(name, folder), config) for _ in range(2))
    together.use_groups()
    inputs = inputs_of_groups(config)
    wants: dict[str, list[Tensor]] = {top: [] for top in alone.outputs}
    for given in inputs:
        blobs = alone({k: v.clone().requires_grad_() for k, v in given.items()}).blobs
        for top in alone.outputs:
            wants[top].append(blobs[top])
        backward(sum((weighted(blobs[top]) for top in alone.outputs), torch.zeros(())))

    together.groups = Groups(devices=(0,) * GROUPS)
    fed = {k: v.requires_grad_() for k, v in joined(together, inputs).items()}
    blobs = together(fed).blobs
    total = torch.zeros(())
    for top, parts in wants.items():
        kind = together.kinds[together.final_value(top)]
        if kind is Kind.COMMON:
            haves = [blobs[top]] * GROUPS
        elif kind is Kind.NUMBERS:
            assert blobs[top].item() == pytest.approx(torch.stack(parts).mean().item(), rel=1e-5)
            total = total + blobs[top] * GROUPS * 0.5
            continue
        elif kind is Kind.BOXES:
            haves = [part_of_boxes(blobs[top], i, 2) for i in range(GROUPS)]
        else:
            haves = list(blobs[top].chunk(GROUPS))
        torch.testing.assert_close(haves, parts, rtol=1e-5, atol=1e-6)
        total = total + sum(map(weighted, haves))
    backward(total)
    for mine, theirs in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine.data, theirs.data, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", sorted(ROWS_AS_FOUND))
def test_rows_as_found_cannot_be_joined_wrongly(name: str, folder: Path) -> None:
    config = CONFIGS[name][0]
    net = build(config.text(name, folder), config)
    net.use_groups()
    assert any(isinstance(op.layer, OneByOne) for op in net.program)


def test_python_layers_are_refused_by_name(folder: Path) -> None:
    config = CONFIGS["Python"][0]
    net = build(config.text("Python", folder), config)
    with pytest.raises(NetError, match=r"layer 'layer' \(Python\) cannot run in a pass"):
        net.use_groups()


NORMALISED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 4 } } }
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
  convolution_param { num_output: 6 kernel_size: 2 weight_filler { type: "xavier" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "conv2" type: "Convolution" bottom: "conv" top: "y"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
layer { name: "softmax" type: "Softmax" bottom: "y" top: "sums" softmax_param { axis: 0 } }
layer { name: "mvn" type: "MVN" bottom: "sums" top: "even" }
layer { name: "conv3" type: "Convolution" bottom: "even" top: "z"
  convolution_param { num_output: 2 kernel_size: 1 weight_filler { type: "xavier" } } }
"""


def normalised(*, groups: bool = True) -> Net:
    net = build(NORMALISED, Config())
    if groups:
        net.use_groups()
    return net


def batches() -> list[dict[str, Tensor]]:
    return [{"x": draw(2, 3, 5, 4, seed=i) * (i + 1) + i} for i in range(GROUPS)]


def three_passes(net: Net) -> list[Tensor]:
    tops = [net(batch).blobs["z"] for batch in batches()]
    weighted(torch.cat(tops)).backward()
    return tops


def one_pass(net: Net, devices: tuple[int, ...] = (0,) * GROUPS) -> Tensor:
    net.groups = Groups(devices=devices, num_devices=max(devices) + 1)
    top = net({"x": torch.cat([batch["x"] for batch in batches()])}).blobs["z"]
    weighted(top).backward()
    return top


def test_batch_norm_stays_joined_with_what_follows() -> None:
    net = normalised()
    assert any(isinstance(op.layer, FusedBatchNorm) for op in net.program)
    apart = [op.step.param.name for op in net.program if isinstance(op.layer, OneByOne)]
    assert apart == ["softmax", "mvn"]  # the one runs over the images of a pass


@pytest.mark.parametrize("layout", ["", "channels_last"])
@pytest.mark.parametrize("memory", ["", "checkpoint"])
def test_in_every_mode(layout: str, memory: str) -> None:
    nets = [normalised(groups=False), normalised()]
    for net in nets:
        if layout:
            net.use_channels_last()
        if memory:
            net.use_checkpoints()
            assert any(isinstance(op.layer, Segment) for op in net.program)
    want = torch.cat(three_passes(nets[0]))
    torch.testing.assert_close(one_pass(nets[1]), want, rtol=1e-5, atol=1e-6)
    for theirs, mine in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=1e-5)


def test_in_bfloat16() -> None:
    nets = [normalised(groups=False), normalised()]
    for net in nets:
        net.use_bfloat16()
    want = torch.cat(three_passes(nets[0]))
    torch.testing.assert_close(one_pass(nets[1]), want, rtol=1e-2, atol=1e-2)
    for theirs, mine in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_statistics_are_those_of_the_first_device() -> None:
    want, have = normalised(groups=False), normalised()
    want(batches()[0])
    want(batches()[2])
    one_pass(have, devices=(0, 1, 0))
    statistics = [net.layers[net.layer_names.index("bn")].blobs for net in (have, want)]
    torch.testing.assert_close(list(statistics[0]), list(statistics[1]), rtol=1e-6, atol=1e-6)


def test_a_pass_between_stands_for_itself() -> None:
    want, have = normalised(groups=False), normalised()
    one_pass(have)
    three_passes(want)
    have.groups = None
    batch = batches()[1]
    torch.testing.assert_close(have(batch).blobs, want(batch).blobs, rtol=1e-5, atol=1e-6)


def test_a_batch_of_one_element_per_channel() -> None:
    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 4 } } }
    layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }
    """
    alone, together = build(text, Config()), build(text, Config())
    together.use_groups()
    together.groups = Groups(devices=(0, 0))
    x = draw(2, 4)
    tops = [alone({"x": part}).blobs["y"] for part in x.split(1)]
    assert torch.equal(together({"x": x}).blobs["y"], torch.cat(tops))
    for mine, theirs in zip(together.parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-6, atol=1e-6)


def test_labels_of_batches_in_a_row() -> None:
    first, nothing = draw(1, 1, 3, 8), torch.full((1, 1, 1, 8), -1.0)
    first[..., 0] = torch.tensor([0.0, 1, 1])
    blob = join_boxes([nothing, first, nothing], 2)
    assert blob[0, 0, :, 0].tolist() == [2, 3, 3]
    for i, want in enumerate((nothing, first, nothing)):
        assert torch.equal(part_of_boxes(blob, i, 2), want)
    assert torch.equal(join_boxes([nothing, nothing], 2), nothing)
