"""Every input that ever failed, and a few new ones of each kind."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.kinds import Kind, prepare
from tests.fuzz.runner import case, run_case, run_kind

CORPUS = Path(__file__).parent / "corpus"
INPUTS = sorted(path for path in CORPUS.rglob("*") if path.is_file())

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        yield path


@pytest.fixture(scope="module")
def kinds(folder: Path) -> dict[str, Kind]:
    return prepare(folder)


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_failed_once(path: Path, kinds: dict[str, Kind], folder: Path) -> None:
    kind = kinds[path.parent.name]
    assert run_case(kind, path.read_bytes(), folder) in ("accepted", "refused")


def test_valid_samples_are_accepted(kinds: dict[str, Kind], folder: Path) -> None:
    for name, kind in kinds.items():
        for sample in kind.samples[:3]:
            assert run_case(kind, sample, folder) == "accepted", name


def test_a_case_depends_on_its_number_alone(kinds: dict[str, Kind]) -> None:
    inputs = [case("voc_xml", kinds["voc_xml"], 0, number) for number in range(50)]
    assert inputs == [case("voc_xml", kinds["voc_xml"], 0, number) for number in range(50)]
    assert len(set(inputs)) > 40


def test_what_goes_wrong_is_noticed(folder: Path) -> None:
    def read(path: Path) -> None:
        number = len(path.read_bytes()) % 3
        if number == 1:
            raise ValueError("not ours")
        if number == 2:
            os.abort()

    kind = Kind(file="any", samples=[b"0123456789"], read=read)
    outcome = run_kind(
        "any", kind, folder, seed=0, numbers=range(30), deadline=time.monotonic() + 300
    )
    assert outcome.counts.total() == 30
    texts = {text for _, text in outcome.faults}
    assert texts == {"ValueError: not ours", "ended with exit code -6"}
    assert outcome.counts["accepted"] > 0
