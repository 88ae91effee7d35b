"""Every rewrite keeps the function, and joins what it says it joins."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from caffe_ssd.engines.cpu_kernels import (
    GrowingConcat,
    PackedConvolution,
    grow_in_place,
    pack_convolutions,
)
from caffe_ssd.engines.folding import clamp_before_1x1, multiply_out
from caffe_ssd.engines.frozen_layers import ChannelAffine, ChannelClamp, FrozenConvolution
from caffe_ssd.engines.frozen_net import Constant, FrozenNet, freeze
from caffe_ssd.errors import NetError
from caffe_ssd.net import Net, build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.text import parse_text
from tests.engines.nets import make_net, picture

CONV = """layer {{ name: "{1}" type: "Convolution" bottom: "{0}" top: "{1}" convolution_param {{
  num_output: {2} kernel_size: {3} pad: {4} weight_filler {{ type: "xavier" }} }} }}"""
NORM = """layer {{ name: "bn{1}" type: "BatchNorm" bottom: "{0}" top: "{1}" }}
layer {{ name: "sc{1}" type: "Scale" bottom: "{1}" top: "{1}"
  scale_param {{ bias_term: true }} }}"""
RELU = 'layer {{ name: "relu{0}" type: "ReLU" bottom: "{0}" top: "{0}" }}'
DENSE = "".join(
    CONV.format(f"c{i}", f"d{i}", 3, 3, 1)
    + f'layer {{ name: "cat{i}" type: "Concat" bottom: "c{i}" bottom: "d{i}" top: "c{i + 1}" }}'
    for i in range(3)
)
PRIORS = """
layer { name: "p" type: "PriorBox" bottom: "c" bottom: "x" top: "p"
  prior_box_param { min_size: 3 } }
layer { name: "q" type: "PriorBox" bottom: "x" bottom: "x" top: "q"
  prior_box_param { min_size: 5 } }
