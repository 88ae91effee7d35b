"""`caffe_ssd.score`: the numbers of `caffe test`, as values."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import caffe_ssd
from caffe_ssd.cli.main import main
from caffe_ssd.errors import UsageError
from tests.support.golden import SHARED_GOLDEN, needs_shared

NET = ("test.prototxt", "w.caffemodel")
COMMAND = ["test", "-model", NET[0], "-weights", NET[1], "-workers", "0"]


def test_the_same_as_the_command(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["-protocol", "voc2007,voc2012", "-label_map", "labels.prototxt", "-json", "s.json"]
    assert main([*COMMAND, *flags]) == 0
    out, log = capsys.readouterr()
    names = ["reference", "voc2007", "voc2012"]
    report = caffe_ssd.score(*NET, protocols=names, labels="labels.prototxt", workers=0)
    assert capsys.readouterr() == ("", "")
    assert repr(report) + "\n" == out
    assert report.to_dict() == json.loads(Path("s.json").read_text())
    found = [float(x) for x in re.findall(r"mAP \(\w+\) = (\S+)", log)]
    assert list(report.values.values()) == pytest.approx(found, abs=1e-5)
    assert report.map == report.values["score mAP (11point)"]
    assert list(report.protocols) == names
    assert list(report.class_ap) == ["cat", "dog"]
    assert sum(report.class_ap.values()) / 2 == pytest.approx(report.map)


def test_the_first_protocol_gives_the_map(house: Path) -> None:
    report = caffe_ssd.score(*NET, protocols=["voc2012", "reference"], workers=0)
    (number,) = report.protocols["voc2012"].numbers.values()
    assert report.map == number
    assert list(report.class_ap) == ["1", "2"]


def test_the_reference_alone(house: Path) -> None:
    """It needs no truth but that of the label blob."""
    report = caffe_ssd.score(*NET, labels="labels.prototxt", workers=0)
    assert list(report.class_ap) == ["cat", "dog"]
    assert repr(report).splitlines()[1].split() == ["class", "11point", "MaxIntegral", "Integral"]
    assert "<pre>" in report._repr_html_()
    again = caffe_ssd.score(*NET, multi_scale=caffe_ssd.MultiScale(), workers=0)
    assert again.map == report.map


def test_what_a_precision_costs(house: Path) -> None:
    report = caffe_ssd.score(*NET, engine="torch", precision="bf16", workers=0)
    assert report.exact is not None
    assert report.exact.keys() == report.values.keys()
    assert "bf16" in repr(report)


def test_nets_that_judge_nothing(house: Path) -> None:
    Path("mean.prototxt").write_text(
        'layer { name: "d" type: "DummyData" top: "d" dummy_data_param { shape { dim: 2 dim: 3 } '
        "data_filler { value: 1.5 } } }"
    )
    report = caffe_ssd.score("mean.prototxt", [], iterations=3)
    assert report.means == {"d": [1.5] * 6}
    assert "d[5]  1.5" in repr(report)
    with pytest.raises(UsageError, match="there is no mAP: the net has no DetectionEvaluate"):
        report.map  # noqa: B018


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocols": ["voc2008"]}, "unknown protocol 'voc2008'; known: reference"),
        ({"protocols": ["voc2007"], "iterations": 2}, "excludes iterations"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"engine": "none", "precision": "bf16"}, "precision bf16 needs an engine"),
    ],
)
def test_arguments_that_make_no_sense(
    house: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        caffe_ssd.score(*NET, workers=0, **options)  # type: ignore[arg-type]


@needs_shared
def test_the_recorded_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SHARED_GOLDEN / "eval")
    weights = "bccd_dense_iter_3200.caffemodel"
    assert caffe_ssd.score("test.prototxt", weights, workers=0).map == pytest.approx(
        0.863322, abs=1e-6
    )
