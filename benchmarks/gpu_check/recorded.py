"""What the reference computed, case by case, in pycaffe's GPU mode; and recorded trainings.

The cases lie in ../shared/golden (see tests/support/golden.py); without them the section says so.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu_check.report import Report, Setting, Table
from caffe_ssd.devices import allow_tf32
from tests.support.golden import GOLDEN

RTOL, ATOL = 1e-4, 1e-4
WORKERS = 6
DIFF_KINDS = ("top_diff:", "bottom_diff:", "param_diff:")
Case = Mapping[str, Any]


class Differs(Exception):
    """A number is not as recorded."""


def run(setting: Setting, report: Report) -> None:
    """The section."""
    cases = [
        path for part in ("layers", "solvers") for path in sorted((GOLDEN / part).rglob("*.npz"))
    ]
    if not cases:
        report.note(f"no recorded cases in {GOLDEN}")
        return
    if setting.tiny:
        cases = cases[::10]
    table = report.table("Cases that differ", "case", "what")
    failed, count = _all(cases, setting, table)
    report.note(f"{count - failed} of {count} recorded cases hold, of {len(cases)}")
    _trajectories(setting, report)


def _all(cases: list[Path], setting: Setting, table: Table) -> tuple[int, int]:
    """Run the cases in several processes; returns how many failed, and how many ran.

    A process whose device has failed ends, and another one goes on with the next case.
    """
    fork = multiprocessing.get_context("fork")
    queue = Queue(fork.Value("i", 0), fork.Value("i", 0))

    def start() -> Worker:
        current = fork.Value("i", 0)
        process = fork.Process(target=_some, args=(cases, setting, table, queue, current))
        process.start()
        return Worker(process, current)

    workers = [start() for _ in range(WORKERS)]
    while workers:
        worker = workers.pop(0)
        worker.process.join()
        code = worker.process.exitcode or 0
        if code < 0:
            table.add(_name(cases[worker.current.value]), f"killed by signal {-code}")
            queue.failed.value += 1
        if code:
            workers.append(start())
    return queue.failed.value, min(queue.next.value, len(cases))


@dataclass(frozen=True)
class Queue:
    """What the processes share: the next case's number, and how many failed."""

    next: Synchronized[int]
    failed: Synchronized[int]


@dataclass(frozen=True)
class Worker:
    """A process and the number of its case."""

    process: BaseProcess
    current: Synchronized[int]


def _some(
    cases: list[Path], setting: Setting, table: Table, queue: Queue, current: Synchronized[int]
) -> None:
    import caffe

    torch.set_num_threads(1)
    if setting.device.type == "cuda":
        caffe.set_mode_gpu()
        caffe.set_device(0)
    while not setting.is_late:
        with queue.next.get_lock():
            current.value = queue.next.value
            queue.next.value += 1
        if current.value >= len(cases):
            return
        path = cases[current.value]
        try:
            check_case(path)
        except Exception as error:
            kind = "" if isinstance(error, Differs) else f"{type(error).__name__}: "
            table.add(_name(path), kind + str(error).split("\n")[0].replace("|", "/")[:300])
            with queue.failed.get_lock():
                queue.failed.value += 1
            if "CUDA error" in str(error):
                os._exit(1)  # the device is of no more use in this process


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def check_case(path: Path) -> None:
    """Run a case and compare everything it records; the format is golden/README.md's.

    Raises:
        Differs: a number, shape or name is not as recorded.
    """
    with np.load(path) as data:
        case = dict(data)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for key, value in _entries(case, "file:"):
            (folder / key).write_text(str(value[()]))
        sys.path.insert(0, name)
        try:
            (_check_solver if "solver" in case else _check_net)(case, folder)
        finally:
            sys.path.remove(name)


def _entries(case: Case, prefix: str) -> Iterator[tuple[str, Any]]:
    return ((key[len(prefix) :], value) for key, value in case.items() if key.startswith(prefix))


def _text(case: Case, key: str, folder: Path) -> Path:
    path = folder / f"{key}.prototxt"
    text = str(case[key][()]).replace("@NET@", str(folder / "net.prototxt"))
    path.write_text(text.replace("@DIR@", str(folder)))
    return path


def _blob(net: Any, spec: str) -> Any:
    layer, index = spec.rsplit(":", 1)
    return net.params[layer][int(index)]


def _feed(net: Any, inputs: Iterator[tuple[str, Any]]) -> None:
    for name, value in inputs:
        net.blobs[name].reshape(*value.shape)
        net.blobs[name].data[...] = value