layer { name: "pq" type: "Concat" bottom: "p" bottom: "q" top: "pq" concat_param { axis: 2 } }
"""


def modules(net: FrozenNet) -> list[str]:
    return [type(op.layer).__name__ for op in net.program]


def assert_same(net: Net, frozen: FrozenNet, x: Tensor) -> None:
    blobs = net({"x": x}).blobs
    with torch.inference_mode():
        for (name, _), top in zip(frozen.outputs, frozen(x), strict=True):
            torch.testing.assert_close(top, blobs[name].detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["Convolution", "Deconvolution"])
@pytest.mark.parametrize("group", [1, 2])
def test_a_convolution_takes_the_norm_and_relu_behind_it(kind: str, group: int) -> None:
    conv = CONV.format("x", "c", 8, 3, 1).replace("Convolution", kind, 1)
    conv = conv.replace("num_output", f"group: {group} num_output")
    net = make_net(conv + NORM.format("c", "c") + RELU.format("c"))
    frozen = freeze(net)
    assert modules(frozen) == ["FrozenConvolution"]
    assert_same(net, frozen, picture())


def test_an_inner_product_takes_the_scale_behind_it() -> None:
    ip = """layer { name: "i" type: "InnerProduct" bottom: "x" top: "i" inner_product_param {
      num_output: 4 transpose: true weight_filler { type: "xavier" } } }
    layer { name: "s" type: "Scale" bottom: "i" top: "s" }"""
    net = make_net(ip + RELU.format("s"))
    frozen = freeze(net)
    assert modules(frozen) == ["FrozenInnerProduct"]
    assert_same(net, frozen, picture())


def test_nothing_is_folded_across_a_blob_that_others_read() -> None:
    two = CONV.format("x", "c", 6, 3, 1) + NORM.format("c", "n")
    two += 'layer { name: "e" type: "Eltwise" bottom: "c" bottom: "n" top: "e" }'
    net = make_net(two)
    frozen = freeze(net)
    assert modules(frozen) == ["FrozenConvolution", "ChannelAffine", "Eltwise"]
    assert_same(net, frozen, picture())


def test_a_wanted_blob_is_never_folded_away() -> None:
    net = make_net(CONV.format("x", "c", 6, 3, 1) + NORM.format("c", "n") + RELU.format("n"))
    frozen = freeze(net, outputs=["c", "n"])
    c, n = frozen(picture())
    kept = net({"x": picture()}, keep=["c", "n"]).blobs
    torch.testing.assert_close(c, kept["c"])
    torch.testing.assert_close(n, kept["n"])


@pytest.mark.parametrize("signs", ["mixed", "positive", "with zeros"])
def test_a_clamp_before_a_1x1_convolution(signs: str) -> None:
    net = make_net(NORM.format("x", "n") + RELU.format("n") + CONV.format("n", "c", 5, 1, 0))
    scale = net.layers[net.layer_names.index("scn")].blobs[0].data
    if signs == "positive":
        scale.abs_()
    if signs == "with zeros":
        scale[1::2] = 0
    frozen = freeze(net).rewritten(clamp_before_1x1)
    assert modules(frozen) == ["ChannelClamp", "FrozenConvolution"]
    clamp = frozen.program[0].layer
    assert isinstance(clamp, ChannelClamp)
    assert (clamp.high is None) == (signs == "positive")
    assert_same(net, frozen, picture())


def test_padding_keeps_the_affine_map_in_front() -> None:
    net = make_net(NORM.format("x", "n") + RELU.format("n") + CONV.format("n", "c", 5, 3, 1))
    frozen = freeze(net).rewritten(clamp_before_1x1)
    assert isinstance(frozen.program[0].layer, ChannelAffine)
    assert_same(net, frozen, picture())


@pytest.mark.parametrize("last", [True, False], ids=["channels last", "contiguous"])
def test_a_dense_block_grows_in_one_buffer(last: bool) -> None:
    net = make_net(CONV.format("x", "c0", 4, 3, 1) + DENSE)
    x = picture()
    frozen = freeze(net, outputs=["c3", "c2"]).specialised(x)
    grown = frozen.rewritten(partial(grow_in_place, shapes=frozen.shapes))
    assert modules(grown).count("GrowingConcat") == 3
    opens = [op.layer.opens for op in grown.program if isinstance(op.layer, GrowingConcat)]
    assert opens == [True, False, False]
    kept = net({"x": x}, keep=["c2", "c3"]).blobs
    c3, c2 = grown(x.contiguous(memory_format=torch.channels_last) if last else x)
    torch.testing.assert_close(c3, kept["c3"].detach())
    torch.testing.assert_close(c2, kept["c2"].detach())


def test_a_value_that_two_concats_extend_is_not_overwritten() -> None:
    fork = CONV.format("x", "c0", 4, 3, 1) + DENSE
    fork += CONV.format("x", "o", 2, 1, 0)
    fork += 'layer { name: "f" type: "Concat" bottom: "c1" bottom: "o" top: "f" }'
    net = make_net(fork)
    x = picture()
    frozen = freeze(net).specialised(x)
    assert_same(net, frozen.rewritten(partial(grow_in_place, shapes=frozen.shapes)), x)


def test_packed_convolutions_compute_the_same() -> None:
    net = make_net(CONV.format("x", "c", 8, 3, 1) + RELU.format("c"))
    for shape in ((2, 6, 9, 7), (1, 6, 5, 8)):
        frozen = freeze(net).specialised(picture(shape))
        packed = frozen.rewritten(partial(pack_convolutions, shapes=frozen.shapes))
        assert isinstance(packed.program[0].layer, PackedConvolution)
        assert_same(net, packed, picture(shape))


def test_folding_leaves_the_weights_where_they_are() -> None:
    net = make_net(CONV.format("x", "c", 8, 3, 1) + NORM.format("c", "n"))
    frozen = freeze(net)
    (conv,) = [op.layer for op in frozen.program]
    assert isinstance(conv, FrozenConvolution)
    assert conv.unscaled.data_ptr() == net.layers[1].blobs[0].data_ptr()
    (ready,) = [op.layer for op in frozen.rewritten(multiply_out).program]
    assert isinstance(ready, FrozenConvolution)
    assert not ready.factors
    assert torch.equal(ready.unscaled, conv.weight)


def test_priors_become_constants_of_the_shape() -> None:
    net = make_net(CONV.format("x", "c", 4, 3, 0) + PRIORS)
    frozen = freeze(net).specialised(picture())
    assert modules(frozen) == ["Constant"]
    assert isinstance(frozen.program[0].layer, Constant)
    assert_same(net, frozen, picture())


def test_a_net_splits_where_it_is_told() -> None:
    tail = NORM.format("c", "n") + 'layer { name: "t" type: "TanH" bottom: "n" top: "t" }'
    net = make_net(CONV.format("x", "c", 6, 3, 1) + tail)
    head, rest = freeze(net).split(lambda op: op.step.param.type != "TanH")
    assert (modules(head), modules(rest)) == (["FrozenConvolution"], ["TanH"])
    x = picture()
    torch.testing.assert_close(rest(*head(x), x)[0], net({"x": x}).blobs["t"])


def test_only_nets_in_phase_test_are_frozen() -> None:
    net = build_net(parse_text("", NetParameter(), "empty"), NetState(phase=0))
    with pytest.raises(NetError, match="phase TRAIN"):
        freeze(net)


def test_what_data_layers_make_is_fed() -> None:
    dummy = """layer { name: "d" type: "DummyData" top: "d" top: "unread"
      dummy_data_param { shape { dim: 2 dim: 3 } } }
    layer { name: "t" type: "TanH" bottom: "d" top: "t" }
    layer { name: "s" type: "Silence" bottom: "unread" }"""
    frozen = freeze(build_net(parse_text(dummy, NetParameter(), "n"), NetState(phase=1)))
    assert [name for name, _ in frozen.inputs] == ["d", "unread"]
    assert modules(frozen) == ["TanH"]
