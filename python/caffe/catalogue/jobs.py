"""The job of a row: what its script would write and run, to look at or to carry out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe.catalogue.published import Published
from caffe.models.plans import plan_scoring, plan_training
from caffe.models.script import scoring_parser, training_parser


def job_of(row: Published, flags: Sequence[str] = (), *, is_shown: bool = False) -> Any:
    """The plan of a row, a `caffe.models.plans.Plan`.

    A row that is tested at several scales is scored; every other one is trained.

    Args:
        row: of the catalogue.
        flags: further flags of the row's script.
        is_shown: the plan is only looked at: files that it needs may be missing.

    Raises:
        ValueError: data or a model to start from is missing.
    """
    look = ["--no-run"] if is_shown else []
    if row.at_scales:
        parser = scoring_parser(row.family, row.data, row.score_script)
        args = parser.parse_args([*row.score_arguments(), *flags, *look])
        return plan_scoring(parser, row.family, args, row.recipe if is_shown else None)
    parser = training_parser(row.family, row.data, row.script)
    args = parser.parse_args([*row.arguments(), *flags, *look])
    start = row.start.recipe if is_shown and row.start is not None else None
    return plan_training(parser, row.family, args, start)
