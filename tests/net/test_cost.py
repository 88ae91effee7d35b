"""Operations, parameters and memory of nets, against what a pass really does."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from caffe_ssd.net import build_net
from caffe_ssd.net.cost import FLOPS_PER_MAC, net_cost, net_to_look_at
from caffe_ssd.net.net import Net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.text import parse_text

MAPS = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 6, 9, 11] } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 8 kernel_size: 3 stride: 2 group: 2 pad: 1
    weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "norm" }
layer { name: "scale" type: "Scale" bottom: "norm" top: "norm" }
layer { name: "relu" type: "ReLU" bottom: "norm" top: "norm" }
layer { name: "up" type: "Deconvolution" bottom: "norm" top: "up"
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 bias_term: false } }
layer { name: "left" type: "Pooling" bottom: "up" top: "left"
  pooling_param { kernel_size: 2 stride: 2 } }
layer { name: "flat" type: "Flatten" bottom: "left" top: "flat" }
layer { name: "dense" type: "InnerProduct" bottom: "flat" top: "dense"
  inner_product_param { num_output: 7 } }
layer { name: "drop" type: "Dropout" bottom: "dense" top: "dense" }
layer { name: "mean" type: "Pooling" bottom: "up" top: "mean"
  pooling_param { pool: AVE global_pooling: true } }
"""

SEQUENCE = """
layer { name: "x" type: "Input" top: "x" top: "cont" top: "static"
  input_param { shape { dim: [5, 3, 4] } shape { dim: [5, 3] } shape { dim: [3, 6] } } }
layer { name: "lstm" type: "LSTM" bottom: "x" bottom: "cont" bottom: "static" top: "lstm"
  recurrent_param { num_output: 7 weight_filler { type: "xavier" } } }
"""

PRIORS = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 3, 20, 30] } } }
layer { name: "map" type: "Pooling" bottom: "data" top: "map"
  pooling_param { kernel_size: 5 stride: 5 } }
layer { name: "priors" type: "PriorBox" bottom: "map" bottom: "data" top: "priors"
  prior_box_param { min_size: 4 max_size: 8 aspect_ratio: 2 variance: 0.1 } }
"""


def look_at(text: str, phase: int = 1) -> Net:
    return net_to_look_at(parse_text(text, NetParameter()), NetState(phase=phase))  # type: ignore[arg-type]


def counted_by_pytorch(net: Net) -> int:
    inputs = {name: torch.ones(net.blob_shapes[net.blob_names.index(name)]) for name in net.inputs}
    with FlopCounterMode(display=False) as counter:
        net(inputs)
    return counter.get_total_flops()


@pytest.mark.parametrize("text", [MAPS, SEQUENCE], ids=["maps", "sequence"])
def test_operations_are_those_that_run(text: str) -> None:
    net = look_at(text)
    cost = net_cost(net)
    assert cost.num_flops == counted_by_pytorch(net) > 0


def test_operations_by_hand() -> None:
    macs = {row.name: row.num_macs for row in net_cost(look_at(MAPS)).layers if row.num_macs}
    assert macs == {
        "conv": 2 * (5 * 6) * 8 * (6 // 2) * 9,
        "up": 2 * (5 * 6) * 8 * 4 * 9,  # visits the cells of its bottom
        "dense": 2 * 7 * (4 * 6 * 7),
    }
    assert FLOPS_PER_MAC == 2


def test_parameters_and_blobs() -> None:
    cost = net_cost(look_at(MAPS))
    rows = {row.name: row for row in cost.layers}
    assert [*rows] == [
        "data", "conv", "norm", "scale", "relu", "up", "left", "flat", "dense", "drop", "mean"
    ]  # fmt: skip
    assert rows["norm"].num_parameters == 8 + 8 + 1
    assert rows["conv"].num_parameters == 8 * 3 * 9 + 8
    assert rows["relu"].num_activations == 0
    assert rows["up"].tops == ((2, 4, 11, 13),)


def test_a_shared_blob_counts_once() -> None:
    shared = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: [2, 5] } } }
layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" param { name: "w" }
  inner_product_param { num_output: 5 bias_term: false } }
layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" }
  inner_product_param { num_output: 5 bias_term: false } }
"""
    cost = net_cost(look_at(shared))
    assert [row.num_parameters for row in cost.layers] == [0, 25, 0]
    assert cost.num_flops == 2 * 2 * (2 * 25)


class Storages:
    """Adds up the distinct memory of the tensors that a run has made and not let go."""

    def __init__(self, net: Net) -> None:
        self.most = 0
        self._ends = {op.layer: op for op in net.program}
        for op in net.program:
            op.layer.register_forward_hook(self._look)
        self._values: dict[object, torch.Tensor] = {}
        self._outputs = {net.final_value(name) for name in net.outputs}

    def _look(self, layer: nn.Module, bottoms: object, result: object) -> None:
        op = self._ends[layer]
        tops = result if isinstance(result, tuple) else (result,)
        self._values.update(zip(op.tops, tops, strict=True))
        memory = {
            t.untyped_storage().data_ptr(): t.untyped_storage() for t in self._values.values()
        }
        self.most = max(self.most, sum(each.nbytes() for each in memory.values()))
        for value in op.last_uses:
            if value not in self._outputs:
                del self._values[value]


def test_peak_is_that_of_a_pass() -> None:
    net = look_at(MAPS)
    seen = Storages(net)
    with torch.no_grad():
        net()
    assert net_cost(net).peak_activations * 4 == seen.most


def test_looking_at_a_net_draws_no_values() -> None:
    param = parse_text(MAPS, NetParameter())
    before = param.SerializeToString()
    net = net_to_look_at(param, NetState(phase=1))  # type: ignore[arg-type]
    assert param.SerializeToString() == before
    assert all(not blob.any() for _, blobs in net.layer_blobs()[:2] for blob in blobs)
    filled = build_net(param, NetState(phase=1))  # type: ignore[arg-type]
    assert net.blob_shapes == filled.blob_shapes


def test_priors_by_map() -> None:
    (each,) = net_cost(look_at(PRIORS)).priors
    assert (each.layer, each.height, each.width, each.per_cell, each.count) == (
        ("priors", 4, 6, 4, 96)
    )
