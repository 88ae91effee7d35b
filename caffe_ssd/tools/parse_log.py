"""parse_log.py: the outputs of a training's log as two tables, LOG.train and LOG.test.

Columns: NumIters, Seconds, LearningRate, then the outputs.
Quirk: see `read_training_log` for whose learning rate a row has.
Quirk (not kept): the reference stops at an output that the first row lacks, and loses outputs that
are not finite.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from caffe_ssd.desk.console import run_command, show
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import UsageError
from caffe_ssd.files import atomic_write
from caffe_ssd.tools.training_log import Row, read_training_log

DESCRIPTION = """\
Write what a training's log says of the nets' outputs as tables, FOLDER/LOG.train and
FOLDER/LOG.test, with a row for each display or test."""
EXAMPLES = """\
  parse_log jobs/DSOD300/VOC0712.log tables/
  parse_log training.log . -delimiter ';'"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "parse_log", argv)


def as_csv(rows: Sequence[Row], delimiter: str = ",") -> str:
    """A table of rows; columns are in the order of their first row, what a row lacks is empty."""
    columns = dict.fromkeys(name for row in rows for name in row)
    text = io.StringIO()
    table = csv.DictWriter(text, list(columns), delimiter=delimiter)
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("parse_log", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("log", metavar="LOG", help="a log of caffe train")
    parser.add_argument("folder", metavar="FOLDER", help="gets the tables; must exist")
    parser.add_switch("verbose", help="say what is written")
    parser.add_flag("delimiter", default=",", help="between columns (%(default)s)")
    args = parser.parse_flags(argv)
    if len(args.delimiter) != 1:
        raise UsageError(f"-delimiter must be one character, got {args.delimiter!r}")
    log = read_training_log(args.log)
    for kind, rows in (("train", log.train), ("test", log.test)):
        target = Path(args.folder) / f"{Path(args.log).name}.{kind}"
        if rows:
            atomic_write(target, as_csv(rows, args.delimiter))
        if args.verbose:
            show(f"Wrote {target}" if rows else f"No {kind} outputs in the log: no {target}")


if __name__ == "__main__":
    sys.exit(main())
