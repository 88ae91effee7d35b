"""plot_training_log.py: curves of one or more training logs, in the reference's eight charts.

`examples/plot_training.py` draws what `caffe train` keeps in its _results.jsonl.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from caffe_ssd.desk.console import run_command
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.files import atomic_write
from caffe_ssd.tools.training_log import (
    ITERATION,
    RATE,
    SECONDS,
    Row,
    TrainingLog,
    read_training_log,
)

ACCURACY, TEST_LOSS, TRAIN_RATE, TRAIN_LOSS = (
    "Test accuracy",
    "Test loss",
    "Train learning rate",
    "Train loss",
)
CHARTS = [
    (y, x) for y in (ACCURACY, TEST_LOSS, TRAIN_RATE, TRAIN_LOSS) for x in ("Iters", "Seconds")
]
_COLUMNS = {"Iters": ITERATION, "Seconds": SECONDS}

_NO_OUTPUTS = (ITERATION, SECONDS, RATE)

DESCRIPTION = """\
Draw a chart of training logs, one curve for each.

Charts:
{charts}

The accuracy is the test net's first output that is no loss, as detection_eval (mAP) is.""".format(
    charts="\n".join(f"  {number}: {y} vs. {x}" for number, (y, x) in enumerate(CHARTS))
)
EXAMPLES = """\
  plot_training_log 6 loss.png training.log
  plot_training_log 0 map.png first.log second.log"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "plot_training_log", argv)


def curve(log: TrainingLog, chart: int, source: str) -> tuple[list[float], list[float]]:
    """The points of a log in a chart.

    Args:
        log: what was read.
        chart: a number of CHARTS.
        source: the log's file, for errors.

    Returns:
        x and y values.

    Raises:
        DataError: the log has none.
    """
    what, over = CHARTS[chart]
    rows, column = _series(log, what)
    points = [(row[_COLUMNS[over]], row[column]) for row in rows if column in row]
    if not points:
        raise DataError(f"{source}: nothing to draw for chart {chart}, {what} vs. {over}")
    return [x for x, _ in points], [y for _, y in points]


def _series(log: TrainingLog, what: str) -> tuple[list[Row], str]:
    """The rows that a curve goes through, and the column with its values."""
    if what == TRAIN_LOSS:
        return log.losses, "loss"
    if what == TRAIN_RATE:
        return log.rates, RATE
    outputs = [name for name in (log.test[0] if log.test else {}) if name not in _NO_OUTPUTS]
    fitting = [name for name in outputs if ("loss" in name) == (what == TEST_LOSS)]
    return log.test, fitting[0] if fitting else ""


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("plot_training_log", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument(
        "chart", metavar="CHART", type=int, choices=range(len(CHARTS)), help="see above"
    )
    parser.add_argument("picture", metavar="PICTURE", help="the file to write: .png, .svg, .pdf")
    parser.add_argument("logs", metavar="LOG", nargs="+", help="logs of caffe train")
    args = parser.parse_flags(argv)
    figure = Figure(figsize=(8, 4.5), dpi=120, layout="tight")
    axis = figure.subplots()
    ending = Path(args.picture).suffix[1:].lower()
    if ending not in figure.canvas.get_supported_filetypes():
        raise UsageError(f"{args.picture!r} has no ending of a picture, such as .png or .svg")
    for log in args.logs:
        xs, ys = curve(read_training_log(log), args.chart, log)
        axis.plot(xs, ys, label=Path(log).name, marker="." if len(xs) < 50 else None)
    what, over = CHARTS[args.chart]
    axis.set(xlabel=over, ylabel=what, title=f"{what} vs. {over}")
    axis.grid(alpha=0.3)
    axis.legend()
    picture = io.BytesIO()
    figure.savefig(picture, format=ending)
    atomic_write(args.picture, picture.getvalue())


if __name__ == "__main__":
    sys.exit(main())
