"""Weights files for a net that is to be used: how much of it they fill, and whether that will do.

A file that belongs to another net fits any net by its layers' names: it fills none. `weights` only
copies; here is said what was filled, and refused what cannot be meant.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from caffe_ssd.errors import WeightsError
from caffe_ssd.net.blob_copy import CopyReport, HasBlobs, PathLike
from caffe_ssd.net.weights import copy_trained_file

logger = logging.getLogger(__name__)

UNFILLED_ADVICE = "With allow_unfilled they would keep their initial values."
_MOST_NAMED = 20
_FEW = 3


def load_whole(net: HasBlobs, path: PathLike, advice: str) -> None:
    """Load a file that must fill every learnable layer; else the net stays as it was.

    Args:
        net: receives the weights.
        path: the file.
        advice: what the user may do about weights that do not fit.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: it is no such file.
        WeightsError: it does not fit, does not fill all layers, or holds numbers that are not
            finite.
    """

    def refuse(report: CopyReport) -> None:
        refuse_not_finite(report)
        if report.untouched:
            raise WeightsError(f"{_shortfall([report])}. {advice}")

    copy_trained_file(net, path, advice, refuse=refuse)


def load_weights(
    net: HasBlobs,
    paths: Sequence[PathLike],
    *,
    advice: str,
    skip_misfits: bool = False,
    needs_all: bool = False,
) -> None:
    """Load one file or several, a later one over the ones before; log how much was filled.

    Args:
        net: receives the weights.
        paths: the files.
        advice: what the user may do about weights that do not fit.
        skip_misfits: see `copy_trained`.
        needs_all: refuse files that leave a learnable layer unfilled; otherwise those that fill
            none.

    Raises:
        FileError: a file cannot be opened.
        ProtoError: it is no such file.
        WeightsError: the weights do not fit, fill too little, or are not finite.
    """
    reports = [
        copy_trained_file(net, path, advice, skip_misfits=skip_misfits, refuse=refuse_not_finite)
        for path in paths
    ]
    missing = unfilled(reports)
    if missing and (needs_all or len(missing) == len(reports[0].learnable)):
        hint = f" {UNFILLED_ADVICE}" if needs_all else ""
        raise WeightsError(f"{_shortfall(reports)}. {advice}{hint}")
    tell(reports)


def tell(reports: Sequence[CopyReport]) -> None:
    """Log how many of a net's learnable layers were filled; warn of those that were not."""
    for report in reports:
        if report.not_finite:
            logger.warning("%s", _not_finite(report))
    if unfilled(reports):
        logger.warning("%s; they keep their initial values", _shortfall(reports))
    elif reports and reports[0].learnable:
        count = len(reports[0].learnable)
        logger.info("Filled all %d learnable layers from %s", count, _sources(reports))


def unfilled(reports: Sequence[CopyReport]) -> list[str]:
    """The learnable layers that none of several loads into one net filled."""
    if not reports:
        return []
    return [n for n in reports[0].untouched if all(n in report.untouched for report in reports)]


def refuse_not_finite(report: CopyReport) -> None:
    """Refuse weights that are no numbers.

    Raises:
        WeightsError: there are some; names the layers.
    """
    if report.not_finite:
        raise WeightsError(_not_finite(report))


def _not_finite(report: CopyReport) -> str:
    count = len(report.not_finite)
    layers = "layer" if count == 1 else f"{count} layers"
    return (
        f"{report.source} holds numbers that are not finite in {layers} "
        f"{_names(report.not_finite, _MOST_NAMED)}: the training that wrote it went wrong, or it "
        "is damaged"
    )


def _shortfall(reports: Sequence[CopyReport]) -> str:
    layers, missing = reports[0].learnable, unfilled(reports)
    filled = len(layers) - len(missing)
    text = f"{_sources(reports)} fills {filled} of {len(layers)} learnable layers"
    if filled == 0:
        unknown = [name for report in reports for name in report.foreign]
        has = f"has {_names(unknown, _FEW)}" if unknown else "has none that fits"
        return f"{text}: the file {has}, the net wants {_names(missing, _MOST_NAMED)}"
    return f"{text}, not {_names(missing, _MOST_NAMED)}"


def _sources(reports: Sequence[CopyReport]) -> str:
    return ", ".join(report.source for report in reports)


def _names(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
