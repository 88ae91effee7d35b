"""`caffe models`: names, tables, one model in full."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from caffe.catalogue import CATALOGUE, FAMILIES, Models, Published
from caffe.catalogue.published import SCORE_SCRIPTS
from caffe.models.script import scoring_parser

from caffe_ssd.cli.main import main
from caffe_ssd.cli.models_select import select
from caffe_ssd.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]


def entries(name: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    assert main(["models", name, "-json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(
    ("name", "variants"),
    [
        ("dsod300", {"DSOD300"}),  # any case
        ("DSOD300_lite", {"lite"}),  # as its folders are called
        ("lite", {"lite"}),
        ("ScratchDet", {"res34", "res18", "res34_512", "res18_512"}),
        ("DSOD300-07+12-batch12", {"DSOD300"}),
        ("GRP-DSOD", {"GRP_DSOD300", "few_priors", "GRP_DSOD320"}),
        (None, {row.variant for row in CATALOGUE}),
    ],
)
def test_names(name: str | None, variants: set[str]) -> None:
    assert {row.variant for row in select(name)} == variants


def test_every_line_can_be_named() -> None:
    assert all(row in select(row.variant) for row in CATALOGUE)


def test_unknown_names() -> None:
    with pytest.raises(UsageError, match=r"no published model 'DSOD30'; did you mean DSOD300\?"):
        select("DSOD30")
    with pytest.raises(UsageError, match="families: DSOD, GRP-DSOD, SSD, ScratchDet"):
        select("YOLO")


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "GRP-DSOD"]) == 0
    paper, headings, *lines = capsys.readouterr().out.splitlines()
    assert paper == "Improving Object Detection from Scratch via Gated Feature Reuse"
    assert headings.split("  ")[0] == "row"
    assert lines.index("") == len(select("GRP-DSOD"))
    released = next(line.split() for line in lines if line.startswith("GRP_DSOD320-07+12 "))
    assert released == [
        *("GRP_DSOD320-07+12", "07+12", "VOC2007", "79.0"),
        *("15,955,327", "63.8", "38.6", "17,078", "320*"),
    ]


def test_rows_without_a_score(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "DSOD"]) == 0
    line = next(x for x in capsys.readouterr().out.splitlines() if x.startswith("DSOD512"))
    assert line.split()[3] == "-"
    assert line.endswith("no score published")


def test_nets_that_are_not_known_exactly_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "SSD"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "26,293,516*" in next(line for line in lines if "scratch_bn_head" in line)
    assert "26,285,486 " in next(line for line in lines if line.startswith("SSD300"))


@pytest.mark.parametrize(
    ("name", "floats", "gflop", "priors"),
    [
        ("DSOD300", 14_795_828, 30.2, 8744),
        ("SSD300", 26_285_486, 62.7, 8732),
        ("res34", 24_570_584, 66.6, 8892),
        ("GRP_DSOD320", 15_955_327, 38.6, 17078),
    ],
)
def test_counts(
    name: str, floats: int, gflop: float, priors: int, capsys: pytest.CaptureFixture[str]
) -> None:
    first = entries(name, capsys)[0]
    assert (first["floats"], first["priors"]) == (floats, priors)
    assert first["flops"] / 1e9 == pytest.approx(gflop, abs=0.05)
    assert sum(each["priors"] for each in first["maps"]) == priors


def test_one_model_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "DSOD300"]) == 0
    text = capsys.readouterr().out
    assert "blocks 6 8 8 8" in text
    assert (
        "First_norm   800x38x38  4 per cell  5,776  30 and 60 px, aspect ratios 1, 2, 1/2" in text
    )
    assert "with 81 classes: 21,784,148 floats, 36.7 GFLOP" in text
    first = entries("DSOD300", capsys)[0]
    assert first["body_settings"]["growth"] == 48
    assert first["input"] == [3, 300, 300]
    assert first["maps"][1]["min_size_px"] == [60]


def test_nets_are_built_once() -> None:
    models = Models()
    plain, tuned, plus, coco = (
        next(row for row in select("DSOD300") if row.trained_on == data)
        for data in ("07+12", "07+12+COCO", "07++12", "COCO")
    )
    assert models.of(plain) is models.of(tuned) is models.of(plus)
    assert models.of(coco) is not models.of(plain)


@pytest.mark.parametrize("row", CATALOGUE, ids=lambda row: row.name)
def test_commands(row: Published) -> None:
    typed = row.commands()
    python, script, *flags = shlex.split(typed["score"])
    assert python == "python"
    assert (ROOT / script).is_file()
    parser = scoring_parser(row.family, "VOC0712", script)
    args = parser.parse_args(flags)
    assert (args.data, args.variant) == (row.data, row.variant)
    caffe, action, _, *flags = shlex.split(typed["detect"])
    assert (caffe, action, flags[::2]) == ("caffe", "detect", ["-model", "-weights", "-label_map"])
    assert ("_fine_tuned_" in flags[1]) == row.from_coco
    assert (args.scales is not None) == args.flip == row.at_scales
    assert args.test_dev == (row.data == "coco")
    assert ("pack" in typed) == (row.tested_on != "VOC2007")


def test_away_from_the_scripts_it_tells_what_brings_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "GRP_DSOD300"]) == 0
    assert "caffe examples" not in capsys.readouterr().out
    monkeypatch.chdir(tmp_path)
    assert main(["models", "GRP_DSOD300"]) == 0
    assert "\n  first  caffe examples .\n" in capsys.readouterr().out
    assert main(["models", "GRP-DSOD"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "The scripts are not in this folder; `caffe examples .` writes them here."
    (entry, *_) = entries("GRP_DSOD300", capsys)
    assert main(shlex.split(entry["commands"]["first"])[1:]) == 0
    assert all(Path(row.commands()["train"].split()[1]).is_file() for row in CATALOGUE)


def test_what_a_row_leaves_open_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "DSOD300-07+12-batch12"]) == 0
    text = capsys.readouterr().out
    assert "assumed: 12 images on each of 8 GPUs are 96 in a pass; an iteration is 2 passes" in text
    assert "(the released script's rule, whole passes; the paper gives no total for 12)" in text
    (entry,) = entries("res34-07+12-multi", capsys)
    (assumption,) = entry["assumptions"]
    assert assumption["text"].startswith("`--scales 0.75,1,1.25,1.5,2 --flip`")


def test_every_family_is_scored() -> None:
    assert {family.name for family in FAMILIES} == set(SCORE_SCRIPTS)
