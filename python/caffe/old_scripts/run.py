"""Runs a script with the modules beside it, and has the jobs that it starts find our tools."""

from __future__ import annotations

import builtins
import importlib.machinery
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from caffe.old_scripts.translate import OldDivision, compiled, read_source

logger = logging.getLogger(__name__)

TOOLS = Path("build/tools")
# Events of `sys.addaudithook` that come before a child process starts.
_STARTS = ("subprocess.Popen", "os.system", "os.posix_spawn", "os.exec")
_SHIM = """#!/bin/sh
# Made by `caffe run` for the jobs that scripts write; removed when the script ends.
exec '{python}' -c 'import sys
sys.path[:] = [path for path in sys.path if path]
sys.argv[0] = "{name}"
from {module} import {function}
sys.exit({function}())' "$@"
"""


def run_script(path: str, arguments: Sequence[str], python: int | None = None) -> int:
    """Run a script as `python path arguments` would have, in the Python it was written for.

    Args:
        path: of the script; modules in its folder are read like it.
        arguments: its command line.
        python: 2 or 3 where that is known; see `compiled`.

    Returns:
        Its exit status.

    Raises:
        ScriptError: the script cannot be read.
    """
    code = compiled(read_source(path), path, python)
    folder = os.path.dirname(os.path.abspath(path))
    main = ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=builtins)
    try:
        with _world(main, [path, *arguments], folder, python), _tools():
            exec(code, main.__dict__)
    except SystemExit as ended:
        return _status(ended.code)
    return 0


def _status(code: object) -> int:
    if code is None or isinstance(code, int):
        return code or 0
    print(code, file=sys.stderr)
    return 1


@contextmanager
def _world(main: ModuleType, argv: list[str], folder: str, python: int | None) -> Iterator[None]:
    """What a script sees: its arguments, its folder, itself as the main module."""
    before = sys.argv, sys.path, sys.modules["__main__"]
    finder = _Finder(folder, python)
    helpers = OldDivision().helpers
    for name, helper in helpers.items():
        setattr(builtins, name, helper)
    sys.argv, sys.path, sys.modules["__main__"] = argv, [folder, *sys.path], main
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        sys.argv, sys.path, sys.modules["__main__"] = before
        for name in helpers:
            delattr(builtins, name)


class _Finder:
    """Finds modules below the script's folder and translates them as the script."""

    def __init__(self, folder: str, python: int | None) -> None:
        self._folder = os.path.join(os.path.realpath(folder), "")
        self._python = python

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        """Part of the interface of `sys.meta_path`."""
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        origin = None if spec is None else spec.origin
        if spec is None or origin is None or not origin.endswith(".py"):
            return None
        if not os.path.realpath(origin).startswith(self._folder) or "site-packages" in origin:
            return None
        spec.loader = _Loader(name, origin, self._python)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module in either Python, and leaves no compiled file."""

    def __init__(self, name: str, path: str, python: int | None) -> None:
        super().__init__(name, path)
        self._python = python

    def get_code(self, fullname: str) -> CodeType:
        """Part of the interface of loaders."""
        return compiled(read_source(self.path), self.path, self._python)


@contextmanager
def _tools() -> Iterator[None]:
    """Have `./build/tools/caffe` and its kin in the current folder whenever a child starts."""
    shims = _Shims()
    try:
        yield
    finally:
        shims.remove()


class _Shims:
    """Files `build/tools/NAME` that call our tools, where a folder has none of that name."""

    def __init__(self) -> None:
        self._files: list[Path] = []
        self._folders: list[Path] = []
        self._is_active = True
        sys.addaudithook(self._watch)

    def _watch(self, event: str, _: object) -> None:
        # Not before: whether the file is there tells scripts whose Caffe they run on.
        if self._is_active and event in _STARTS:
            self._is_active = False  # what follows must not come back here
            try:
                self._make(Path.cwd())
            except OSError as error:  # the child may do without
                logger.warning("cannot make %s for the jobs of the script: %s", TOOLS, error)
            finally:
                self._is_active = True

    def _make(self, root: Path) -> None:
        folder = root / TOOLS
        for each in (folder.parent, folder):
            if not each.exists():
                each.mkdir()
                self._folders.append(each)
        for entry in entry_points(group="console_scripts"):
            if entry.dist is None or not entry.value.startswith(("caffe", "lmdb_tools")):
                continue
            path = folder / entry.name
            if not path.exists():
                module, _, function = entry.value.partition(":")
                fields = {"name": entry.name, "module": module, "function": function}
                path.write_text(_SHIM.format(python=sys.executable, **fields))
                path.chmod(0o755)
                self._files.append(path)

    def remove(self) -> None:
        """Leave the folder as it was."""
        self._is_active = False
        for path in self._files:
            path.unlink(missing_ok=True)
        for folder in reversed(self._folders):
            if folder.is_dir() and not any(folder.iterdir()):
                shutil.rmtree(folder)
