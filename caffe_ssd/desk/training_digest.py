"""What somebody at a terminal sees of a training in place of the original's thousands of lines.

First a few lines about what is trained, then a line for each test, snapshot and change of the rate,
above the bar; warnings stay. The original's log goes to a file meanwhile, see `log_file.py`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from caffe_ssd.desk.training_bar import clock
from caffe_ssd.desk.training_summary import training_summary
from caffe_ssd.log import cpp_number
from caffe_ssd.solver.best import Scored, score_name
from caffe_ssd.solver.hooks import Observer
from caffe_ssd.solver.solver import Solver
from caffe_ssd.solver.testing import TestResult

_STEPS = ("step", "multistep", "plateau")  # policies whose rate stays the same for long
_INDENT = 9  # of what follows a time
_TITLE = 13
_CLASSES_SHOWN = 24  # of more classes, the worst and the best
_EXTREMES = 6
_UNLIMITED = 1 << 20


class TrainingDigest(Observer):
    """Prints what happens.

    Args:
        solver: what is trained.
        console: where to.
        names: of the classes by label.
        best: the best test of the training that is resumed.
        best_file: where the weights of the best test are kept; empty if they are not.
    """

    def __init__(
        self,
        solver: Solver,
        console: Console,
        names: Mapping[int, str],
        best: Scored | None = None,
        best_file: str = "",
    ) -> None:
        self._solver, self._console, self._names = solver, console, names
        self._start = time.monotonic()
        self._begin = solver.iter
        self._loss = float("nan")
        self._rate: float | None = None
        self._snapshot = ""
        self._shown = "mAP" if solver.param.eval_type == "detection" else "score"
        self._best, self._best_file = best, best_file

    def begin(self, start: str, log: str | None) -> None:
        """Say what is going to be trained.

        Args:
            start: what the training starts with.
            log: where the whole log is.
        """
        lines = [*training_summary(self._solver, self._names), ("start", start)]
        if log is not None:
            lines.append(("whole log", log))
        for title, text in lines:
            self._print(Text(f"{title:<{_TITLE}}", "bold"), text, _TITLE)
        self._console.print()

    def on_display(self, iteration: int, loss: float, rate: float) -> None:
        """Note the loss; tell that the rate has dropped."""
        self._loss = loss
        has_dropped = self._rate is not None and rate != self._rate
        if has_dropped and self._solver.param.lr_policy in _STEPS:
            self._say(f"iteration {iteration:,}: the rate is now {cpp_number(rate)}")
        self._rate = rate

    def on_test(self, result: TestResult) -> None:
        """A line with the score, and those of the classes."""
        name = score_name(self._solver.param, result.outputs)
        parts = [f"iteration {result.iteration:,}:"]
        if self._loss == self._loss:
            parts.append(f"loss {self._loss:.3g},")
        if len(self._solver.test_nets) > 1:
            parts.append(f"test net {result.index},")
        line = Text(" ".join(parts) + " ")
        line.append_text(self._scores(result, name))
        self._say(line)
        for score in result.detection.values():
            if len(score.per_class) > 1:
                self._classes(score.per_class)

    def on_snapshot(self, iteration: int, paths: Sequence[str]) -> None:
        """A line with the files' names."""
        self._snapshot = paths[1]
        self._say(Text(f"saved {paths[0]} and {Path(paths[1]).suffix}", "dim"))

    def end(self) -> None:
        """Say where it ended, and how to go on."""
        solver = self._solver
        self._console.print()
        done = solver.iter - self._begin
        how = "Done" if solver.iter >= solver.param.max_iter else "Stopped"
        lines = [f"{how} at iteration {solver.iter:,}, after {self._elapsed()}"]
        if self._best is not None:
            kept = f", in {self._best_file}" if self._best_file else ""
            lines.append(
                f"best {self._shown} {self._best.score:.4f} at iteration "
                f"{self._best.iteration:,}{kept}"
            )
        if how == "Stopped" and self._snapshot and done:
            lines.append(f"go on with -snapshot {self._snapshot}")
        for line in lines:
            self._console.print(line, soft_wrap=True)

    def _scores(self, result: TestResult, name: str | None) -> Text:
        if name is None:
            numbers = {key: ", ".join(map(cpp_number, v[:4])) for key, v in result.outputs.items()}
            return Text("; ".join(f"{key} {text}" for key, text in numbers.items()))
        value = result.outputs[name][0]
        shown = "mAP" if result.detection else name
        text = Text(f"{shown} {value:.4f}", "bold")
        if result.index == 0 and (self._best is None or value > self._best.score):
            self._best = Scored(result.iteration, value)
            text.append("  best so far", "green")
        elif result.index == 0 and self._best is not None:
            text.append(
                f"  (best {self._best.score:.4f} at {self._best.iteration:,})", "not bold dim"
            )
        return text

    def _classes(self, per_class: Mapping[int, float]) -> None:
        named = [(self._names.get(label, f"class{label}"), ap) for label, ap in per_class.items()]
        if len(named) > _CLASSES_SHOWN:
            ranked = sorted(named, key=lambda pair: pair[1])
            self._list("lowest", ranked[:_EXTREMES])
            self._list("highest", ranked[: -_EXTREMES - 1 : -1])
        else:
            self._list("", named)

    def _list(self, title: str, scores: Sequence[tuple[str, float]]) -> None:
        texts = [f"{name} {ap:.3f}" for name, ap in scores]
        self._print(Text(" " * _INDENT), " ".join([title, "  ".join(texts)]).strip(), _INDENT, "  ")

    def _say(self, text: str | Text) -> None:
        """A line with the time since the start before it."""
        line = Text(f"{self._elapsed():>{_INDENT - 2}}  ", "dim")
        self._console.print(line.append_text(Text.assemble(text)), soft_wrap=True)

    def _elapsed(self) -> str:
        return clock(time.monotonic() - self._start)

    def _print(self, title: Text, text: str, indent: int, separator: str = " ") -> None:
        """A title and a text that goes on under itself where the line is full."""
        width = self._console.width if self._console.is_terminal else _UNLIMITED
        for i, line in enumerate(_wrapped(text, width - indent - 1, separator)):
            head = title.copy() if i == 0 else Text(" " * indent)
            self._console.print(head.append(line, "not bold"), soft_wrap=True)


def _wrapped(text: str, width: int, separator: str) -> Iterator[str]:
    line = ""
    for word in text.split(separator):
        longer = f"{line}{separator}{word}" if line else word
        if line and len(longer) > width:
            yield line
            line = word
        else:
            line = longer
    yield line
