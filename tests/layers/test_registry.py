"""What holds for every layer type, on the small nets of minimal_nets.py."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import caffe
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from caffe_ssd.layers.memory_data import MemoryData
from caffe_ssd.layers.registry import Layer, Runtime, layer_type, layer_types, register_layer
from caffe_ssd.net import Net, build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.text import format_text, parse_text
from caffe_ssd.random import CaffeRandom
from tests.layers.build import draw
from tests.layers.minimal_config import Config
from tests.layers.minimal_files import write_files
from tests.layers.minimal_nets import CONFIGS, WITHOUT_GRADIENT

SEED = 1701

every_type = pytest.mark.parametrize(
    ("name", "config"),
    [
        pytest.param(name, config, id=f"{name}-{i}" if i else name)
        for name, configs in CONFIGS.items()
        if name in layer_types()
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


def build(text: str, config: Config) -> Net:
    """The engine's net, its random stream at the beginning."""
    torch.manual_seed(SEED)
    net = build_net(
        parse_text(text, NetParameter()),
        NetState(phase=config.phase),  # type: ignore[arg-type]
        Runtime(rng=CaffeRandom(SEED)),
    )
    fill_memory(net.layers)
    return net


def fill_memory(layers: list[Layer]) -> None:
    """Give MemoryData layers their four items."""
    for layer in layers:
        if isinstance(layer, MemoryData):
            layer.set_arrays(draw(4, 3, 5, 4).numpy(), np.arange(4, dtype=np.float32))


def test_every_type_has_an_entry() -> None:
    assert set(CONFIGS) == set(layer_types())
    assert set(CONFIGS) >= WITHOUT_GRADIENT


def test_a_name_is_registered_once() -> None:
    with pytest.raises(ValueError, match="'ReLU' is already registered"):
        register_layer("ReLU")(lambda spec: Layer())


@every_type
def test_text_round_trip(name: str, config: Config, folder: Path) -> None:
    param = parse_text(config.text(name, folder), NetParameter())
    text = format_text(param)
    assert parse_text(text, NetParameter()) == param
    first, second = build(config.text(name, folder), config), build(text, config)
    assert first.layer_names == second.layer_names
    assert first.blob_names == second.blob_names
    assert first.blob_shapes == second.blob_shapes
    assert shapes_of(first) == shapes_of(second)


def shapes_of(net: nn.Module) -> dict[str, torch.Size]:
    return {name: blob.shape for name, blob in net.named_parameters()}


@every_type
def test_state_dict_round_trip(name: str, config: Config, folder: Path) -> None:
    text = config.text(name, folder)
    net, fresh = build(text, config), build(text, config)
    with torch.no_grad():
        for i, blob in enumerate(net.parameters()):
            blob.add_(draw(*blob.shape, seed=i).abs())
    fresh.load_state_dict(net.state_dict())
    for mine, theirs in zip(outputs(net, config), outputs(fresh, config), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)


def outputs(net: Net, config: Config) -> list[Tensor]:
    torch.manual_seed(SEED)
    blobs = net(config.inputs(2)).blobs
    return [blobs[name] for name in net.outputs]


@every_type
def test_gradient(name: str, config: Config, folder: Path) -> None:
    if name in WITHOUT_GRADIENT:
        check_no_gradient(name, config, folder)
    elif config.untrue:
        with pytest.raises(GradcheckError):
            check_gradient(config, build(config.text(name, folder), config))
    else:
        assert check_gradient(config, build(config.text(name, folder), config))


def check_gradient(config: Config, net: Net) -> bool:
    layer = net.layers[-1].double()
    bottoms = [
        value.double().requires_grad_(i not in config.fixed)
        for i, value in enumerate(config.inputs(2).values())
    ]
    blobs = [blob for blob in layer.blobs if blob.requires_grad]
    assert blobs or any(bottom.requires_grad for bottom in bottoms), "nothing to check"

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        net.runtime.rng.seed(SEED)  # the same mask every time
        tops = layer(*tensors[: len(bottoms)])
        tops = (tops,) if isinstance(tops, Tensor) else tops
        return tuple(top for top in tops if top.requires_grad)

    return torch.autograd.gradcheck(run, (*bottoms, *blobs), rtol=1e-5, atol=1e-7)


def check_no_gradient(name: str, config: Config, folder: Path) -> None:
    """No top depends on a bottom or blob in a way that can be differentiated."""
    layer = build(config.text(name, folder), config).layers[-1]
    bottoms = [value.requires_grad_() for value in config.inputs(2).values()]
    tops = layer(*bottoms)
    tops = (tops,) if isinstance(tops, Tensor) else tops
    assert not any(top.requires_grad for top in tops)
    assert not layer.blobs


@every_type
def test_another_batch_size(name: str, config: Config, folder: Path, tmp_path: Path) -> None:
    """A net that ran with two items and is reshaped to three is one built for three."""
    large = pycaffe_net(name, config, folder, tmp_path, batch=3)
    net = pycaffe_net(name, config, folder, tmp_path, batch=2)
    if name != "HDF5Output":  # which writes one batch only
        run(net, config, batch=2)
    for blob in net.inputs:
        net.blobs[blob].reshape(*large.blobs[blob].shape)
    net.reshape()
    assert shapes(net) == shapes(large)
    if config.bottoms:  # without, there is no batch size to change, and data has gone on
        have, want = run(net, config, batch=3), run(large, config, batch=3)
        assert shapes(net) == shapes(large)
        for blob in net.outputs:
            np.testing.assert_array_equal(have[blob], want[blob], err_msg=blob)


def shapes(net: caffe.Net) -> dict[str, list[int]]:
    return {name: list(blob.shape) for name, blob in net.blobs.items()}


def pycaffe_net(name: str, config: Config, folder: Path, tmp_path: Path, batch: int) -> caffe.Net:
    path = tmp_path / f"{batch}.prototxt"
    path.write_text(config.text(name, folder, batch))
    caffe.set_random_seed(SEED)
    net = caffe.Net(str(path), getattr(caffe, config.phase))
    fill_memory(net.engine.layers)
    return net


def run(net: caffe.Net, config: Config, batch: int) -> dict[str, np.ndarray]:
    """The outputs for the config's inputs."""
    caffe.set_random_seed(SEED)
    for blob, value in config.inputs(batch).items():
        net.blobs[blob].data[...] = value.numpy()
    net.forward()
    return {blob: net.blobs[blob].data.copy() for blob in net.outputs}


def test_types_without_backward_say_so() -> None:
    """A backward pass that is asked of these must fail rather than end in silence."""
    silent = {name for name in WITHOUT_GRADIENT if layer_type(name).bottoms.start > 0}
    stopped = {name for name in silent if not layer_type(name).has_backward}
    nothing_to_do = {"PriorBox", "PriorBoxClustered", "Silence"}
    assert silent - stopped == nothing_to_do
