"""`python -m tests.fuzz [KIND...]`: damaged files for FUZZ_MINUTES (10), or FUZZ_CASES in all.

FUZZ_SEED (0) and the number of a case make its input. What fails is written to `tests/fuzz/corpus`,
where it stays a test; the exit status is then 1.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import torch

from tests.fuzz.kinds import Kind, prepare
from tests.fuzz.runner import Outcome, case, run_kind

CORPUS = Path(__file__).parent / "corpus"
_ROUND = 250  # cases of a kind in a row, so that all kinds have their turn


def main(names: list[str]) -> int:
    """Run; returns the exit status."""
    minutes = float(os.environ.get("FUZZ_MINUTES", "10"))
    total = int(os.environ.get("FUZZ_CASES", "0"))
    seed = int(os.environ.get("FUZZ_SEED", "0"))
    workers = int(os.environ.get("FUZZ_WORKERS", str(os.cpu_count() or 1)))
    deadline = time.monotonic() + (1e9 if total else minutes * 60)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    with tempfile.TemporaryDirectory() as root:
        template = Path(root) / "template"
        template.mkdir()
        os.chdir(template)
        kinds = prepare(template)
        chosen = {name: kinds[name] for name in names or kinds}
        share = -(-total // len(chosen)) if total else 10**9
        outcomes = {name: Outcome() for name in chosen}
        folders = [Path(shutil.copytree(template, Path(root) / str(i))) for i in range(workers)]

        def work(job: tuple[str, range]) -> None:
            folder = folders.pop()
            name, numbers = job
            made = run_kind(
                name, chosen[name], folder, seed=seed, numbers=numbers, deadline=deadline
            )
            folders.append(folder)
            outcomes[name].counts.update(made.counts)
            outcomes[name].faults += made.faults
            for number, fault in made.faults:
                print(f"{name} case {number}: {fault}", flush=True)

        with ThreadPoolExecutor(workers) as pool:
            for start in range(0, share, _ROUND):
                if time.monotonic() > deadline:
                    break
                numbers = range(start, min(start + _ROUND, share))
                list(pool.map(work, [(name, numbers) for name in chosen]))
        os.chdir("/")
    return _report(chosen, outcomes, seed)


def _report(kinds: dict[str, Kind], outcomes: dict[str, Outcome], seed: int) -> int:
    print(f"{'kind':<18}{'cases':>8}{'refused':>9}{'accepted':>9}{'faults':>8}")
    for name, outcome in outcomes.items():
        counts = outcome.counts
        print(
            f"{name:<18}{counts.total():>8}{counts['refused']:>9}{counts['accepted']:>9}"
            f"{counts['faults']:>8}"
        )
        for number, fault in outcome.faults:
            data = case(name, kinds[name], seed, number)
            target = CORPUS / name / f"{zlib.crc32(data):08x}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
            print(f"  {name}/{target.name} (case {number}): {fault}")
    total = sum(outcome.counts.total() for outcome in outcomes.values())
    faults = sum(len(outcome.faults) for outcome in outcomes.values())
    print(f"{total} cases, {faults} faults")
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
