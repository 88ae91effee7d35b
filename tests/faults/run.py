"""Put faults into trainings and hold what comes of them against what docs/reliability.md says.

`python -m tests.faults.run [-kills N] [-seed N] [NAME ...]`; ends 0 if every promise was kept.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.training import (
    END,
    SOLVER,
    children,
    log,
    make_data,
    prepare,
    start,
    wait_for,
    weights,
)

LIMIT_S = 1200.0  # a busy machine is no fault
PEER_TIMEOUT_S = 10


class Faults:
    """The faults; each returns its figure in words, or raises AssertionError.

    Args:
        folder: an empty folder.
        kills: how often `kill` kills.
        seed: of its moments.
    """

    def __init__(self, folder: Path, kills: int, seed: int) -> None:
        self._folder = folder
        self._kills = kills
        self._random = random.Random(seed)
        make_data(folder)
        whole = prepare(folder, folder / "whole")
        process = start(whole)
        assert process.wait(LIMIT_S) == 0, log(whole)[-1500:]
        self._want = weights(whole)

    def kill(self) -> str:
        """kill -9 at random moments; -snapshot auto goes on to the same weights, bit for bit."""
        kills = runs = resumed = 0
        while kills < self._kills:
            folder = prepare(self._folder, self._folder / f"kill{runs}")
            process = start(folder, "-snapshot=auto")
            while kills < self._kills and self._is_killed(process, folder):
                kills += 1
                process = start(folder, "-snapshot=auto", f"-workers={kills % 3}")
            assert process.wait(LIMIT_S) == 0, log(folder)[-1500:]
            assert weights(folder) == self._want, f"other weights in {folder}"
            left = [path.name for path in (folder / "out").iterdir() if ".tmp" in path.name]
            assert not left, left
            resumed += log(folder).count("Resuming from")
            runs += 1
        return f"{kills} kills in {runs} trainings, {resumed} resumed snapshots, all bit-equal"

    def _is_killed(self, process: subprocess.Popen[bytes], folder: Path) -> bool:
        """Kill the training somewhere on its way; False if it was quicker."""
        # By how much it has said, so that a busy machine moves nothing.
        said = (folder / "log").stat().st_size + self._random.randrange(25_000)
        while process.poll() is None:
            if (folder / "log").stat().st_size >= said:
                time.sleep(self._random.random() / 20)
                process.kill()
                return process.wait() != 0
            time.sleep(0.002)
        return False

    def disk_full(self) -> str:
        """The disk is full from some snapshot on: one line, and the snapshot before is whole."""
        folder = prepare(self._folder, self._folder / "full")
        process = start(folder, is_piped=True)
        wait_for("Iteration 10, loss", folder, process, LIMIT_S)
        size = (folder / "out/model_iter_3.caffemodel").stat().st_size
        # Longer files cannot be written, as on a full disk (EFBIG rather than ENOSPC).
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size // 2, size // 2))
        assert process.wait(LIMIT_S) == 1, process.returncode
        time.sleep(1)  # for the log's last line to pass through its pipe
        lines = [line for line in log(folder).splitlines() if line.startswith("caffe: ")]
        assert len(lines) == 1, lines
        assert "Could not write file" in lines[0], lines
        assert "Traceback" not in log(folder)
        assert not [path for path in (folder / "out").iterdir() if ".tmp" in path.name]
        self._finish(folder)
        return f"exit 1, {lines[0]!r}, then resumed to equal weights"

    def read_only(self) -> str:
        """Snapshots cannot be written: said before the training begins."""
        folder = prepare(self._folder, self._folder / "read_only")
        (folder / "solver.prototxt").write_text(SOLVER.replace("out/model", "/proc/model"))
        process = start(folder)
        assert process.wait(LIMIT_S) == 1, process.returncode
        assert "caffe: snapshot_prefix '/proc/model' cannot be written to" in log(folder)
        assert "Iteration" not in log(folder)
        return "exit 1 before the first iteration"

    def killed_worker(self) -> str:
        """A data worker is killed: one line that says so."""
        folder = prepare(self._folder, self._folder / "worker")
        process = start(folder, "-workers=2")
        wait_for("Iteration 5, loss", folder, process, LIMIT_S)
        os.kill(children(process.pid)[-1], signal.SIGKILL)
        assert process.wait(LIMIT_S) == 1, process.returncode
        assert "ended unexpectedly (exit code -9)" in log(folder)
        assert "Traceback" not in log(folder), log(folder)[-1500:]
        self._finish(folder)
        return "exit 1, one line, then resumed to equal weights"

    def killed_rank(self) -> str:
        """A process of two is killed: the other one ends, too."""
        return self._lost_rank(signal.SIGKILL)

    def stopped_rank(self) -> str:
        """A process of two hangs: the training ends within -peer_timeout and some seconds."""
        return self._lost_rank(signal.SIGSTOP)

    def _lost_rank(self, number: signal.Signals) -> str:
        folder = prepare(self._folder, self._folder / f"rank{int(number)}")
        text = SOLVER.replace(f"max_iter: {END}", "max_iter: 100000")
        (folder / "solver.prototxt").write_text(text)
        flags = ["-cpu_processes=2", "-workers=1", f"-peer_timeout={PEER_TIMEOUT_S}"]
        process = start(folder, *flags)
        wait_for("Iteration 5, loss", folder, process, LIMIT_S)
        ranks = [pid for pid in children(process.pid) if children(pid)]
        begin = time.monotonic()
        os.kill(ranks[-1], number)
        assert process.wait(LIMIT_S) == 1, process.returncode
        seconds = time.monotonic() - begin
        assert "caffe: " in log(folder)
        assert "Traceback" not in log(folder), log(folder)[-1500:]
        left = [pid for pid in ranks if Path(f"/proc/{pid}").exists()]
        assert not left, f"processes are left: {left}"
        if number == signal.SIGSTOP:
            assert seconds < PEER_TIMEOUT_S + 60, seconds  # ending takes its time where others run
        return f"exit 1 after {seconds:.0f} s, no process left"

    def hanging_rank_and_two_signals(self) -> str:
        """A second signal ends a training of two whose one process hangs."""
        folder = prepare(self._folder, self._folder / "signals")
        process = start(folder, "-cpu_processes=2", "-workers=1")
        wait_for("Iteration 5, loss", folder, process, LIMIT_S)
        ranks = [pid for pid in children(process.pid) if children(pid)]
        os.kill(ranks[-1], signal.SIGSTOP)
        process.terminate()
        time.sleep(1)
        begin = time.monotonic()
        process.terminate()
        assert process.wait(LIMIT_S) == 130, process.returncode
        assert not [pid for pid in ranks if Path(f"/proc/{pid}").exists()]
        return f"exit 130 after {time.monotonic() - begin:.1f} s, no process left"

    def _finish(self, folder: Path) -> None:
        """Resume and hold the end against the uninterrupted training."""
        process = start(folder, "-snapshot=auto")
        assert process.wait(LIMIT_S) == 0, log(folder)[-1500:]
        assert weights(folder) == self._want


def main() -> int:
    """Run the faults that the command line names, or all."""
    names = [name for name in vars(Faults) if not name.startswith("_")]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(names)}")
    parser.add_argument("-kills", type=int, default=50)
    parser.add_argument("-seed", type=int, default=1)
    args = parser.parse_args()
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        faults = Faults(Path(folder), args.kills, args.seed)
        for name in args.names or names:
            run: Callable[[], str] = getattr(faults, name)
            begin = time.monotonic()
            try:
                figure = run()
            except (AssertionError, subprocess.TimeoutExpired) as error:
                failed += 1
                figure = f"FAILED: {error}"
            print(f"{name:<30}{time.monotonic() - begin:6.0f} s  {figure}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
