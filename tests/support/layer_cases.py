"""Runs recorded cases of single layers, without a net.

A case is an `.npz` file of a layer type's folder in the recorded data (its README gives the
format): a small prototxt, inputs, parameters and what the reference computed from them. The layers
are built with `build_layer` and run one after the other under plain autograd. Cases that need the
net's own machinery (state filter, net arguments, shared parameters, Python layers) are skipped by
name; the net's tests run them.

    @needs_golden
    @pytest.mark.parametrize("case", layer_cases("ReLU"), ids=case_id)
    def test_recorded_case(case, tmp_path):
        run_layer_case(case, tmp_path)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from torch import Tensor

from caffe_ssd.errors import LayerError, NetError
from caffe_ssd.layers.registry import Layer, LayerSpec, Runtime, Shape, build_layer, layer_type
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, Phase
from caffe_ssd.random import CaffeRandom
from tests.support.golden import GOLDEN

RTOL, ATOL = 1e-4, 1e-5


def case_id(case: Path) -> str:
    """The test id of a recorded case."""
    return case.stem


def layer_cases(layer_type: str) -> list[Path]:
    """The recorded cases in a layer type's folder; empty without the recorded data."""
    return sorted((GOLDEN / "layers" / layer_type).glob("*.npz"))


@dataclass
class Chain:
    """Layers in prototxt order and the blobs between them.

    Args:
        net: the parsed net; state rules are not looked at.
        training: phase TRAIN.
    """

    net: NetParameter
    training: bool
    layers: list[tuple[LayerParameter, Layer]] = field(default_factory=list)
    inputs: dict[str, Tensor] = field(default_factory=dict)
    first: dict[str, Tensor] = field(default_factory=dict)
    last: dict[str, Tensor] = field(default_factory=dict)

    def build(self) -> None:
        """Build every layer; shapes come from the declared inputs."""
        shapes = declared_inputs(self.net)
        self.inputs = {name: torch.zeros(shape) for name, shape in shapes.items()}
        runtime = Runtime(rng=CaffeRandom(1701))
        for given in self.net.layer:
            if given.type == "Input":
                continue
            param = LayerParameter()
            param.CopyFrom(given)
            param.phase = Phase.Value("TRAIN" if self.training else "TEST")
            bottoms = tuple(shapes[name] for name in param.bottom)
            layer = build_layer(LayerSpec(param=param, bottoms=bottoms, runtime=runtime))
            layer.train(self.training)
            for i, settings in enumerate(param.param):
                if i >= len(layer.blobs):
                    raise LayerError(
                        f"{len(param.param)} param entries for {len(layer.blobs)} blobs",
                        layer=param.name,
                        layer_type=param.type,
                    )
                layer.blobs[i].requires_grad_(settings.lr_mult != 0)
            shapes.update(zip(param.top, layer.top_shapes(*bottoms), strict=True))
            self.layers.append((param, layer))

    def blob(self, spec: str) -> torch.nn.Parameter:
        """The learnt blob named `<layer>:<index>`."""
        name, index = spec.rsplit(":", 1)
        (layer,) = (layer for param, layer in self.layers if param.name == name)
        return layer.blobs[int(index)]

    def forward(self) -> None:
        """Run all layers; `first` and `last` are the versions of a blob changed in place."""
        forced = self.net.force_backward
        unforced = {
            param.bottom[i]
            for param, _ in self.layers
            for i in layer_type(param.type).not_forced
            if i < len(param.bottom)
        }
        self.first = {
            name: value.clone().requires_grad_(forced and name not in unforced)
            for name, value in self.inputs.items()
        }
        self.last = dict(self.first)
        for param, layer in self.layers:
            bottoms = [self.last[name] for name in param.bottom]
            for i, wanted in enumerate(param.propagate_down):
                if not wanted:
                    bottoms[i] = bottoms[i].detach()
            result = layer(*bottoms)
            tops = (result,) if isinstance(result, Tensor) else tuple(result)
            for name, top in zip(param.top, tops, strict=True):
                if top.requires_grad:
                    top.retain_grad()
                self.first.setdefault(name, top)
                self.last[name] = top

    def backward(self, top_diffs: Mapping[str, Tensor]) -> None:
        """Back-propagate the given diffs and the loss weights."""
        for param, _ in self.layers:
            if not layer_type(param.type).has_backward:
                raise NetError(f"layer {param.name!r} ({param.type}) has no backward pass")
        diffs = {self.last[name]: diff for name, diff in top_diffs.items()}
        for param, _ in self.layers:
            for top, weight in zip(param.top, loss_weights(param), strict=False):
                if weight:
                    diffs[self.last[top]] = torch.full_like(self.last[top], weight)
        diffs = {top: diff for top, diff in diffs.items() if top.requires_grad}
        if diffs:
            torch.autograd.backward(list(diffs), list(diffs.values()))


