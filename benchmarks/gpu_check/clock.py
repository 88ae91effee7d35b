"""Times what a device does, from outside and to the end."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks.gpu_check.report import Setting


def median_seconds(
    thing: Callable[[], object], setting: Setting, *, rounds: int, warm_up: int = 3
) -> float:
    """Median seconds of a call, the device's work included."""
    return statistics.median(each_seconds(thing, setting, rounds=rounds, warm_up=warm_up))


def each_seconds(
    thing: Callable[[], object], setting: Setting, *, rounds: int, warm_up: int = 3
) -> list[float]:
    """Seconds of each call."""
    for _ in range(warm_up):
        thing()
    seconds = []
    for _ in range(rounds):
        setting.synchronize()
        start = time.perf_counter()
        thing()
        setting.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds


def seconds_in_a_row(
    thing: Callable[[], object], setting: Setting, *, calls: int, warm_up: int = 3
) -> tuple[float, float]:
    """Seconds per call of many without a wait between them, and those the host needed for one."""
    for _ in range(warm_up):
        thing()
    setting.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        thing()
    told = time.perf_counter() - start
    setting.synchronize()
    return (time.perf_counter() - start) / calls, told / calls
