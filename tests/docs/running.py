"""Runs a command of a page, or has its own parser read it."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

from caffe_ssd.cli.main import ACTIONS
from caffe_ssd.cli.main import main as caffe
from tests.docs.blocks import ROOT, Command

PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TOOLS = dict(re.findall(r'^(\w+) = "([\w.]+:\w+)"$', PROJECT, re.MULTILINE))
OUR_MODULES = ("lmdb_tools", "caffe_ssd", "benchmarks", "tests")
# Programs of others. What is said about them cannot be checked here.
OTHERS = {
    "python3",
    "cd",
    "curl",
    "tar",
    "unzip",
    "mkdir",
    "sbatch",
    "squeue",
    "ls",
    "git",
    "mv",
    "export",
}


class Understood(BaseException):
    """Raised where a command would begin to work: its parser has taken the words."""


def run(words: list[str]) -> int:
    """Run a command of this project in this process, in the working folder.

    Scripts that would train for days only write what they train.
    """
    program, *rest = words
    if program == "caffe":
        return caffe(rest)
    if program in TOOLS:
        return int(_tool(program)(rest) or 0)
    if program == "python" and rest[0] == "-m":
        return _module(rest[1], rest[2:])
    assert program == "python", f"no test can run {program}"
    if _trains(rest[0]) and "--no-run" not in rest:
        rest = [*rest, "--no-run"]
    return _main(rest[0], rest[1:])


def understand(words: list[str]) -> None:
    """Have a command's own parser read it, without doing anything.

    Raises:
        AssertionError: it is refused, or nobody knows the command.
    """
    program, *rest = words
    if program == "make":
        for target in (word for word in rest if "=" not in word):
            assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), f"no make {target}"
    elif Path(program).name == "pip":
        for extra in re.findall(r"ssd-caffe\[([\w,]+)\]", " ".join(rest)):
            for name in extra.split(","):
                assert re.search(rf"^{name} = \[", PROJECT, re.MULTILINE), f"no extra {name}"
    elif program == "torchrun":
        launched = rest[rest.index("-m") + 1 :]
        understand(["python", "-m", *launched])
    elif program in ("sh", "sudo"):
        assert Path(ROOT, rest[-1]).is_file(), f"no script {rest[-1]}"
    elif program == "docker":
        _understand_docker(rest)
    elif program in OTHERS:
        return
    else:
        assert _reads(words), f"not understood: {shlex.join(words)}"


def _understand_docker(words: list[str]) -> None:
    """A container's words are its entry point's; a build's arguments are the Dockerfile's."""
    if words[0] == "run":
        image = next(i for i, word in enumerate(words) if word.startswith("caffe-ssd:"))
        understand(["caffe", *words[image + 1 :]])
    else:
        dockerfile = Path(ROOT, words[words.index("-f") + 1]).read_text(encoding="utf-8")
        for before, word in pairwise(words):
            if before == "--build-arg":
                assert f"\nARG {word.partition('=')[0]}=" in dockerfile, f"no argument {word}"


def _trains(script: str) -> bool:
    """Whether a script knows --no-run."""
    return "caffe.models.script import train" in Path(script).read_text(encoding="utf-8")


def _reads(words: list[str]) -> bool:
    """Whether the parser is reached and takes the words."""
    if words[:2] == ["python", "-m"] and "." not in words[2]:
        return importlib.util.find_spec(words[2]) is not None
    with patch.object(argparse.ArgumentParser, "parse_args", _stop_after_parsing):
        try:
            run(words)
        except Understood:
            return True
    return "--help" in words


_parse_args = argparse.ArgumentParser.parse_args


def _stop_after_parsing(self: argparse.ArgumentParser, *args: object, **kwargs: object) -> None:
    _parse_args(self, *args, **kwargs)  # type: ignore[call-overload]
    raise Understood


def flags_of(action: str) -> set[str]:
    """The flags of an action of `caffe`, or of one of an action's verbs (`models run`)."""
    found: set[str] = set()

    def note(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        found.update(option.lstrip("-") for option in self._option_string_actions)
        raise Understood

    words = action.split()
    assert words[0] in ACTIONS, f"there is no caffe {action}"
    noting = patch.object(argparse.ArgumentParser, "parse_args", note)
    with noting, contextlib.suppress(Understood):
        caffe([*words, "--help"])
    return found


def run_in_shell(command: Command, folder: Path) -> None:
    """Run what needs a shell, with the interpreter of the tests as `python`."""
    tools = f'python() {{ "{sys.executable}" "$@"; }}; caffe() {{ python -m caffe_ssd "$@"; }}\n'
    subprocess.run(["bash", "-euc", tools + command.text], cwd=folder, check=True)


def _tool(name: str) -> Callable[[list[str]], int | None]:
    module, _, function = TOOLS[name].partition(":")
    return getattr(importlib.import_module(module), function)  # type: ignore[no-any-return]


def _module(name: str, arguments: list[str]) -> int:
    """Run `python -m name`."""
    assert name.partition(".")[0] in OUR_MODULES, f"whose is {name}?"
    if name.startswith(("lmdb_tools.", "caffe_ssd.")):
        return int(importlib.import_module(name).main(arguments) or 0)
    return _main(name, arguments)


def _main(name: str, arguments: list[str]) -> int:
    """Run a script or a module as the main program."""
    with _arguments([name, *arguments]):
        try:
            if name.endswith(".py"):
                runpy.run_path(name, run_name="__main__")
            else:
                runpy.run_module(name, run_name="__main__")
        except SystemExit as ended:
            return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


@contextlib.contextmanager
def _arguments(words: list[str]) -> Iterator[None]:
    before, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = before
