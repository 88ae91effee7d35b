"""The trainings of GRP-DSOD are the published ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from caffe.models import datasets
from caffe.models.grp_dsod_recipes import grp_dsod, grp_dsod_pascal
from caffe.models.recipe import Places, make_nets, make_solver
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

from tests.support.counting import count_floats
from tests.support.golden import GOLDEN


def recorded(kind: str, message: Any) -> Any:
    path = GOLDEN / "nets" / "GRP_DSOD320_pascal" / f"{kind}.json"
    return ParseDict(json.loads(path.read_text()), message)


def test_published_nets() -> None:
    recipe = grp_dsod_pascal()
    data = recipe.dataset._replace(train_data="<train_data>", test_data="<test_data>")
    for kind, net in make_nets(recipe._replace(dataset=data), "<output_dir>").items():
        assert net == recorded(kind, caffe_pb2.NetParameter())


def test_published_solver() -> None:
    expected = recorded("solver", caffe_pb2.SolverParameter())
    model_dir = expected.train_net.rpartition("/")[0]
    places = Places(model_dir, model_dir, "jobs", "results")
    assert make_solver(grp_dsod_pascal(), places, gpus=list(range(8))) == expected


@pytest.mark.parametrize(
    ("variant", "floats"),
    [("GRP_DSOD320", 15_955_327), ("few_priors", 14_193_977), ("GRP_DSOD300", 14_105_741)],
)
def test_parameter_totals(variant: str, floats: int) -> None:
    assert count_floats(make_nets(grp_dsod_pascal(variant), "results")["deploy"]) == floats


def test_parameter_total_of_coco() -> None:
    recipe = grp_dsod(datasets.COCO, grp_dsod_pascal().schedule, "few_priors")
    assert count_floats(make_nets(recipe, "results")["deploy"]) == 21_202_817


def test_unknown_variant() -> None:
    with pytest.raises(ValueError, match=r"variant must be one of GRP_DSOD320, .* got '320\*'"):
        grp_dsod_pascal("320*")
