"""The claims in miniature: nets that differ in one thing, trainings that are not done twice."""

from __future__ import annotations

import json
import os
import runpy
from pathlib import Path

import pytest
from caffe.models.recipe import make_nets

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = runpy.run_path(str(ROOT / "examples/claims/run.py"))
CELLS = CLAIMS["CELLS"]
MAIN = CLAIMS["main"]


def test_no_two_nets_are_alike_and_each_differs_from_its_base() -> None:
    texts = set()
    for cell in CELLS:
        recipe = CLAIMS["recipe_of"](cell, 1, 600)._replace(name="net", job="job")
        net = make_nets(recipe, "out")["train"]
        texts.add((net.SerializeToString(), recipe.schedule, cell.flags))
    # The whole small DSOD stands in two claims, but for its total batch.
    assert len(texts) == len(CELLS)
    assert len({cell.name for cell in CELLS}) == len(CELLS)


def test_the_total_batch_is_the_same() -> None:
    for cell in CELLS:
        if cell.claim == "batch":
            schedule = CLAIMS["recipe_of"](cell, 1, 600).schedule
            images = schedule.batch_size * schedule.iter_size(1) * cell.processes
            assert images == 24, cell.name


def test_the_root_halves_the_image_either_way() -> None:
    first, second = (make_nets(c.recipe, "out")["train"] for c in CELLS if c.claim == "root")
    strides = [
        [list(layer.convolution_param.stride) for layer in net.layer if layer.name == "stem_1"]
        for net in (first, second)
    ]
    assert strides == [[[1]], [[2]]]
    pools = [
        [layer.name for layer in net.layer if layer.type == "Pooling"] for net in (first, second)
    ]
    assert pools == [["pool1"], []]


@pytest.mark.parametrize(
    ("worse", "better", "words"),
    [
        ([50.0, 51.0], [60.0, 61.0], "reproduced in direction"),
        ([50.0, 60.0], [51.0, 61.0], "not visible at this size"),
        ([60.0], [50.0], "opposite"),
        ([60.0], [60.0], "not visible at this size"),
        ([0.0, 0.1], [4.0, 4.1], "neither has learnt anything"),
    ],
)
def test_verdicts(worse: list[float], better: list[float], words: str) -> None:
    assert CLAIMS["verdict"](worse, better)[1] == words


def test_results_become_a_table_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(MAIN.__globals__, "make_data", lambda *_: None)
    (tmp_path / "results").mkdir()
    shared = {"iterations": 600, "train": 2000, "test": 300, "seconds": 90.0, "diverged": False}
    for cell, seed, value in (
        ("bn-none_1x", 1, 0.2),
        ("bn-none_1x", 2, 0.3),
        ("bn-head_1x", 1, 0.5),
        ("bn-head_1x", 2, 0.5),
    ):
        text = json.dumps({**shared, "map": value})
        (tmp_path / "results" / f"{cell}-{seed}.json").write_text(text)
    flags = ["--out", str(tmp_path), "--claim", "bn", "--only", "none_1x", "head_1x"]
    assert MAIN([*flags, "--seeds", "1", "2"]) == 0
    page = (tmp_path / "claims.md").read_text()
    assert page in capsys.readouterr().out
    assert "| none_1x | 67.6 | 25.0 | 7.1 | 2 | 0 | 1.5 |" in page
    assert "- head_1x over none_1x: +25.0, reproduced in direction" in page
    assert "backbone" not in page.partition("## ")[2].partition("\n")[2]
    assert (tmp_path / "claims.png").stat().st_size > 0
    assert MAIN([*flags, "--max-iter", "7"]) == 1
    assert "not of {'iterations': 7," in capsys.readouterr().err


def test_the_page_says_what_was_measured() -> None:
    lines = (ROOT / "docs/claims.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert len(found) == 3 * len(CELLS)
    assert all(len(each["losses"]) > 1 or each["diverged"] for each in found)
    page = (ROOT / "docs/claims.md").read_text()
    for line in CLAIMS["summary"](found).splitlines():
        assert line in page


@pytest.mark.slow
def test_a_training_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "python")]))
    flags = ["--out", str(tmp_path), "--claim", "root", "batch", "--seeds", "4"]
    flags += ["--only", "half_resolution", "2_images_sync"]
    flags += ["--max-iter", "4", "--train", "12", "--test", "20"]
    assert MAIN(flags) == 0
    results = sorted((tmp_path / "results").iterdir())
    assert [path.name for path in results] == [
        "batch-2_images_sync-4.json",
        "root-half_resolution-4.json",
    ]
    for path in results:
        found = json.loads(path.read_text())
        assert (found["iterations"], found["diverged"]) == (4, False)
    before = [path.stat().st_mtime_ns for path in results]
    assert MAIN(flags) == 0
    assert [path.stat().st_mtime_ns for path in results] == before
