"""Prototxt in and out, and errors that point at the place."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from caffe_ssd.errors import FileError, ProtoError, SolverError
from caffe_ssd.proto.caffe_pb2 import NetParameter, SolverParameter
from caffe_ssd.proto.lenient import Lenience
from caffe_ssd.proto.text import (
    format_text,
    parse_text,
    read_net,
    read_solver,
    read_text,
    write_text,
)
from tests.support.golden import GOLDEN

NAMED = ("foo", "bar", "baz", "joined", "many", "zzz", "pooling_param.q", "z")
STRANGERS = """name: "a"  # foreign: 1
layer { name: "l" foo { a: 1 b { c: "}" } } bar: [1, -2.5] baz <a: 1>
  top: "x" joined: "a" "b"; many { x: 1 }, many { x: 2 } include { phase: TEST zzz: -1.5e-3 }
  pooling_param: <kernel_size: 3 q: X> }
z: 'it\\'s'
"""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('name: "n"\nlayer {\n  botom: "x"\n}', r'^a.txt:3:3: .*"botom"\. Did you mean bottom\?$'),
        ("layer { quux: 1 }", r'^a.txt:1:9: .*no field named "quux"\. Known: name, type'),
        ("layer { pooling_param { pool: MIN } }", r"^a.txt:1:31: .*Allowed: MAX, AVE, STOCHAS"),
        ("layer {\n name: 'a'", r'^a.txt:2:\d+: Expected "}"\.$'),
        ('name: "a" name: "b"', r"^a.txt:1:17: .*multiple"),
        ("input_dim: 99999999999", r"^a.txt:1:12: Value out of range"),
        ("force_backward: 7", r'^a.txt:1:17: Expected "true" or "false"\.$'),
    ],
)
def test_errors_name_the_place(text: str, complaint: str) -> None:
    with pytest.raises(ProtoError, match=complaint):
        parse_text(text, NetParameter(), source="a.txt")


def test_file_round_trip(tmp_path: Path) -> None:
    net = NetParameter(name="größe", force_backward=False)
    net.layer.add(name="c").convolution_param.weight_filler.std = 0.1
    path = tmp_path / "net.prototxt"
    write_text(path, net)
    assert path.read_text(encoding="utf-8") == format_text(net)
    assert 'name: "größe"' in format_text(net)
    assert "std: 0.1\n" in format_text(net)
    assert read_text(path, NetParameter()) == net


def test_comments_in_any_encoding_and_windows_files(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'\xef\xbb\xbf# caf\xe9\r\nname: "n"\r\n')
    assert read_net(path).name == "n"


def test_values_must_be_utf8(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'name: "caf\xe9"')
    with pytest.raises(ProtoError, match=r"net\.prototxt:1:7: the value is not UTF-8 text"):
        read_net(path)


@pytest.mark.parametrize("read", [read_net, read_solver])
def test_unreadable_file(read, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=f"^Could not open file {tmp_path}/none: No such file"):
        read(tmp_path / "none")


def test_lenient_skips_what_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        net = parse_text(
            STRANGERS, NetParameter(), source="s.txt", lenient=Lenience(skip=frozenset(NAMED))
        )
    want = """name: "a"
        layer { name: "l" top: "x" include { phase: TEST } pooling_param { kernel_size: 3 } }"""
    assert net == parse_text(want, NetParameter())
    told = [record.getMessage() for record in caplog.records]
    what = "skipped unknown field foo of caffe.LayerParameter (as -skip says)"
    assert told[0] == f"s.txt:2:19: {what}"
    names = [message.split()[4] for message in told]
    assert names == ["foo", "bar", "baz", "joined", "many", "zzz", "q", "z"]


def test_lenient_skips_only_what_cannot_change_a_result(caplog: pytest.LogCaptureFixture) -> None:
    text = """layer { name: "l" quantization_param { bw_layer_in: 8 } forward_type: FLOAT16
      pooling_param { avg_include_pad: true } }"""
    with caplog.at_level(logging.WARNING):
        net = parse_text(text, NetParameter(), lenient=True)
    assert net == parse_text('layer { name: "l" pooling_param { } }', NetParameter())
    told = [record.getMessage() for record in caplog.records]
    assert [message.split()[4] for message in told] == [
        "quantization_param",
        "forward_type",
        "avg_include_pad",
    ]
    assert "8-bit execution of the same weights" in told[0]
    with pytest.raises(ProtoError, match=r'^<text>:1:19: .*no field named "quantization_param"'):
        parse_text(text, NetParameter())

    changes = text.replace("true", "false") + " layer { warp_param { } colour: 3 colour: 4 }"
    with pytest.raises(ProtoError) as caught:
        parse_text(changes, NetParameter(), source="n.txt", lenient=True)
    lines = str(caught.value).splitlines()
    assert [line.split()[3] for line in lines] == ["avg_include_pad", "warp_param", "colour"]
    assert "may change results" in lines[0]
    assert lines[2].strip().startswith("n.txt:2:73: unknown field colour of caffe.LayerParameter")
    assert lines[2].endswith("give -skip colour")
    some = Lenience(skip=frozenset({"colour", "warp_param"}))
    with pytest.raises(ProtoError, match=r"^[^\n]*avg_include_pad[^\n]*$"):
        parse_text(changes, NetParameter(), lenient=some)
    some = Lenience(skip=some.skip | {"pooling_param.avg_include_pad"})
    assert len(parse_text(changes, NetParameter(), lenient=some).layer) == 2


def test_named_fields_alone_are_skipped(caplog: pytest.LogCaptureFixture) -> None:
    named = Lenience(harmless=False, skip=frozenset({"colour", "ceil_mode"}))
    text = "layer { colour: 3 pooling_param { ceil_mode: false } }"
    with caplog.at_level(logging.WARNING):
        net = parse_text(text, NetParameter(), source="n.txt", lenient=named)
    assert not net.layer[0].pooling_param.ceil_mode
    known = "n.txt: ceil_mode is known here and keeps its meaning (-skip)"
    assert caplog.records[0].getMessage() == known
    with pytest.raises(ProtoError, match='no field named "threads"'):
        parse_text(text + "layer { data_param { threads: 2 } }", NetParameter(), lenient=named)


def test_lenient_still_refuses_wrong_text() -> None:
    with pytest.raises(ProtoError, match=r"^<text>:2:15: Expected"):
        parse_text("engine: 'x'\nlayer { name: }", NetParameter(), lenient=True)
    with pytest.raises(ProtoError, match=r"^<text>:1:"):
        parse_text("foo { a: 1 ", NetParameter(name="n"), lenient=True)


def test_solver_type_is_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "solver.prototxt"
    path.write_text("base_lr: 0.5 solver_type: ADADELTA")
    assert read_solver(path) == SolverParameter(base_lr=0.5, type="AdaDelta")
    path.write_text("type: 'SGD' solver_type: ADAM")
    with pytest.raises(SolverError, match=r"solver.prototxt: .*'SGD'.*solver_type: ADAM"):
        read_solver(path)


def test_upgrade_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text("layer { } layers { }")
    with pytest.raises(ProtoError, match=r"net.prototxt: the net has 1 `layer` and 1 old-style"):
        read_net(path)


def test_all_recorded_definitions_are_read() -> None:
    nets = [p for p in sorted(GOLDEN.rglob("*.prototxt")) if "labelmap" not in p.name]
    assert len(nets) > 20
    for path in nets:
        if "store_blobs_in_old_format" in path.read_text():  # a field of a later Caffe
            assert read_solver(path, lenient=True).type == "SGD"
        elif "solver" in path.name:
            read_solver(path)
        else:
            assert len(read_net(path).layer) > 0
