"""Saved detections as the reference writes them: the same characters around equal numbers."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from google.protobuf import text_format

from caffe_ssd.errors import DataError
from caffe_ssd.evaluate.result_writer import ResultWriter
from caffe_ssd.evaluate.results import ImageSize
from caffe_ssd.layers.registry import LayerSpec, build_layer
from caffe_ssd.proto.caffe_pb2 import NetParameter
from tests.support.golden import GOLDEN

NUMBER = re.compile(r"-?\d+\.?\d*(?:e[-+]\d+)?")
COORDINATE = re.compile(rf" *{NUMBER.pattern},?")  # alone on its line
CASES = sorted((GOLDEN / "logs" / "detection_output").glob("*"))


def build_recorded(folder):
    """The DetectionOutput layer of a recorded case; paths are relative to the current folder."""
    net = text_format.Parse((folder / "net.prototxt").read_text(), NetParameter())
    *inputs, layer = net.layer
    shapes = tuple(tuple(i.input_param.shape[0].dim) for i in inputs)
    return build_layer(LayerSpec(param=layer, bottoms=shapes))


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_recorded_files(case, tmp_path, monkeypatch):
    for name in ("labelmap.prototxt", "name_size.txt"):
        shutil.copy(case / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    recorded = json.loads((case / "case.json").read_text())
    arrays = np.load(case / "inputs_outputs.npz")
    layer = build_recorded(case)
    assert not (tmp_path / "results").exists()
    for i in range(recorded["forwards"]):
        bottoms = (torch.from_numpy(arrays[f"{name}{i}"]) for name in ("loc", "conf", "prior"))
        top = layer(*bottoms)
        if f"detection_out{i}" in arrays:
            torch.testing.assert_close(top, torch.from_numpy(arrays[f"detection_out{i}"]))
    written = {path.name: path.read_text() for path in (tmp_path / "results").iterdir()}
    if "reference_fails" in recorded:
        assert written == {"r.json": "[]\n"}
        return
    assert written.keys() == {path.name for path in (case / "results").iterdir()}
    for name, text in written.items():
        assert_same_text(text, (case / "results" / name).read_text())


def assert_same_text(have, want):
    """The same characters around equal numbers.

    COCO's coordinates are rounded to hundredths, and processors differ on which side of a half the
    last bit of a box leaves it: one hundredth more or less is equal.
    """
    assert NUMBER.sub("#", have) == NUMBER.sub("#", want)
    lines = zip(have.splitlines(), want.splitlines(), strict=True)
    for mine, theirs in lines:
        step = 0.0101 if COORDINATE.fullmatch(mine) else 0
        numbers = [float(number) for number in NUMBER.findall(theirs)]
        found = [float(number) for number in NUMBER.findall(mine)]
        assert found == pytest.approx(numbers, rel=1e-6, abs=step), theirs


def writer(folder, **settings):
    defaults = {
        "prefix": "p_",
        "output_format": "ILSVRC",
        "names": {0: "background", 1: "cat", 2: "dog"},
        "background_label_id": 0,
        "sizes": [ImageSize(name="12", height=300, width=500)],
        "num_test_image": 1,
    }
    return ResultWriter(directory=folder, **(defaults | settings))


def rows(*given):
    return np.asarray(given, np.float32)


def test_an_incomplete_pass_writes_nothing(tmp_path):
    sizes = [ImageSize(name=str(i), height=300, width=500) for i in range(3)]
    saver = writer(tmp_path / "new", sizes=sizes, num_test_image=2)
    saver.add(rows([0, 1, 0.5, 0.1, 0.1, 0.2, 0.4]), 1)
    assert not (tmp_path / "new").exists()
    saver.add(rows([0, -1, -1, -1, -1, -1, -1]), 1)
    assert (tmp_path / "new" / "p_.txt").read_text() == "0 1 0.5 50 30 100 120\n"


def test_a_second_pass_replaces_the_files(tmp_path):
    saver = writer(tmp_path)
    saver.add(rows([0, 1, 0.5, 0.1, 0.1, 0.2, 0.4]), 1)
    saver.add(rows([0, 2, 0.25, 0, 0, 1, 1]), 1)
    assert (tmp_path / "p_.txt").read_text() == "12 2 0.25 0 0 500 300\n"


def test_coco_numbers_and_names_are_valid_json(tmp_path):
    saver = writer(
        tmp_path,
        output_format="COCO",
        names={1: 'a/"b"'},
        sizes=[ImageSize(name="0012", height=300, width=500)],
    )
    saver.add(rows([0, 1, 0.00001, 0.1, 0.1, 0.2, 0.4]), 1)
    (item,) = json.loads((tmp_path / "p_.json").read_text())
    assert item["image_id"] == "0012"
    assert item["category_id"] == 'a/"b"'
    assert item["score"] == pytest.approx(1e-5)


def test_an_unknown_format_is_announced_and_saves_nothing(tmp_path, caplog):
    saver = writer(tmp_path / "new", output_format="XML")
    saver.add(rows([0, 1, 0.5, 0.1, 0.1, 0.2, 0.4]), 1)
    assert not (tmp_path / "new").exists()
    assert "output_format 'XML' is none of VOC, COCO, ILSVRC" in caplog.text


def test_a_label_without_a_name_is_refused(tmp_path):
    with pytest.raises(DataError, match="label 7 was detected but is not in the label map"):
        writer(tmp_path).add(rows([0, 7, 0.5, 0.1, 0.1, 0.2, 0.4]), 1)