def _check_net(case: Case, folder: Path) -> None:
    import caffe

    phase = getattr(caffe, str(case["phase"][()]))
    arguments = json.loads(str(case["net_args"][()])) if "net_args" in case else {}
    net = caffe.Net(str(_text(case, "prototxt", folder)), phase, **arguments)
    for prefix in ["", *sorted({key.split("|")[0] + "|" for key in case if "|" in key})]:
        _feed(net, _entries(case, f"{prefix}in:"))
        for spec, value in _entries(case, f"{prefix}param:"):
            _blob(net, spec).data[...] = value
        net.forward()
        for name, want in _entries(case, f"{prefix}out:"):
            _compare(case, f"{prefix}out:{name}", net.blobs[name].data, want)
        for spec, want in _entries(case, f"{prefix}param_after:"):
            _compare(case, f"{prefix}param_after:{spec}", _blob(net, spec).data, want)
        for name, value in _entries(case, f"{prefix}top_diff:"):
            net.blobs[name].diff[...] = value
        if any(key.startswith(tuple(prefix + kind for kind in DIFF_KINDS)) for key in case):
            net.backward()
        for name, want in _entries(case, f"{prefix}bottom_diff:"):
            _compare(case, f"{prefix}bottom_diff:{name}", net.blobs[name].diff, want)
        for spec, want in _entries(case, f"{prefix}param_diff:"):
            _compare(case, f"{prefix}param_diff:{spec}", _blob(net, spec).diff, want)


def _check_solver(case: Case, folder: Path) -> None:
    _text(case, "net", folder)
    path = str(_text(case, "solver", folder))
    solver = _solver(case, path)
    for spec, value in _entries(case, "param0:"):
        _blob(solver.net, spec).data[...] = value
    for i, want in enumerate(case["loss"]):
        if i == int(case.get("snapshot_at", -1)):
            solver.snapshot()
            solver = _solver(case, path)
            solver.restore(str(folder / str(case["snapshot_file"][()])))
        _feed(solver.net, ((name, value[i]) for name, value in _entries(case, "in:")))
        solver.step(int(case.get("step_size", 1)))
        _compare(case, f"loss {i}", solver.net.blobs["loss"].data, want)
    for spec, want in _entries(case, "param:"):
        _compare(case, f"param:{spec}", _blob(solver.net, spec).data, want)


def _solver(case: Case, path: str) -> Any:
    import caffe

    solver = caffe.get_solver(path)
    if "memory_data" in case:
        arrays = (np.ascontiguousarray(case[f"memory_{kind}"]) for kind in ("data", "label"))
        solver.net.set_input_arrays(*arrays)
    return solver


def _compare(case: Case, key: str, have: NDArray[Any], want: NDArray[Any]) -> None:
    have, want = np.asarray(have, np.float64), np.asarray(want, np.float64)
    if have.shape != want.shape:
        raise Differs(f"{key}: shape {have.shape}, recorded {want.shape}")
    rtol, atol = max(RTOL, float(case.get("rtol", 0))), max(ATOL, float(case.get("atol", 0)))
    with np.errstate(invalid="ignore", over="ignore"):
        ratio = np.abs(have - want) / (atol + rtol * np.abs(want))
    same = (have == want) | (np.isnan(have) & np.isnan(want))
    ratio = np.where(same, 0, np.nan_to_num(ratio, nan=np.inf))
    if ratio.size and ratio.max() > 1:
        at = np.unravel_index(int(ratio.argmax()), ratio.shape)
        place = tuple(int(i) for i in at)
        raise Differs(
            f"{key}: {have[at]:.7g} at {place}, recorded {want[at]:.7g}; "
            f"{int((ratio > 1).sum())} of {ratio.size} elements differ"
        )


def _trajectories(setting: Setting, report: Report) -> None:
    """The first losses of recorded trainings, from the recorded weights."""
    from tests.support.training import RecordedRun

    table = report.table(
        "Recorded trainings: relative difference of the loss", "net", "1st", "2nd", "5th", "10th"
    )
    allow_tf32(False)
    for name in ("tiny96",) if setting.tiny else ("tiny96", "dsod300_smallest", "dsod300"):
        if setting.is_late:
            report.note("the time is used up")
            return
        try:
            recorded = RecordedRun(name)
        except FileNotFoundError:
            report.note(f"{name}: its recording is not here")
            continue
        solver = recorded.solver(setting.device)
        solver.step(10 // solver.param.iter_size)
        want = recorded.want["loss_sub"]
        gaps = [abs(solver.losses[i] / want[i] - 1) for i in (0, 1, 4, 9)]
        table.add(name, *(f"{gap:.1e}" for gap in gaps))
