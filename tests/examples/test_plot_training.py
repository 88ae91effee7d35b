"""examples/plot_training.py: curves of a results file."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "plot_training.py"


@pytest.fixture
def plot() -> Any:
    spec = importlib.util.spec_from_file_location("plot_training", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("extra", "shown"), [({"class_ap": {"blob": {"1": 0.5}}}, "mAP"), ({}, "blob")]
)
def test_scores_of_detections_are_called_map(
    plot: Any,
    extra: dict[str, object],
    shown: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = [
        {"kind": "start", "iteration": 0},
        {"kind": "train", "iteration": 0, "loss": 4.0, "lr": 0.1},
        {"kind": "train", "iteration": 10, "loss": 3.0, "lr": 0.01},
        {"kind": "test", "iteration": 10, "net": 0, "outputs": {"blob": [0.5]}, **extra},
        {"kind": "best", "iteration": 10, "score": 0.5},
    ]
    path = tmp_path / "x_results.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    figures: list[Any] = []
    monkeypatch.setattr(plot, "_save", lambda figure, output: figures.append(figure))
    plot.draw_curve(plot.read_results(path), tmp_path / "x.png", "title")
    assert [axis.get_ylabel() for axis in figures[0].axes] == ["smoothed loss", shown]
    plot.plt.close(figures[0])
