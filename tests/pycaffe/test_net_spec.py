"""Nets written as Python: names, order, keywords and complaints."""

from __future__ import annotations

from typing import Any

import caffe
import pytest
from caffe import layers as L
from caffe import params as P
from caffe.layer_keywords import own_param_fields
from caffe.proto import caffe_pb2

from caffe_ssd.errors import CaffeError
from caffe_ssd.proto import caffe_pb2 as engine_pb2


def image() -> Any:
    return L.Input(shape={"dim": [2, 3, 5, 7]})


def outline(net: Any) -> list[tuple[str, str, list[str], list[str]]]:
    return [(layer.name, layer.type, list(layer.bottom), list(layer.top)) for layer in net.layer]


def test_proto_module_is_the_engines() -> None:
    assert caffe_pb2.NetParameter is engine_pb2.NetParameter
    assert caffe_pb2.TRAIN == engine_pb2.TRAIN


def test_assigned_tops_name_layers_and_blobs() -> None:
    n = caffe.NetSpec()
    n.data = image()
    n["conv"] = L.Convolution(n.data, num_output=4, kernel_size=3)
    assert outline(n.to_proto()) == [
        ("data", "Input", [], ["data"]),
        ("conv", "Convolution", ["data"], ["conv"]),
    ]


def test_automatic_names_count_per_type() -> None:
    n = caffe.NetSpec()
    n.data = image()
    n.out = L.ReLU(L.Convolution(L.ReLU(L.Convolution(n.data))))
    names = [layer.name for layer in n.to_proto().layer]
    assert names == ["data", "Convolution1", "ReLU1", "Convolution2", "out"]


def test_in_place_layer_has_its_own_name_and_its_bottoms_blob() -> None:
    n = caffe.NetSpec()
    n.data = image()
    n.conv = L.Convolution(n.data)
    n.relu = L.ReLU(n.conv, in_place=True)
    n.pool = L.Pooling(L.Dropout(n.relu, in_place=True))
    assert outline(n.to_proto())[2:] == [
        ("relu", "ReLU", ["conv"], ["conv"]),
        ("Dropout1", "Dropout", ["conv"], ["conv"]),
        ("pool", "Pooling", ["conv"], ["pool"]),
    ]


def test_bottoms_come_first_in_argument_order_and_once() -> None:
    n = caffe.NetSpec()
    data = image()
    left, right = L.ReLU(data), L.TanH(data)
    n.join = L.Eltwise(right, left, right)
    n.data = data
    types = [layer.type for layer in n.to_proto().layer]
    assert types == ["Input", "TanH", "ReLU", "Eltwise"]


def test_layer_with_several_tops() -> None:
    n = caffe.NetSpec()
    n.data, label = L.Data(ntop=2)
    n.loss = L.SoftmaxWithLoss(n.data, label)
    assert outline(n.to_proto()) == [
        ("data", "Data", [], ["data", "Data1"]),
        ("loss", "SoftmaxWithLoss", ["data", "Data1"], ["loss"]),
    ]


def test_every_unnamed_top_takes_a_number() -> None:
    first, _ = L.Data(ntop=2)
    second, _ = L.Data(ntop=2)
    net = caffe.to_proto(first, second)
    assert [list(layer.top) for layer in net.layer] == [["Data1", "Data2"], ["Data3", "Data4"]]
    assert [layer.name for layer in net.layer] == ["Data1", "Data3"]


def test_layer_without_tops() -> None:
    n = caffe.NetSpec()
    n.data = image()
    n.quiet = L.Silence(n.data, ntop=0)
    assert outline(n.to_proto())[1] == ("quiet", "Silence", ["data"], [])
    assert L.Silence(n.data, ntop=0).to_proto().layer[-1].name == "Silence1"


def test_top_assigned_twice_has_its_last_name() -> None:
    n = caffe.NetSpec()
    n.first = n.second = image()
    assert [layer.name for layer in n.to_proto().layer] == ["second"]


def test_name_keyword_renames_the_layer_only() -> None:
    n = caffe.NetSpec()
    n.data = L.Input(name="pictures")
    assert outline(n.to_proto()) == [("pictures", "Input", [], ["data"])]


def test_net_and_absent_fields_stay_unset() -> None:
    net = L.Convolution(image(), num_output=0, weight_filler={}).to_proto()
    param = net.layer[1].convolution_param
    assert not net.HasField("name")
    assert param.HasField("num_output")  # given, though it is zero
    assert not param.HasField("bias_term")
    assert not param.HasField("weight_filler")


def test_deep_nets_do_not_meet_the_recursion_limit() -> None:
    top = image()
    for _ in range(3000):
        top = L.ReLU(top)
    assert len(top.to_proto().layer) == 3001


