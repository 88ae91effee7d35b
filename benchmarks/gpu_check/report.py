"""What was found, written to a file the moment it is known, so that nothing is lost in a crash."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

Cell = str | int | float


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a section needs to know.

    Args:
        device: where to run.
        quick: take a third of the time.
        tiny: sizes for a try on a CPU, which proves only that the script runs.
        work: an empty folder for files.
        deadline: `time.monotonic()` at which the section should end.
    """

    device: torch.device
    quick: bool
    tiny: bool
    work: Path
    deadline: float

    @property
    def is_late(self) -> bool:
        """Whether the time is used up."""
        return time.monotonic() > self.deadline

    def synchronize(self) -> None:
        """Wait until the device has done what it was told."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def peak_mb(self) -> float:
        """The most memory that tensors took since `forget_peak`, MB; 0 on a CPU."""
        return torch.cuda.max_memory_allocated() / 2**20 if self.device.type == "cuda" else 0.0

    def forget_peak(self) -> None:
        """Give unused memory back and begin to count again."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


class Report:
    """Appends to `report.md` and `report.jsonl` in a folder, and prints.

    Args:
        folder: exists.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open = ""  # the table that rows would join

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._write(f"\n## {text}\n", {"kind": "section", "name": text})

    def note(self, text: str) -> None:
        """A line of prose."""
        self._write(f"\n{text}\n", {"kind": "note", "text": text})

    def failure(self, what: str) -> None:
        """The exception at hand, with its traceback."""
        text = traceback.format_exc()
        last = text.strip().splitlines()[-1]
        shown = f"\n**{what} FAILED**: {last}\n\n```\n{text}```\n"
        self._write(shown, {"kind": "failure", "what": what, "traceback": text})

    def table(self, title: str, *columns: str) -> Table:
        """A table whose rows follow one by one."""
        return Table(self, title, columns)

    def row(self, title: str, columns: Sequence[str], cells: Sequence[Cell]) -> None:
        """A row of a table; the table's head where it is not the one of the row before."""
        shown = (f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in cells)
        text = f"| {' | '.join(shown)} |"
        if title != self._open:
            head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
            text = f"\n### {title}\n\n{head}\n{text}"
        entry = dict(zip(columns, cells, strict=True))
        self._write(text, {"kind": "row", "table": title, **entry})
        self._open = title

    def _write(self, text: str, entry: dict[str, object]) -> None:
        self._open = ""
        print(text, flush=True)
        with open(self._folder / "report.md", "a", encoding="utf-8") as file:
            file.write(text + "\n")
        with open(self._folder / "report.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


@dataclass(frozen=True)
class Table:
    """A table under way."""

    report: Report
    title: str
    columns: tuple[str, ...]

    def add(self, *cells: Cell) -> None:
        """One more row."""
        self.report.row(self.title, self.columns, cells)
