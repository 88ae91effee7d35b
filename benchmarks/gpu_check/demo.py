"""`make demo` on the device: the commands themselves, their times, images per second, the mAP."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.gpu_check.report import Report, Setting, Table

ROOT = Path(__file__).resolve().parents[2]
CAFFE = ("-m", "caffe_ssd.cli.main")
SOLVER = "model/solver.prototxt"
BATCH = 16


def run(setting: Setting, report: Report) -> None:
    """The section."""
    table = report.table("Commands", "command", "exit status", "seconds")
    demo = Demo(setting, report, table)
    demo.prepare()
    demo.train()
    demo.use()


class Demo:
    """The demo's folder.

    Args:
        setting: where and how long.
        report: for what is said.
        table: gets a row for each command.
    """

    def __init__(self, setting: Setting, report: Report, table: Table) -> None:
        self._folder = setting.work
        self._report = report
        self._table = table
        sizes = (1000, 200, 600) if setting.quick else (2000, 300, 2000)
        if setting.tiny:
            sizes = (40, 12, 4)
        self._train, self._test, self._iterations = sizes
        self._all = not setting.quick or setting.tiny
        self._gpu = ["-gpu", "0"] if setting.device.type == "cuda" else []

    def prepare(self) -> None:
        """Pictures, LMDBs and nets."""
        counts = ("--train", str(self._train), "--test", str(self._test))
        self._run("-m", "lmdb_tools.shapes", "shapes", *counts)
        for part in ("trainval", "test"):
            self._run(
                *("-m", "lmdb_tools.convert_annoset", "--anno_type=detection"),
                *("--label_map_file=shapes/labelmap_shapes.prototxt", "--check_label"),
                *("--encode_type=jpg", "--encoded", "shapes/", f"shapes/{part}.txt"),
                f"shapes_{part}_lmdb",
            )
        self._run(
            *(str(ROOT / "examples/shapes/DSOD_shapes.py"), "--no-run"),
            *("--gpu", "0" if self._gpu else "none", "--max-iter", str(self._iterations)),
            *("--num-test-image", str(self._test), "--model-dir", "model", "--job-dir", "job"),
            *("--output-dir", "results"),
        )

    def train(self) -> None:
        """Trainings, and the score of each."""
        table = self._report.table(
            "Training of the demo", "flags", "iterations", "images/s", "last loss", "mAP"
        )
        ways: list[list[str]] = [[], ["-skip_jpeg_roundtrip", "-bf16", "-channels_last", "-tf32"]]
        for flags in ways if self._all else ways[:1]:
            results = self._folder / f"{self._prefix}_results.jsonl"
            results.unlink(missing_ok=True)
            self._run(*CAFFE, "train", "-solver", SOLVER, *self._gpu, *flags)
            score = self._run(*CAFFE, "test", "-model", "model/test.prototxt", *self._weights())
            found = re.findall(r"mAP \(11point\) = (\S+)", score)
            speed, loss = _speed(results)
            name = " ".join(flags) or "none"
            table.add(name, self._iterations, speed, loss, found[-1] if found else "none")

    def use(self) -> None:
        """The other commands, with the trained net."""
        folder = self._folder / "shapes" / "JPEGImages"
        picture = str(min(folder.glob("test_*.jpg")))
        model = ("-model", "model/deploy.prototxt", *self._weights())
        self._run(*CAFFE, "detect", *model, "-output", "found.png", picture)
        self._run(*CAFFE, "time", *model, "-phase", "TEST", "-iterations", "10")
        if not self._all:
            return
        self._run(
            *(str(ROOT / "examples/dsod/DSOD300_detection_demo.py"), "--image", picture),
            *("--model", "model/deploy.prototxt", "--weights", self._model),
            *("--label-map", "shapes/labelmap_shapes.prototxt", "--output", "demo.png"),
            *(["--gpu", "0"] if self._gpu else []),
        )
        self._run(*CAFFE, "device_query", *(self._gpu or ["-gpu", "0"]))
        state = f"{self._prefix}_iter_{self._iterations}.solverstate"
        resumed = ("-solver", SOLVER, "-snapshot", state)
        self._run(*CAFFE, "train", *resumed, *self._gpu)
        self._run(
            *CAFFE, "test", "-model", "model/test.prototxt", *self._weights(), "-engine=torch"
        )

    @property
    def _prefix(self) -> str:
        """What the snapshots' names begin with."""
        found = re.search(r'^snapshot_prefix: "(.*)"', (self._folder / SOLVER).read_text(), re.M)
        assert found is not None
        return found[1]

    @property
    def _model(self) -> str:
        return f"{self._prefix}_iter_{self._iterations}.caffemodel"

    def _weights(self) -> tuple[str, ...]:
        return "-weights", self._model, *self._gpu

    def _run(self, *words: str) -> str:
        """Run a Python command in the folder; a failure is reported, with the end of its output."""
        start = time.monotonic()
        path = f"{ROOT}:{ROOT / 'python'}:{os.environ.get('PYTHONPATH', '')}"
        done = subprocess.run(
            [sys.executable, *words],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        shown = " ".join(word for word in words if word != "-m").replace(f"{ROOT}/", "")
        self._table.add(shown[:120], done.returncode, time.monotonic() - start)
        if done.returncode:
            self._report.note(f"**{shown} FAILED**\n\n```\n{done.stdout[-3000:]}\n```")
        return done.stdout


def _speed(results: Path) -> tuple[float, float]:
    """Images per second between the first and last displayed iteration, and the last loss."""
    entries = [json.loads(line) for line in results.read_text().splitlines()]
    shown = [entry for entry in entries if entry["kind"] == "train"]
    if len(shown) < 2:
        return 0.0, shown[-1]["loss"] if shown else 0.0
    # The first display waits for the data workers to start.
    first, last = shown[min(1, len(shown) - 2)], shown[-1]
    count = BATCH * (last["iteration"] - first["iteration"])
    return count / (last["time"] - first["time"]), last["loss"]
