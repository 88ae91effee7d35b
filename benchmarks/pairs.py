"""Times several things alternately in one run, so that a busy machine is unfair to none of them."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass
class Times:
    """What was measured.

    Args:
        seconds: by name, one number per round; round i of all names was measured together.
    """

    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, name: str) -> float:
        """Median seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, slow: str, fast: str) -> float:
        """How many times faster `fast` is: the median of the rounds' ratios."""
        pairs = zip(self.seconds[slow], self.seconds[fast], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def table(self, base: str, *, unit: str = "ms") -> str:
        """A markdown table: median, fastest round, and speed relative to `base`."""
        factor = {"ms": 1e3, "s": 1.0}[unit]
        lines = [
            f"| | median {unit} | best {unit} | speed relative to {base} |",
            "|---|---|---|---|",
        ]
        for name, seconds in self.seconds.items():
            cells = f"{self.median(name) * factor:.4g} | {min(seconds) * factor:.4g}"
            lines.append(f"| {name} | {cells} | {self.ratio(base, name):.2f} |")
        return "\n".join(lines)


def alternate(
    things: Mapping[str, Callable[[], object]], *, rounds: int, warm_up: int = 2
) -> Times:
    """Call the things one after the other, round by round.

    Args:
        things: what to time, by name.
        rounds: how often each is measured.
        warm_up: unmeasured calls of each before.
    """
    for thing in things.values():
        for _ in range(warm_up):
            thing()
    times = Times({name: [] for name in things})
    for _ in range(rounds):
        for name, thing in things.items():
            start = time.perf_counter()
            thing()
            times.seconds[name].append(time.perf_counter() - start)
    return times


def benchmark_parser(
    description: str | None, *, rounds: int, threads: int | None = None
) -> argparse.ArgumentParser:
    """A parser that knows `--rounds` and `--threads`.

    Args:
        description: the module's docstring, shown as it is.
        rounds: the default number of measurements.
        threads: the default for PyTorch; None for all cores.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rounds", type=int, default=rounds, help="measurements (%(default)s)")
    add("--threads", type=int, default=threads or os.cpu_count(), help="(%(default)s)")
    return parser
