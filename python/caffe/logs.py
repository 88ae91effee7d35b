"""Caffe's log in scripts: `init_log` shows it, `log` adds to it.

An extension: these two belong to later versions of Caffe. As in any Python library, nothing but
warnings is shown unless a script asks for it.
"""

from __future__ import annotations

import logging

from caffe_ssd.desk.console import PACKAGES, set_up_logging

_LEVELS = (logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
_LOG = logging.getLogger(__name__)


def init_log(level: int = 0) -> None:
    """Show the log on standard error, in Caffe's format.

    Args:
        level: the least severe lines to show: 0 information, 1 warnings, 2 errors, 3 fatal errors.

    Raises:
        ValueError: no such level.
    """
    if level not in range(len(_LEVELS)):
        raise ValueError(f"level must be 0 to {len(_LEVELS) - 1}, got {level}")
    set_up_logging()
    for package in PACKAGES:
        logging.getLogger(package).setLevel(_LEVELS[level])


def log(text: str) -> None:
    """Write a line of information into the log."""
    _LOG.info("%s", text)
