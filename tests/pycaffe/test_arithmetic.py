"""Counting parameters from a net's fields."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import caffe
import pytest
from caffe import layers as L
from caffe.models.arithmetic import count_floats
from caffe.models.dsod_recipes import DSOD
from caffe.models.grp_dsod_recipes import GRP_DSOD
from caffe.models.recipe import Family, make_nets
from caffe.models.scratchdet_recipes import SCRATCHDET
from caffe.models.ssd_recipes import SSD
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

from tests.support.golden import GOLDEN, needs_golden


@needs_golden
def test_totals_are_the_recorded_ones() -> None:
    folders = [path.parent for path in (GOLDEN / "nets").glob("*/shapes.json")]
    assert len(folders) >= 7
    for folder in folders:
        text = (folder / "deploy.json").read_text()
        deploy: Any = ParseDict(json.loads(text), caffe_pb2.NetParameter())
        shapes = json.loads((folder / "shapes.json").read_text())
        assert count_floats(deploy) == shapes["total_parameter_floats"], folder.name


@needs_golden
@pytest.mark.parametrize("variant", ["lite", "smallest"])
def test_totals_without_a_recorded_net(variant: str) -> None:
    facts = json.loads((GOLDEN / "nets" / f"DSOD300_{variant}" / "facts.json").read_text())
    deploy = make_nets(DSOD.recipe("VOC0712", variant), "")["deploy"]
    assert count_floats(deploy) == facts["computed"]["parameter_floats"]["value"]


@pytest.mark.parametrize("family", [DSOD, GRP_DSOD, SSD, SCRATCHDET], ids=lambda f: f.name)
def test_engine_counts_the_same(family: Family, tmp_path: Path) -> None:
    recipe = family.recipe("shapes", "tiny")
    deploy = make_nets(recipe, "")["deploy"]
    for layer in deploy.layer:
        if layer.type == "DetectionOutput":
            layer.detection_output_param.ClearField("save_output_param")
    path = tmp_path / "deploy.prototxt"
    path.write_text(str(deploy))
    net = caffe.Net(str(path), caffe.TEST)
    counted = sum(blob.data.size for blobs in net.params.values() for blob in blobs)
    assert counted == count_floats(deploy)
    sizes = [net.blobs[name].data.shape[2:] for name in recipe.detector.body.sources]
    assert sizes == [(12, 12), (6, 6), (3, 3), (2, 2)]


def test_kinds_of_layers() -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    n.a = L.Convolution(n.data, num_output=6, kernel_h=3, kernel_w=5, group=3)  # 6 * 15 + 6
    n.b = L.Bias(n.a)  # 6
    n.c = L.Normalize(n.b, channel_shared=True)  # 1
    n.d = L.Scale(n.c, bias_term=True)  # 12
    n.e = L.InnerProduct(n.d, num_output=4)  # 28
    n.f = L.Scale(n.d, n.e)  # a product
    n.g = L.Concat(n.d, n.f)  # 12 channels
    n.h = L.BatchNorm(n.g)  # 25
    assert count_floats(n.to_proto()) == 96 + 6 + 1 + 12 + 28 + 25
    n.i = L.LSTM(n.h)
    with pytest.raises(ValueError, match=r"i: cannot count .* of type LSTM"):
        count_floats(n.to_proto())
