"""What in a file Python 2.7 could not read, found without Python 2.7."""

from __future__ import annotations

import ast
import io
import shutil
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

from caffe.old_scripts.dialect import future_features, newer_syntax

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
        wrong = [*newer_syntax(node), *_newer_names(node)]
        found += [f"line {getattr(node, 'lineno', '?')}: {what}" for what in wrong]
    divides = any(isinstance(node, ast.Div) for node in ast.walk(tree))
    if divides and "division" not in future_features(tree):
        found.append("/ without `from __future__ import division`")
    return found


def _newer_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, (ast.Name, ast.Attribute)) and (
        ast.unparse(node) in _NEW_NAMES or getattr(node, "attr", None) in _NEW_METHODS
    ):
        yield f"{ast.unparse(node)}, which is newer"
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "print":
        yield "print"


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
