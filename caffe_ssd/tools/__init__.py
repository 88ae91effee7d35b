"""The original's programs and Python scripts besides `caffe`, by their names; docs/tools.md."""

from __future__ import annotations

from pathlib import PurePath

SCRIPTS = {
    "python/classify.py": "classify",
    "python/detect.py": "detect",
    "python/draw_net.py": "draw_net",
    "tools/extra/parse_log.py": "parse_log",
    "tools/extra/plot_training_log.py": "plot_training_log",
    "tools/extra/plot_training_log.py.example": "plot_training_log",
}
"""Where the original has its scripts -> our module."""


def script_of(path: str) -> str | None:
    """Our module for a script of the original, such as `/opt/caffe/python/draw_net.py`, or None."""
    words = PurePath(path).parts
    for script, module in SCRIPTS.items():
        parts = PurePath(script).parts
        if words[-len(parts) :] == parts:
            return module
    return None
