"""Runs cases in forked processes with limits on time and memory.

A child runs case after case and says through shared memory which one it is at; the parent ends a
child that takes too long, notes the case, and forks another that goes on behind it.
"""

from __future__ import annotations

import faulthandler
import logging
import multiprocessing
import os
import resource
import signal
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from caffe_ssd.errors import CaffeError
from tests.fuzz import limits
from tests.fuzz.kinds import Kind
from tests.fuzz.mutate import mutated

_FORK = multiprocessing.get_context("fork")
_STACKS = "stacks.txt"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Outcome:
    """How the cases of one kind ended; `faults` holds (number, what happened)."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)


def run_case(kind: Kind, data: bytes, folder: Path) -> str:
    """`accepted` or `refused`, or what went wrong.

    Args:
        kind: who reads the file.
        data: its content.
        folder: the working folder, as `kinds.prepare` left it.
    """
    path = folder / kind.file
    path.write_bytes(data)
    try:
        kind.read(Path(kind.file))
    except CaffeError:
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return "accepted"


def case(kind_name: str, kind: Kind, seed: int, number: int) -> bytes:
    """The input of a case, from its number alone."""
    return mutated(Random(f"{seed} {kind_name} {number}"), kind.samples)


def run_kind(
    name: str, kind: Kind, folder: Path, *, seed: int, numbers: range, deadline: float
) -> Outcome:
    """Run the cases of these numbers, as far as the deadline (of time.monotonic) allows."""
    outcome = Outcome()
    at = _FORK.Value("q", numbers.start)
    first = numbers.start
    while first < numbers.stop and time.monotonic() < deadline:
        receiver, sender = _FORK.Pipe(duplex=False)
        arguments = (name, kind, folder, seed, range(first, numbers.stop), deadline, at, sender)
        child = _FORK.Process(target=_work, args=arguments)
        child.start()
        sender.close()
        fault = _wait(child, at, receiver, outcome, folder)
        reached = int(at.value)
        if not fault:
            break
        outcome.counts["faults"] += 1
        outcome.faults.append((reached, fault))
        first = reached + 1
    return outcome


def _work(name, kind, folder, seed, numbers, deadline, at, sender):  # type: ignore[no-untyped-def]
    resource.setrlimit(resource.RLIMIT_AS, (limits.MEMORY, limits.MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    os.chdir(folder)
    stacks = open(folder / _STACKS, "w")  # noqa: SIM115 - open as long as the process lives
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    for number in numbers:
        if time.monotonic() > deadline:
            break
        at.value = number
        sender.send((number, run_case(kind, case(name, kind, seed, number), folder)))
    sender.send(None)
    os._exit(0)


def _wait(child, at, receiver, outcome, folder):  # type: ignore[no-untyped-def]
    """Collect results until the child ends; what ended it before its time, or nothing."""
    begun, current, used = time.monotonic(), int(at.value), _cpu_seconds(child.pid)
    while True:
        try:
            if receiver.poll(0.5):
                message = receiver.recv()
                if message is None:
                    child.join()
                    return ""
                _note(outcome, *message)
                continue
        except EOFError:
            child.join()
            return f"ended with exit code {child.exitcode}"
        if int(at.value) != current:
            begun, current, used = time.monotonic(), int(at.value), _cpu_seconds(child.pid)
        computed, waited = _cpu_seconds(child.pid) - used, time.monotonic() - begun
        if computed > limits.CPU_SECONDS or waited > limits.WALL_SECONDS:
            os.kill(child.pid, signal.SIGUSR1)
            time.sleep(1)
            child.kill()
            child.join()
            stacks = (folder / _STACKS).read_text()
            return f"no end in {computed:.0f} s of computing, {waited:.0f} s in all\n{stacks}"


def _note(outcome: Outcome, number: int, result: str) -> None:
    if result in ("accepted", "refused"):
        outcome.counts[result] += 1
    else:
        outcome.counts["faults"] += 1
        outcome.faults.append((number, result))


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS
