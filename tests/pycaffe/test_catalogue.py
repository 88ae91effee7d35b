"""The table of published models: sizes, commands, completeness."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from caffe.catalogue import CATALOGUE, FAMILIES, Published, look_at
from caffe.catalogue.assumptions import ASSUMPTIONS, assumptions_of
from caffe.catalogue.published import SCRIPTS
from caffe.catalogue.schedules import differences, published_schedule
from caffe.models.dsod_recipes import DSOD
from caffe.models.script import training_parser
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

from tests.support.counting import count_floats
from tests.support.golden import GOLDEN

ROOT = Path(__file__).resolve().parents[2]


def name_of(row: Published) -> str:
    return row.name


@pytest.mark.parametrize("row", [row for row in CATALOGUE if row.floats is not None], ids=name_of)
def test_sizes(row: Published) -> None:
    floats = look_at(row.recipe).cost.num_parameters
    assert floats == row.floats
    if row.file_mb is not None:
        # Names and shapes of a few hundred layers take up to 0.1 MB more.
        assert -0.05 <= row.file_mb - floats * 4 / 1e6 <= 0.1 + 0.05


@pytest.mark.parametrize("row", CATALOGUE, ids=name_of)
def test_commands(row: Published) -> None:
    python, script, *flags = shlex.split(row.commands()["train"])
    assert python == "python"
    assert (ROOT / script).is_file()
    default = next(data for (_, data), path in SCRIPTS.items() if path == script)
    args = training_parser(row.family, default, script).parse_args(flags)
    assert (args.data, args.variant) == (row.data, row.variant)


def test_scripts_train_the_data_set_they_are_listed_for() -> None:
    for (family, data), path in SCRIPTS.items():
        text = (ROOT / path).read_text()
        assert f'"{data}", __file__' in text, path
        assert any(f.name == family and data in f.trainings for f in FAMILIES)


def test_a_row_is_one_name_and_one_folder() -> None:
    names = [row.name for row in CATALOGUE]
    assert len(names) == len(set(names))
    assert "DSOD300-07+12-batch12" in names
    results = [row.places.output_dir for row in CATALOGUE]
    assert len(results) == len(set(results))
    assert "scratch_bn_body-07+12-lr0.001" in names
    folders = [row.places.model_dir for row in CATALOGUE]
    assert len(folders) == len(set(folders))
    assert all(folder.startswith("models/") for folder in folders)
    assert {row.family.name for row in CATALOGUE} == {family.name for family in FAMILIES}
    assert all(row.source for row in CATALOGUE)


def test_rows_are_scored_and_used_where_they_were_trained() -> None:
    for row in CATALOGUE:
        commands = row.commands()
        assert f"-model {row.training.places.model_dir}/deploy.prototxt" in commands["detect"]
        assert f"-weights {row.weights} " in commands["detect"]
        assert ("--fine-tune" in commands["score"]) == ("--fine-tune" in commands["train"])


def test_rows_that_begin_with_coco_begin_with_a_row() -> None:
    rows = {row.name: row for row in CATALOGUE}
    for row in CATALOGUE:
        if row.start is not None:
            assert row.start.weights == rows[row.start.name].weights
            assert row.start.name == f"{row.variant}-COCO"
            assert f"--fine-tune {row.start.weights}" in row.commands()["train"]
        if row.at_scales:
            assert row.training.places.snapshot_dir == row.places.snapshot_dir
            assert row.weights == row.training.weights


def test_totals_are_the_recorded_ones() -> None:
    folders = [path.parent for path in (GOLDEN / "nets").glob("*/shapes.json")]
    assert len(folders) >= 7
    for folder in folders:
        deploy = ParseDict(
            json.loads((folder / "deploy.json").read_text()), caffe_pb2.NetParameter()
        )
        shapes = json.loads((folder / "shapes.json").read_text())
        assert count_floats(deploy) == shapes["total_parameter_floats"], folder.name


@pytest.mark.parametrize("variant", ["lite", "smallest"])
def test_totals_without_a_recorded_net(variant: str) -> None:
    facts = json.loads((GOLDEN / "nets" / f"DSOD300_{variant}" / "facts.json").read_text())
    floats = look_at(DSOD.recipe("VOC0712", variant)).cost.num_parameters
    assert floats == facts["computed"]["parameter_floats"]["value"]


# From the tables of the papers: name of the net, what it was trained on, score. Nets that are
# tested at several scales stand last.
PUBLISHED = """
smallest 07+12 73.6 | lite 07+12 76.7 | DSOD300 07+12 77.7 | DSOD300 07+12 78.9
DSOD300 07+12+COCO 81.7 | DSOD300 07++12 76.3 | DSOD300 07++12+COCO 79.3 | DSOD300 12 70.8
DSOD300 COCO 29.3 | plain 07+12 77.3
ablation1 07+12 59.9 | ablation2 07+12 61.6 | ablation3 07+12 64.5 | ablation4 07+12 68.6
ablation5 07+12 69.7 | ablation6 07+12 74.5 | ablation7 07+12 70.7 | ablation8 07+12 76.0
GRP_DSOD300 07+12 78.5 | few_priors 07+12 78.7 | GRP_DSOD320 07+12 79.0 | few_priors 07++12 77.0
GRP_DSOD320 12 72.5 | few_priors COCO 30.0
SSD300 07+12 77.2 | SSD300 07+12 69.6 | scratch 07+12 67.6 | scratch_bn_head 07+12 71.0
scratch_bn_body 07+12 71.8 | scratch_bn_body 07+12 77.3 | scratch_bn 07+12 78.7
res34 07+12 80.4 | res34 07+12+COCO 84.0 | res34 07++12 78.5 | res34 07++12+COCO 82.1
res34 COCO 32.7 | res34 07+12 84.1 | res34 07+12+COCO 86.3 | res34 07++12 83.6
res34 07++12+COCO 86.3 | res34 COCO 39.1
"""


def test_every_published_score_has_a_row() -> None:
    expected = sorted(
        entry.split() for entry in PUBLISHED.replace("\n", "|").split("|") if entry.strip()
    )
    found = [
        [row.variant, row.trained_on, f"{row.score_percent:.1f}"]
        for row in CATALOGUE
        if row.score_percent is not None
    ]
    assert sorted(found) == expected
    unscored = {row.variant for row in CATALOGUE if row.score_percent is None}
    assert unscored >= {"DSOD512", "SSD512", "res34_512", "res18_512", "res18"}


@pytest.mark.parametrize("row", CATALOGUE, ids=name_of)
def test_a_row_trains_what_was_published(row: Published) -> None:
    """Rate, steps, iterations, images and size, as far as the papers give them."""
    different = differences(row)
    assert all(different.values()), "a difference without a reason"
    assert set(different) == ({"images"} if row.family.name == "GRP-DSOD" else set())
    assert published_schedule(row).image_size == row.recipe.detector.image_size


def test_what_is_not_published_is_assumed_by_name() -> None:
    for row in CATALOGUE:
        published = published_schedule(row)
        open_ends = [published.base_lr, published.steps, published.max_iter, published.images]
        assert assumptions_of(row) or None not in open_ends, row.name
    for each in ASSUMPTIONS:
        assert any(each.holds_for(row) for row in CATALOGUE), each.text
