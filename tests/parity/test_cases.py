"""Every recorded case of a layer, a net or a solver, through pycaffe."""

from __future__ import annotations

from pathlib import Path

import pytest

from caffe_ssd.layers.registry import layer_types
from tests.support.recorded_cases import Case, case_id, case_paths, run_net_case, run_solver_case

LAYERS, SOLVERS, FORKS = (case_paths(part) for part in ("layers", "solvers", "forks"))


@pytest.mark.parametrize("path", [*LAYERS, *FORKS], ids=case_id)
def test_layer_or_net(path: Path, tmp_path: Path) -> None:
    run_net_case(Case(path), tmp_path)


@pytest.mark.parametrize("path", SOLVERS, ids=case_id)
def test_solver(path: Path, tmp_path: Path) -> None:
    run_solver_case(Case(path), tmp_path)


def test_all_cases_are_here() -> None:
    """As many as were recorded, and a folder for nearly every type that computes."""
    assert (len(LAYERS), len(SOLVERS), len(FORKS)) == (547, 50, 139)
    types = {path.parent.name for path in LAYERS} - {"Net"}
    assert types <= set(layer_types())
    assert len(types) == 60
