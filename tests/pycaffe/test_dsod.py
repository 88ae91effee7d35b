"""The bodies of DSOD and the ablation table."""

from __future__ import annotations

import json

import caffe
import pytest
from caffe import layers as L
from caffe.catalogue import ABLATIONS, AblationRow, look_at
from caffe.catalogue.ablations import EQUAL, ONE_UNIT
from caffe.models.dsod import (
    DSOD300,
    DSOD300_LITE,
    DSOD300_PLAIN,
    DSOD300_SMALLEST,
    DenseBody,
    dense_body,
)
from caffe.models.dsod_recipes import DSOD

from tests.support.golden import GOLDEN


@pytest.mark.parametrize(
    ("body", "transitions"),
    [
        (DSOD300, (416, 800, 1184, 256)),
        (DSOD300_LITE, (320, 576, 832, 256)),
        (DSOD300_SMALLEST, (224, 352, 480, 256)),
        (DSOD300_PLAIN, (416, 800, 1184, 1568)),
        (dense_body("DS/32-12-16-0.5"), (80, 104, 116, 256)),
        (dense_body("DS/32-12-16-0.5", blocks=(6, 8, 8), last_transition=None), (80, 104, 116)),
    ],
)
def test_transition_widths(body: DenseBody, transitions: tuple[int, ...]) -> None:
    assert body.transitions == transitions


@pytest.mark.parametrize("notation", ["DS/64-192-48-1", "DS/32-12-16-0.5"])
def test_notation(notation: str) -> None:
    assert dense_body(notation).notation == notation


@pytest.mark.parametrize("notation", ["64-192-48-1", "DS/64-192-48", "DS/a-b-c-d", "DS/64-192-48-"])
def test_malformed_notation(notation: str) -> None:
    with pytest.raises(ValueError, match=rf"like DS/64-192-48-1 .*, got '{notation}'"):
        dense_body(notation)


def test_body_complaints() -> None:
    n = caffe.NetSpec()
    n.data = L.Input()
    with pytest.raises(ValueError, match=r"blocks must be 3 or more .*\(6, 8\)"):
        DenseBody(blocks=(6, 8)).add_to(n)
    with pytest.raises(ValueError, match="stem must have"):
        DenseBody(stem=()).add_to(n)
    with pytest.raises(ValueError, match="extras may be up to 6"):
        DenseBody(extras=(8,) * 7).add_to(n)


def ablation_floats(row: AblationRow) -> int:
    return look_at(DSOD.recipe("VOC0712", row.variant)).cost.num_parameters


def test_ablations_are_the_published_ones() -> None:
    recorded = json.loads((GOLDEN / "nets" / "ablations.json").read_text())["rows"]
    # Their last row is our eleventh; our tenth is the model that was released as the smallest.
    rows = [*ABLATIONS[:9], ABLATIONS[10]]
    for row, expected in zip(rows, recorded, strict=True):
        assert row.body.notation == expected["notation"]
        assert row.has_stem == expected["stem"]
        assert row.has_transition_without_pooling == expected["transition_without_pooling"]
        assert row.body.dense_front == (expected["front_end"] == "dense")
        assert row.parameters_million == expected["parameters_million"]["value"]
        assert row.map_percent == expected["voc07_map_percent"]["value"]
        assert ablation_floats(row) == round(expected["arithmetic_million"]["value"] * 1e6)


@pytest.mark.parametrize("row", ABLATIONS, ids=lambda row: f"row{row.number}")
def test_reasons_for_differences_hold(row: AblationRow) -> None:
    difference = abs(ablation_floats(row) / 1e6 - row.parameters_million)
    most = {EQUAL: 0.05, ONE_UNIT: 0.1}.get(row.reason, 1)
    assert difference < most