def test_del_keys_vals_and_update() -> None:
    n = caffe.NetSpec()
    n.data = image()
    n.conv = L.Convolution(n.data, num_output=4, pad=1)
    n.loss = L.SoftmaxWithLoss(n.conv)
    del n["loss"]
    assert list(n.keys()) == ["data", "conv"]
    assert list(n.vals()) == [n.data, n.conv]
    n.update("conv", {"num_output": 6, "stride": 2})
    param = n.to_proto().layer[1].convolution_param
    assert (param.num_output, list(param.pad), list(param.stride)) == (6, [1], [2])


@pytest.mark.parametrize(
    ("layer_type", "field"),
    [
        ("Pooling", "pooling_param"),
        ("InnerProduct", "inner_product_param"),
        ("Normalize", "norm_param"),
        ("MultiBoxLoss", "multibox_loss_param"),
        ("AnnotatedData", "annotated_data_param"),
    ],
)
def test_own_message_of_a_type(layer_type: str, field: str) -> None:
    assert own_param_fields()[layer_type] == field


def test_keywords_go_to_the_own_message_then_to_the_layer() -> None:
    top = L.Pooling(
        image(),
        pool=P.Pooling.AVE,
        loss_weight=2,
        include={"phase": caffe_pb2.TEST},
        param=[{"lr_mult": 3}, {"lr_mult": 4}],
        propagate_down=[True, False],
    )
    layer = top.to_proto().layer[1]
    assert layer.pooling_param.pool == caffe_pb2.PoolingParameter.AVE
    assert list(layer.loss_weight) == [2]
    assert layer.include[0].phase == caffe_pb2.TEST
    assert [param.lr_mult for param in layer.param] == [3, 4]
    assert list(layer.propagate_down) == [True, False]


def test_nested_dicts_and_lists_of_dicts() -> None:
    top = L.AnnotatedData(
        annotated_data_param={
            "batch_sampler": [{"max_sample": 1}, {"sampler": {"min_scale": 0.5}}, {}]
        }
    )
    samplers = top.to_proto().layer[0].annotated_data_param.batch_sampler
    assert len(samplers) == 3
    assert samplers[0].max_sample == 1
    assert samplers[1].sampler.min_scale == 0.5


BAD_KEYWORDS = [
    ("Convolution", {"num_ouput": 3}, AttributeError, "'num_ouput'; did you mean num_output"),
    ("Convolution", {"weight_filler": {"typ": "x"}}, AttributeError, "no field 'typ'.*mean type"),
    ("Deconvolution", {"num_output": 3}, AttributeError, r"convolution_param=dict\(num_output"),
    ("DetectionOutput", {"nms_param": {}}, AttributeError, r"detection_output_param=dict\(nms_pa"),
    ("Convolution", {"kernel_size": []}, IndexError, "kernel_size is an empty list"),
    ("Convolution", {"kernel_size": (3, 5)}, TypeError, "write a list, not a tuple"),
    ("Convolution", {"num_output": "four"}, TypeError, "num_output = 'four' .* an integer"),
    ("Convolution", {"num_output": -1}, ValueError, "num_output = -1"),
    ("Convolution", {"weight_filler": 3}, TypeError, "fields of FillerParameter expected"),
    ("Pooling", {"pool": "MOX"}, ValueError, "one of MAX, AVE, STOCHASTIC expected"),
]


@pytest.mark.parametrize(("layer_type", "keywords", "error", "message"), BAD_KEYWORDS)
def test_complaints_name_layer_and_field(
    layer_type: str, keywords: dict[str, Any], error: type[Exception], message: str
) -> None:
    n = caffe.NetSpec()
    n.data = image()
    n.culprit = getattr(L, layer_type)(n.data, **keywords)
    with pytest.raises(error, match=rf"layer 'culprit' \({layer_type}\): .*{message}") as caught:
        n.to_proto()
    assert isinstance(caught.value, CaffeError)


def test_bottom_must_be_one_top() -> None:
    with pytest.raises(TypeError, match="bottom 1 must be a Top, got a tuple of 2 tops"):
        L.Concat(image(), L.Data(ntop=2))
    with pytest.raises(TypeError, match="a Silence layer without tops"):
        L.ReLU(L.Silence(image(), ntop=0))
    n = caffe.NetSpec()
    with pytest.raises(TypeError, match="'data' must be set to a Top, got a tuple of 2"):
        n.data = L.Data(ntop=2)


def test_unknown_names() -> None:
    n = caffe.NetSpec()
    n.data = image()
    with pytest.raises(AttributeError, match="no top 'dta'; did you mean data"):
        _ = n.dta
    with pytest.raises(KeyError, match="no top 'dta'"):
        del n["dta"]
    with pytest.raises(AttributeError, match=r"PoolingParameter has no constant 'MIN'.*MAX, AVE"):
        _ = P.Pooling.MIN
    with pytest.raises(AttributeError, match="no message PolingParameter; did you mean PoolingP"):
        _ = P.Poling
