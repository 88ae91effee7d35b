"""What in a file Python 2.7 could not read, found without Python 2.7."""

from __future__ import annotations

import ast
import io
import shutil
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

# Syntax of Python 3 alone, and what has another meaning before.
_NEW_NODES = {
    ast.JoinedStr: "an f-string",
    ast.AnnAssign: "an annotation",
    ast.Nonlocal: "nonlocal",
    ast.YieldFrom: "yield from",
    ast.AsyncFunctionDef: "async",
    ast.Await: "await",
    ast.NamedExpr: ":=",
    ast.MatMult: "@",
    ast.Match: "match",
}
# Functions and exceptions that came later.
_NEW_NAMES = {
    *("math.gcd", "math.isclose", "os.replace", "shlex.quote", "contextlib.suppress"),
    *("FileNotFoundError", "FileExistsError", "PermissionError", "nonlocal", "breakpoint"),
}
_NEW_METHODS = {"fullmatch", "casefold", "removeprefix", "removesuffix", "isascii"}


def complaints(text: str) -> list[str]:
    """Everything in a source that Python 2.7 refuses or understands otherwise."""
    tree = ast.parse(text)
    found = [*_tokens(text)]
    for node in ast.walk(tree):
        found += [f"line {getattr(node, 'lineno', '?')}: {what}" for what in _node(node)]
    if any(isinstance(node, ast.Div) for node in ast.walk(tree)) and not _has_true_division(tree):
        found.append("/ without `from __future__ import division`")
    return found


def _has_true_division(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "division" for alias in node.names)
        for node in tree.body
    )


def _node(node: ast.AST) -> Iterator[str]:
    if type(node) in _NEW_NODES:
        yield _NEW_NODES[type(node)]
    elif isinstance(node, ast.Raise) and node.cause is not None:
        yield "raise ... from"
    elif isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        if any(isinstance(each, ast.Starred) for each in node.elts):
            yield "* in a display or on the left of ="
    elif isinstance(node, ast.Dict) and None in node.keys:
        yield "** in a display"
    elif isinstance(node, ast.arguments):
        yield from _arguments(node)
    elif isinstance(node, ast.FunctionDef) and node.returns is not None:
        yield "an annotation"
    elif isinstance(node, ast.Call):
        yield from _call(node)
    elif isinstance(node, (ast.Name, ast.Attribute)):
        if ast.unparse(node) in _NEW_NAMES or getattr(node, "attr", None) in _NEW_METHODS:
            yield f"{ast.unparse(node)}, which is newer"
    elif isinstance(node, ast.ClassDef) and node.keywords:
        yield "a metaclass in a class's bases"


def _arguments(node: ast.arguments) -> Iterator[str]:
    if node.kwonlyargs or node.posonlyargs:
        yield "arguments that are only keywords or only positions"
    if any(each.annotation is not None for each in ast.walk(node) if isinstance(each, ast.arg)):
        yield "an annotation"


def _call(node: ast.Call) -> Iterator[str]:
    stars = [i for i, each in enumerate(node.args) if isinstance(each, ast.Starred)]
    if stars and stars != [len(node.args) - 1]:
        yield "* before the last argument of a call"
    doubles = [i for i, each in enumerate(node.keywords) if each.arg is None]
    if doubles and doubles != [len(node.keywords) - 1]:
        yield "** before the last argument of a call"
    if isinstance(node.func, ast.Name):
        if node.func.id == "print":
            yield "print"
        if node.func.id == "super" and not node.args:
            yield "super() without arguments"
        if node.func.id == "open" and any(each.arg == "encoding" for each in node.keywords):
            yield "open(encoding=...): io.open has it"


def _tokens(text: str) -> Iterator[str]:
    """A comma behind the last `*args` or `**kwargs`, digits with _, letters beyond ASCII."""
    if not text.isascii():
        yield "letters beyond ASCII without a line that says their coding"
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    layout = {tokenize.NL, tokenize.COMMENT, tokenize.NEWLINE}
    tokens = [token for token in tokens if token.type not in layout]
    starred = [False]
    for previous, token, after in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if token.type == tokenize.NUMBER and "_" in token.string:
            yield f"line {token.start[0]}: _ in a number"
        if token.string in "([{" and token.string:
            starred.append(False)
        elif token.string in (")", "]", "}"):
            starred.pop()
        elif token.string in ("*", "**") and previous.string in ("(", ","):
            starred[-1] = True
        elif token.string == "," and after.string == ")" and starred[-1]:
            yield f"line {token.start[0]}: a comma behind * or **"


def interpreter() -> str | None:
    """Python 2.7 of this machine, if there is one."""
    found = shutil.which("python2.7")
    paths = [Path(found)] if found else []
    for path in [*paths, *Path.home().glob(".pyenv/versions/2.7.*/bin/python2.7")]:
        done = subprocess.run([path, "-c", ""], capture_output=True, check=False)
        if done.returncode == 0:  # a name on the path may be a mere hint where to find it
            return str(path)
    return None