def declared_inputs(net: NetParameter) -> dict[str, Shape]:
    """Names and shapes of the net's inputs, from `input` fields and Input layers."""
    shapes: dict[str, Shape] = {}
    for i, name in enumerate(net.input):
        given = net.input_shape[i].dim if net.input_shape else net.input_dim[4 * i : 4 * i + 4]
        shapes[name] = tuple(int(d) for d in given)
    for layer in net.layer:
        if layer.type == "Input":
            given_shapes = list(layer.input_param.shape)
            for i, name in enumerate(layer.top):
                shapes[name] = tuple(given_shapes[min(i, len(given_shapes) - 1)].dim)
    return shapes


def loss_weights(param: LayerParameter) -> list[float]:
    """The loss weights of a layer's tops, the default of a loss layer included."""
    if param.loss_weight:
        return list(param.loss_weight)
    return [1.0] if layer_type(param.type).is_loss else []


def run_layer_case(path: Path, folder: Path) -> None:
    """Run one recorded case and compare everything it records.

    Args:
        path: the `.npz` file.
        folder: an empty folder for the case's helper files.
    """
    with np.load(path) as data:
        case = dict(data)
    chain = Chain(
        net=_parse(str(case["prototxt"][()]), folder), training=str(case["phase"][()]) == "TRAIN"
    )
    _skip_what_needs_a_net(case, chain.net)
    for name, text in _entries(case, "file:"):
        (folder / name).write_text(str(text[()]))
    chain.build()
    if "param_names" in case:
        names = [f"{p.name}:{i}" for p, layer in chain.layers for i in range(len(layer.blobs))]
        assert names == list(case["param_names"])
    for prefix in ["", *sorted({key.split("|")[0] + "|" for key in case if "|" in key})]:
        _run_pass(chain, case, prefix)


def _parse(text: str, folder: Path) -> NetParameter:
    return text_format.Parse(text.replace("@DIR@", str(folder)), NetParameter())


def _skip_what_needs_a_net(case: Mapping[str, Any], net: NetParameter) -> None:
    reasons = {
        "net_args": "net_args" in case,
        "splits or inner names": "blob_names" in case,
        "state filter": any(layer.include or layer.exclude for layer in net.layer),
        "shared parameters": any(p.name for layer in net.layer for p in layer.param),
        "Python layer": any(layer.type == "Python" for layer in net.layer),
        "old format": bool(net.layers),
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        pytest.skip(f"left to the net's tests: {', '.join(found)}")


def _entries(case: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    return ((key[len(prefix) :], value) for key, value in case.items() if key.startswith(prefix))


def _run_pass(chain: Chain, case: Mapping[str, Any], prefix: str) -> None:
    for name, value in _entries(case, prefix + "in:"):
        chain.inputs[name] = torch.from_numpy(np.array(value, np.float32))
    for spec, value in _entries(case, prefix + "param:"):
        blob = chain.blob(spec)
        assert tuple(blob.shape) == value.shape, f"shape of blob {spec}"
        blob.data.copy_(torch.from_numpy(np.asarray(value)))
    chain.forward()
    for name, want in _entries(case, prefix + "out:"):
        _compare(case, f"{prefix}out:{name}", chain.last[name].detach(), want)
    for spec, want in _entries(case, prefix + "param_after:"):
        _compare(case, f"{prefix}param_after:{spec}", chain.blob(spec).detach(), want)
    kinds = tuple(prefix + kind for kind in ("top_diff:", "bottom_diff:", "param_diff:"))
    if any(key.startswith(kinds) for key in case):
        top_diffs = _entries(case, prefix + "top_diff:")
        chain.backward({name: torch.from_numpy(np.array(value)) for name, value in top_diffs})
    for name, want in _entries(case, prefix + "bottom_diff:"):
        _compare(case, f"{prefix}bottom_diff:{name}", _diff(chain.first[name]), want)
    for spec, want in _entries(case, prefix + "param_diff:"):
        _compare(case, f"{prefix}param_diff:{spec}", _diff(chain.blob(spec)), want)


def _diff(blob: Tensor) -> Tensor:
    return torch.zeros_like(blob) if blob.grad is None else blob.grad


def _compare(case: Mapping[str, Any], key: str, have: Tensor, want: np.ndarray) -> None:
    assert tuple(have.shape) == want.shape, f"{key}: shape"
    np.testing.assert_allclose(
        have.numpy(),
        want,
        rtol=max(RTOL, float(case.get("rtol", 0))),
        atol=max(ATOL, float(case.get("atol", 0))),
        err_msg=key,
    )
