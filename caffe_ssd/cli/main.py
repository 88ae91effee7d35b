"""Entry point of `caffe <action> [flags]`.

Spec: caffe-net.md section 19.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.metadata import version

from caffe_ssd import __version__
from caffe_ssd.desk.console import run_command, show, tell
from caffe_ssd.distribution import NAME
from caffe_ssd.errors import UsageError
from caffe_ssd.startup import without_collection

ACTIONS = {
    "fit": "train a detector on a folder of annotated pictures, and report on it",
    "train": "train or finetune a model",
    "test": "score a model",
    "time": "benchmark a model's layers",
    "recalibrate": "recompute BatchNorm's statistics after a short training",
    "detect": "find objects on pictures and draw them",
    "data": "check, convert and show data sets",
    "serve": "serve a detector over HTTP, with a page to try it",
    "export": "write a net as ONNX, OpenVINO, torch.export, TorchScript or safetensors",
    "evaluate": "score result files as the reference, VOC and COCO do",
    "report": "write what a trained detector can do as one HTML file",
    "summary": "list a net's layers, shapes, sizes and operations",
    "draw": "draw a net as an SVG file",
    "run": "run a script written for the original, in Python 2 or 3",
    "models": "list the published models with scores, sizes and commands",
    "examples": "list the example scripts, or write them and the label maps to a folder",
    "upgrade_net": "bring an old net or weights file up to date",
    "device_query": "show what the GPUs are",
}


def main(arguments: list[str] | None = None) -> int:
    """Run one action and return the exit status."""
    return run_command(_run, "caffe", arguments)


def _run(arguments: Sequence[str]) -> int:
    action, rest = _split(arguments)
    if action is None and any(word.lstrip("-") == "version" for word in rest):
        show(_versions())
        return 0
    if action is None:
        wants_help = any(word.lstrip("-") in ("help", "h") for word in rest)
        (show if wants_help else tell)(_usage())
        return 0 if wants_help else 2
    if action not in ACTIONS:
        close = get_close_matches(action, ACTIONS, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(f"unknown action {action!r}; {hint}known: {', '.join(ACTIONS)}")
    run = _find(action)
    return run(rest)


def _find(action: str) -> Callable[[list[str]], int]:
    """What runs an action; nothing else is imported, as torch alone takes seconds."""
    with without_collection():
        module = importlib.import_module(f"caffe_ssd.cli.{action}")
    return module.run  # type: ignore[no-any-return]


def _split(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The action and the rest; flags may stand before the action."""
    arguments = list(words)
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    for i, word in enumerate(arguments):
        if word in ACTIONS:
            return word, arguments[:i] + arguments[i + 1 :]
    return None, arguments


def _usage() -> str:
    lines = ["usage: caffe <action> [flags]", "", "actions:"]
    lines += [f"  {name:<14}{summary}" for name, summary in ACTIONS.items()]
    lines += [
        "",
        "examples:",
        "  caffe fit my_pictures -time 30m",
        "  caffe train -solver solver.prototxt -gpu 0",
        "  caffe test -model test.prototxt -weights net.caffemodel -gpu 0",
        "  caffe time -model deploy.prototxt -iterations 10",
        "  caffe detect street.jpg -model deploy.prototxt -weights net.caffemodel",
        "",
        "caffe <action> --help lists the flags of an action; caffe --version tells versions.",
    ]
    return "\n".join(lines)


def _versions() -> str:
    """Ours and those that a report of a fault should name."""
    return f"{NAME} {__version__} (PyTorch {version('torch')}, Python {platform.python_version()})"


if __name__ == "__main__":
    sys.exit(main())
