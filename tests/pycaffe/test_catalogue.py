"""The table of published models: sizes, commands, completeness."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from caffe.catalogue import CATALOGUE, FAMILIES, Published, look_at
from caffe.catalogue.tables import SCRIPTS
from caffe.models.dsod_recipes import DSOD
from caffe.models.script import training_parser
from caffe.proto import caffe_pb2
from google.protobuf.json_format import ParseDict

from tests.support.counting import count_floats
from tests.support.golden import GOLDEN

ROOT = Path(__file__).resolve().parents[2]


def name_of(row: Published) -> str:
    return f"{row.family.name}-{row.variant}-{row.trained_on}-{row.score_percent}"


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
    assert "scratch_bn_body-07+12-lr0.001" in names
    folders = [row.places.model_dir for row in CATALOGUE]
    assert len(folders) == len(set(folders))
    assert all(folder.startswith("models/") for folder in folders)
    assert {row.family.name for row in CATALOGUE} == {family.name for family in FAMILIES}
    assert all(row.source for row in CATALOGUE)


def test_rows_are_scored_and_used_where_they_were_trained() -> None:
    for row in CATALOGUE:
        commands = row.commands()
        assert f"-model {row.places.model_dir}/deploy.prototxt" in commands["detect"]
        assert f"-weights {row.weights} " in commands["detect"]
        assert ("--weights" in commands["score"]) == ("--fine-tune" in commands["train"])


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
