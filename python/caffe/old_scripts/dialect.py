"""Which Python a source is written in: 2, 3, or what both read."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from enum import Enum

# Names, methods and modules that only Python 2 has.
OLD_NAMES = {
    *("xrange", "unicode", "raw_input", "basestring", "long", "unichr", "execfile", "reload"),
    *("file", "cmp", "apply", "intern", "buffer", "coerce", "reduce"),
}
OLD_METHODS = {
    *("has_key", "iteritems", "iterkeys", "itervalues", "viewitems", "viewkeys", "viewvalues"),
}
OLD_MODULES = {
    *("__builtin__", "ConfigParser", "HTMLParser", "Queue", "StringIO", "Tkinter", "cPickle"),
    *("cStringIO", "commands", "copy_reg", "httplib", "thread", "urllib2", "urlparse"),
}
_SHEBANG = re.compile(r"#!.*\bpython(2|3)")

# Syntax that came with Python 3.
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


class Dialect(Enum):
    """What a source is written in."""

    PYTHON_2 = 2
    PYTHON_3 = 3
    BOTH = 0


def dialect_of(source: str, name: str = "<script>") -> Dialect:
    """Tell from its syntax and names what a source is written in.

    Args:
        source: its text.
        name: for messages.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in strings, for instance
            tree = ast.parse(source, name)
    except (SyntaxError, ValueError):
        return Dialect.PYTHON_2
    if any(True for node in ast.walk(tree) for _ in newer_syntax(node)) or _prints_with(tree):
        return Dialect.PYTHON_3
    if _uses_old_names(tree):
        return Dialect.PYTHON_2
    shebang = _SHEBANG.match(source)
    return Dialect.BOTH if shebang is None else Dialect(int(shebang[1]))


def future_features(tree: ast.Module) -> set[str]:
    """What a source imports from `__future__`."""
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name for node in imports if node.module == "__future__" for alias in node.names}


def newer_syntax(node: ast.AST) -> Iterator[str]:
    """What of a node itself Python 2.7 cannot read, in words."""
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
        yield from _newer_arguments(node)
    elif isinstance(node, ast.FunctionDef) and node.returns is not None:
        yield "an annotation"
    elif isinstance(node, ast.Call):
        yield from _newer_call(node)
    elif isinstance(node, ast.ClassDef) and node.keywords:
        yield "a metaclass in a class's bases"


def _newer_arguments(node: ast.arguments) -> Iterator[str]:
    if node.kwonlyargs or node.posonlyargs:
        yield "arguments that are only keywords or only positions"
    if any(each.annotation is not None for each in ast.walk(node) if isinstance(each, ast.arg)):
        yield "an annotation"


def _newer_call(node: ast.Call) -> Iterator[str]:
    stars = [i for i, each in enumerate(node.args) if isinstance(each, ast.Starred)]
    if stars and stars != [len(node.args) - 1]:
        yield "* before the last argument of a call"
    doubles = [i for i, each in enumerate(node.keywords) if each.arg is None]
    if doubles and doubles != [len(node.keywords) - 1]:
        yield "** before the last argument of a call"
    if isinstance(node.func, ast.Name):
        if node.func.id == "super" and not node.args:
            yield "super() without arguments"
        if node.func.id == "open" and any(each.arg == "encoding" for each in node.keywords):
            yield "open(encoding=...): io.open has it"


def _prints_with(tree: ast.Module) -> bool:
    """Whether print is called with keywords, as only a function can be."""
    if "print_function" in future_features(tree):
        return False
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.keywords]
    return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)


def _uses_old_names(tree: ast.Module) -> bool:
    own = _own_names(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in OLD_NAMES - own:
            return True
        if isinstance(node, ast.Attribute) and node.attr in OLD_METHODS:
            return True
        if isinstance(node, ast.Import):
            if any(alias.name in OLD_MODULES for alias in node.names):
                return True
        elif isinstance(node, ast.ImportFrom) and node.module in OLD_MODULES:
            return True
    return False


def _own_names(tree: ast.Module) -> set[str]:
    """Everything that a source gives a meaning of its own."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names
