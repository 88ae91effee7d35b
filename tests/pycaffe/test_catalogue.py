"""The table of published models: sizes, commands, completeness."""

from __future__ import annotations

import runpy
import shlex
from pathlib import Path

import pytest
from caffe.models import catalogue
from caffe.models.arithmetic import count_floats
from caffe.models.catalogue import CATALOGUE, FAMILIES, SCRIPTS, Published, format_catalogue
from caffe.models.flags import add_training_flags, make_parser
from caffe.models.recipe import default_places, make_nets

ROOT = Path(__file__).resolve().parents[2]


def name_of(row: Published) -> str:
    return f"{row.family.name}-{row.variant}-{row.trained_on}-{row.score_percent}"


@pytest.mark.parametrize("row", [row for row in CATALOGUE if row.floats is not None], ids=name_of)
def test_sizes(row: Published) -> None:
    floats = count_floats(make_nets(row.recipe, "results")["deploy"])
    assert floats == row.floats
    if row.file_mb is not None:
        # Names and shapes of a few hundred layers take up to 0.1 MB more.
        assert -0.05 <= row.file_mb - floats * 4 / 1e6 <= 0.1 + 0.05


@pytest.mark.parametrize("row", CATALOGUE, ids=name_of)
def test_commands(row: Published) -> None:
    python, script, *flags = shlex.split(row.command)
    assert python == "python"
    assert (ROOT / script).is_file()
    default = next(data for (_, data), path in SCRIPTS.items() if path == script)
    parser = make_parser(row.family, default, row.family.variants[0], script, None, "")
    add_training_flags(parser)
    args = parser.parse_args(flags)
    assert (args.data, args.variant) == (row.data, row.variant)


def test_scripts_train_the_data_set_they_are_listed_for() -> None:
    for (family, data), path in SCRIPTS.items():
        text = (ROOT / path).read_text()
        assert f'"{data}", __file__' in text, path
        assert any(f.name == family and data in f.trainings for f in FAMILIES)


def test_every_published_folder_is_in_the_table_once() -> None:
    rows = [(row.family.name, row.data, row.variant, row.flags) for row in CATALOGUE]
    assert len(rows) == len(set(rows))
    families = {row.family.name for row in CATALOGUE}
    assert families == {family.name for family in FAMILIES}
    for row in CATALOGUE:
        assert row.source
        assert default_places(row.recipe).model_dir.startswith("models/")


def test_text() -> None:
    lines = format_catalogue().splitlines()
    assert len(lines) == len(CATALOGUE) + 1
    line = next(line for line in lines if "81.7" in line)
    assert "07+12+COCO  VOC2007" in line
    assert line.endswith("DSOD300_pascal.py --fine-tune COCO.caffemodel")


def test_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(catalogue.__file__), run_name="__main__")
    assert capsys.readouterr().out == format_catalogue() + "\n"
