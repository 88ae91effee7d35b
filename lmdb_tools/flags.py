"""Command lines as the reference's C++ tools take them (gflags).

Accepted: `--flag=value`, `--flag value`, one or two dashes, and for switches `--flag`, `--noflag`,
`--flag=false`. Dashes and underscores inside a name are the same. Flags may stand anywhere; after
a lone `--` everything is an argument.

Spec: ssd-data.md section 3.1 (flags and usage).
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from caffe_ssd.errors import UsageError

_TRUE = {"true", "t", "yes", "y", "1"}
_FALSE = {"false", "f", "no", "n", "0"}
_KINDS = {bool: "switch", int: "number", str: "text"}


@dataclass(frozen=True, kw_only=True)
class Flag:
    """One flag.

    Args:
        name: with underscores.
        default: its type is the flag's type.
        help: one sentence.
        choices: the allowed values; empty allows all.
    """

    name: str
    default: bool | int | str
    help: str
    choices: tuple[str, ...] = ()


class FlagValues:
    """What the flags were set to; one getter per type, so that types stay checked."""

    def __init__(self, values: Mapping[str, bool | int | str]) -> None:
        self._values = dict(values)

    def switch(self, name: str) -> bool:
        """The value of a boolean flag."""
        return bool(self._values[name])

    def number(self, name: str) -> int:
        """The value of an integer flag."""
        return int(self._values[name])

    def text(self, name: str) -> str:
        """The value of a text flag."""
        return str(self._values[name])


def parse_flags(argv: Sequence[str], flags: Sequence[Flag]) -> tuple[FlagValues, list[str]]:
    """Split a command line into flags and arguments.

    Returns:
        The values (defaults where nothing was given) and the other arguments in order.

    Raises:
        UsageError: an unknown flag, a missing or a bad value.
    """
    known = {flag.name: flag for flag in flags}
    values = {flag.name: flag.default for flag in flags}
    arguments: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return FlagValues(values), arguments + rest
        if not word.startswith("-") or word == "-":
            arguments.append(word)
            continue
        flag, text = _split(word, known)
        if text is None and isinstance(flag.default, bool):
            text = "true"
        elif text is None:
            if not rest:
                raise UsageError(f"{word} needs a value")
            text = rest.pop(0)
        values[flag.name] = _convert(flag, text)
    return FlagValues(values), arguments


def format_flags(flags: Sequence[Flag]) -> str:
    """The flags as the last part of a help text."""
    lines = []
    for flag in flags:
        default = str(flag.default).lower() if isinstance(flag.default, bool) else flag.default
        shown = f'"{default}"' if isinstance(flag.default, str) else default
        choices = f" One of: {', '.join(flag.choices)}." if flag.choices else ""
        text = f"{flag.help}{choices} {_KINDS[type(flag.default)]}, default {shown}"
        lines.append(f"  --{flag.name}")
        lines += textwrap.wrap(text, 92, initial_indent=" " * 6, subsequent_indent=" " * 6)
    return "\n".join(lines)


def _split(word: str, known: Mapping[str, Flag]) -> tuple[Flag, str | None]:
    """The flag a word names, and the value written behind `=` (None: no `=`)."""
    name, equals, text = word.lstrip("-").partition("=")
    name = name.replace("-", "_")
    if name in known:
        return known[name], text if equals else None
    positive = known.get(name.removeprefix("no"))
    if positive is not None and name.startswith("no") and isinstance(positive.default, bool):
        if equals:
            raise UsageError(f"--{name} takes no value; say --{positive.name}={text}")
        return positive, "false"
    close = get_close_matches(name, known, n=2)
    hint = f"did you mean {' or '.join('--' + c for c in close)}?" if close else "see --help"
    raise UsageError(f"unknown flag {word.partition('=')[0]}; {hint}")


def _convert(flag: Flag, text: str) -> bool | int | str:
    if isinstance(flag.default, bool):
        if text.lower() in _TRUE | _FALSE:
            return text.lower() in _TRUE
        raise UsageError(f"--{flag.name} is {text!r}; allowed: true or false")
    if isinstance(flag.default, int):
        try:
            return int(text)
        except ValueError:
            raise UsageError(f"--{flag.name} is {text!r}; allowed: a whole number") from None
    if flag.choices and text not in flag.choices:
        raise UsageError(f"--{flag.name} is {text!r}; allowed: {', '.join(flag.choices)}")
    return text
