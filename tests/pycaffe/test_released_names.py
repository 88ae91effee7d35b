"""Every public name of the original's Python modules, and of the released model_libs.py files.

recorded/surface.json lists names, signatures and defaults; recorded/bodies.json.gz the nets that
the bodies beyond those of `test_recipes` make.
"""

from __future__ import annotations

import gzip
import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import caffe
import pytest
from caffe import layers as L
from caffe import model_libs
from caffe import params as P
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

RECORDED = Path(__file__).parent / "recorded"
BODIES = json.loads(gzip.decompress((RECORDED / "bodies.json.gz").read_bytes()))
# ScratchDet's has a keyword more than the others'.
KEYWORDS_OF_SOME = {"ConvBNLayer": ["bbbb"]}


def names() -> list[Any]:
    """(module, name, signature) of functions, methods (`Class.method`) and values."""
    found = []
    for release, files in json.loads((RECORDED / "surface.json").read_text()).items():
        for file, entries in files.items():
            module = "caffe." + Path(file).stem
            for name, entry in entries.items():
                methods = entry if isinstance(entry, dict) else {"": entry}
                for method, signature in (methods or {"": "class"}).items():
                    full = f"{name}.{method}" if method else name
                    found.append(
                        pytest.param(module, full, signature, id=f"{release}-{module}-{full}")
                    )
    return found


def lookup(module: str, name: str) -> Any:
    value: Any = importlib.import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    return value


def signature_of(function: Any, left_out: list[str]) -> str:
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in left_out
    ]
    return f"({', '.join(map(str, parameters))})"


@pytest.mark.parametrize(("module", "name", "signature"), names())
def test_name(module: str, name: str, signature: str) -> None:
    if module == "caffe.pycaffe" and name.startswith("_"):
        pytest.skip("how the original's Net is put together; test_surface has what it does")
    value = lookup(module, name)
    if signature == "class":
        assert inspect.isclass(value)
    elif signature != "value":
        expected = signature.replace("P.Data.LMDB", str(P.Data.LMDB))
        own = [] if "bbbb" in signature else KEYWORDS_OF_SOME.get(name, [])
        assert signature_of(value, own) == expected


@pytest.mark.parametrize("call", BODIES)
def test_body(call: str) -> None:
    expected: Any = ParseDict(BODIES[call], caffe_pb2.NetParameter())
    net = caffe.NetSpec()
    net.data = L.Input(shape={"dim": list(expected.layer[0].input_param.shape[0].dim)})
    if " over " in call:
        net.a = L.Convolution(net.data, num_output=32, kernel_size=3)
        net.b = L.Convolution(net.a, num_output=64, kernel_size=3)
    returned = eval(call.partition(" over ")[0], {**vars(model_libs), "net": net})
    assert returned is net
    assert net.to_proto() == expected


def test_defaults_are_not_changed() -> None:
    """They are lists, as in the original: what is made from them must not write into them."""
    for name in model_libs.__all__:
        function = getattr(model_libs, name)
        if not inspect.isfunction(function):
            continue
        for parameter in inspect.signature(function).parameters.values():
            if isinstance(parameter.default, (list, dict)):
                assert parameter.default in ([], [{}], {}, [0.1]), (name, parameter)
    net = caffe.NetSpec()
    net.data, net.label = model_libs.CreateAnnotatedDataLayer("db")
    net.data.fn.params["transform_param"]["mirror"] = True
    net.data.fn.params["annotated_data_param"]["batch_sampler"].append({"max_trials": 5})
    again, _ = model_libs.CreateAnnotatedDataLayer("db")
    assert again.fn.params["transform_param"] == {}
    assert again.fn.params["annotated_data_param"]["batch_sampler"] == [{}]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("VGGNetBNBody(net, 'data', nopool=True)", "takes need_fc, nopool"),
        ("Gated_module(net, [32], ['a', 'b'])", "1 channel_nums for 2 from_layers"),
        ("Resnet18rootV2(net, 'data', ['conv9_9'])", "the net has no layer 'conv9_9'"),
        ("ConvBNLayer(net, 'data', 'x', True, True, 8, 3, 1, 1, bbbb=True)", "bbbb=True"),
    ],
)
def test_refusals(call: str, message: str) -> None:
    net = caffe.NetSpec()
    net.data = L.Input(shape={"dim": [1, 3, 300, 300]})
    with pytest.raises(ValueError, match=message):
        eval(call, {**vars(model_libs), "net": net})


def test_frozen_layers() -> None:
    net = caffe.NetSpec()
    net.data = L.Input(shape={"dim": [1, 3, 300, 300]})
    model_libs.Resnet34rootV2_res(net, "data", freeze_layers=["conv2_1"])
    params = {layer.name: [p.lr_mult for p in layer.param] for layer in net.to_proto().layer}
    assert (params["conv2_1"], params["conv2_2"]) == ([0], [1])


def test_return_types() -> None:
    net = caffe.NetSpec()
    net.data = L.Input()
    assert type(net.keys()) is type(net.vals()) is list
    assert net.keys()[-1] == "data"
    assert net.vals()[0] is net.data


def test_proto_is_there_after_importing_caffe_alone() -> None:
    assert caffe.proto.caffe_pb2.BlobProto is caffe_pb2.BlobProto
