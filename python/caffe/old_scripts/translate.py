"""A source of Python 2 as code of Python 3, in memory.

Syntax and names are translated by fissix, the maintained lib2to3. What no rewriting of text can
tell, whether `/` divides whole numbers, is decided where it happens: both operands whole numbers,
or arrays of such, divide as in Python 2, and anything else as it always did.
"""

from __future__ import annotations

import ast
import logging
import tokenize
import warnings
from io import BytesIO
from types import CodeType
from typing import Any

import numpy as np

from caffe.old_scripts.dialect import Dialect, dialect_of, future_features
from caffe_ssd.errors import CaffeError

logger = logging.getLogger(__name__)

DIVIDE, IS_WHOLE = "__caffe_divide__", "__caffe_are_whole__"
# The first takes a module beside the script for part of a package, the second hides what a script
# says of division.
_NEVER = ("fix_import", "fix_future")
# Where Python 3 reads the source as well, these would change what it means there.
_WHERE_CERTAIN = ("fix_input", "fix_print")


class ScriptError(CaffeError):
    """A script cannot be read, in neither Python."""


def read_source(path: str) -> str:
    """Return the text of a script; without a declaration, UTF-8 or else Latin-1.

    Raises:
        ScriptError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise ScriptError(f"Could not open script {path}: {error.strerror}") from error
    try:
        encoding, _ = tokenize.detect_encoding(BytesIO(data).readline)
    except SyntaxError as error:
        if "coding" in data.decode("latin-1").split("\n", 2)[0]:
            raise ScriptError(f"{path}: {error}") from error
        encoding = "latin-1"
    text = data.decode(encoding, errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def compiled(source: str, path: str, python: int | None = None) -> CodeType:
    """Return the code of a script in either Python.

    Args:
        source: its text.
        path: for tracebacks.
        python: 2 or 3 where that is known; None to tell from the source. What both read is taken
            for Python 2, and divisions of whole numbers that leave a rest are logged.

    Raises:
        ScriptError: neither Python can read it.
    """
    dialect = dialect_of(source, path) if python is None else Dialect(python)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings, for instance
            if dialect is Dialect.PYTHON_3:
                return compile(source, path, "exec", dont_inherit=True)
            is_certain = dialect is Dialect.PYTHON_2
            tree = ast.parse(_translated(source, path, is_certain), path)
            if "division" not in future_features(tree):
                _OldDivision("" if is_certain else path).visit(tree)
            return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise ScriptError(f"{path} is neither Python 2 nor Python 3: {error}") from error


def _translated(source: str, path: str, is_certain: bool) -> str:
    from fissix.pgen2.parse import ParseError
    from fissix.pgen2.tokenize import TokenError
    from fissix.refactor import RefactoringTool, get_fixers_from_package

    logging.getLogger("RefactoringTool").setLevel(logging.ERROR)
    left_out = _NEVER if is_certain else _NEVER + _WHERE_CERTAIN
    fixers = [
        name
        for name in get_fixers_from_package("fissix.fixes")
        if name.rpartition(".")[2] not in left_out
    ]
    try:
        tool = RefactoringTool(fixers, {"print_function": not is_certain})
        tree = tool.refactor_string(source.rstrip("\n") + "\n", path)
    except (ParseError, TokenError) as error:
        raise SyntaxError(str(error)) from error
    return str(tree)


class _OldDivision(ast.NodeTransformer):
    """Gives `/` and `/=` to functions that look at the operands."""

    def __init__(self, path: str) -> None:
        self._path = path  # of a script that may be meant for Python 3; else empty
        self._count = 0

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        call = _call(DIVIDE, node.left, node.right, *self._place(node))
        return ast.copy_location(call, node)

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        # An array must change in place, so the operator has to stay one.
        self._count += 1
        name = f"__caffe_divisor_{self._count}__"
        divisor = ast.Assign([ast.Name(name, ast.Store())], node.value)
        target = ast.parse(ast.unparse(node.target), mode="eval").body
        value = ast.Name(name, ast.Load())
        choice = ast.If(
            test=_call(IS_WHOLE, target, value, *self._place(node)),
            body=[ast.AugAssign(node.target, ast.FloorDiv(), value)],
            orelse=[ast.AugAssign(node.target, ast.Div(), value)],
        )
        return [ast.copy_location(divisor, node), ast.copy_location(choice, node)]

    def _place(self, node: ast.BinOp | ast.AugAssign) -> tuple[ast.expr, ...]:
        return (ast.Constant(f"{self._path}:{node.lineno}" if self._path else ""),)


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


class OldDivision:
    """Divides as Python 2 does, and says once for each place what that means for Python 3."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    @property
    def helpers(self) -> dict[str, Any]:
        """The functions that translated code calls, by their names there."""
        return {DIVIDE: self.divide, IS_WHOLE: self.are_whole}

    def divide(self, first: Any, second: Any, place: str) -> Any:
        """Return the quotient; see `are_whole`."""
        whole = self.are_whole(first, second, place)
        return first // second if whole else first / second

    def are_whole(self, first: Any, second: Any, place: str) -> bool:
        """Whether Python 2 divides two values as whole numbers.

        Args:
            first: dividend.
            second: divisor.
            place: where, if the script may be meant for Python 3; else empty.
        """
        if not (_is_whole(first) and _is_whole(second)):
            return False
        if place and place not in self._said and _leaves_a_rest(first, second):
            self._said.add(place)
            text = "%s: %r / %r is %r, as in Python 2; for Python 3 say `caffe run -python 3`"
            logger.warning(text, place, first, second, first // second)
        return True


def _leaves_a_rest(first: Any, second: Any) -> bool:
    return bool(np.all(second != 0) and np.any(first % second != 0))


def _is_whole(value: Any) -> bool:
    if isinstance(value, (np.ndarray, np.generic)):
        return bool(np.issubdtype(value.dtype, np.integer) or value.dtype == np.bool_)
    return isinstance(value, int)
