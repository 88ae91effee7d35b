"""Command lines, for `caffe` and the data set tools alike.

A flag has one spelling in help texts and messages, `-flag_name`, and may be written in all the ways
that the reference's tools (gflags) take: `-f v`, `-f=v`, `--f v`, `--f=v`, with `-` for `_`; a
switch also `-f=false` and `-nof`. Flags may stand anywhere; after a lone `--` everything is an
argument.

Spec: caffe-net.md section 19; ssd-data.md section 3.1.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import NoReturn

from caffe_ssd.errors import UsageError

_TRUE = ("true", "t", "yes", "y", "1")
_FALSE = ("false", "f", "no", "n", "0")
_NEGATIVE = re.compile(r"-\.?\d")


class FlagParser(argparse.ArgumentParser):
    """A parser for one command that raises UsageError rather than leaving the process.

    Args:
        prog: the command.
        description: what it does.
        examples: command lines, indented.
    """

    def __init__(self, prog: str, *, description: str, examples: str) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            add_help=False,
        )
        self._positionals.title, self._optionals.title = "arguments", "flags"
        self._is_switch: dict[str, bool] = {}
        self._has_off: set[str] = set()
        self.add_argument("--help", action="help", help="show this text")
        self.add_switch("debug", help="show the traceback of an error")

    def add_flag(self, name: str, **options: object) -> None:
        """Add a flag with a value; see `argparse.ArgumentParser.add_argument`.

        Args:
            name: with underscores, without dashes.
            options: as there.
        """
        self._is_switch[name] = False
        self.add_argument(f"-{name}", dest=name, **options)  # type: ignore[arg-type]

    def add_switch(self, name: str, *, help: str, default: bool | None = False) -> None:
        """Add a flag without a value.

        Args:
            name: with underscores, without dashes.
            help: what it does.
            default: its value if nothing is said about it; None to decide later.
        """
        self._is_switch[name] = True
        self.add_argument(f"-{name}", dest=name, action="store_true", default=default, help=help)
        if default is not False:
            self._has_off.add(name)
            self.add_argument(f"-no{name}", dest=name, action="store_false", help=argparse.SUPPRESS)

    def parse_flags(self, arguments: Sequence[str]) -> argparse.Namespace:
        """Parse a command line.

        Raises:
            UsageError: an unknown flag, a missing or a bad value.
        """
        return self.parse_args(self._in_one_spelling(arguments))

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UsageError(f"{message}; see {self.prog} --help")

    def format_help(self) -> str:
        """The help text; its first line names the arguments only."""
        names = [self._shown(action) for action in self._positionals._group_actions]
        self.usage = " ".join([self.prog, "[flags]", *names])
        return super().format_help()

    def _shown(self, action: argparse.Action) -> str:
        name = str(action.metavar or action.dest)
        return {"+": f"{name} ...", "*": f"[{name} ...]", "?": f"[{name}]"}.get(
            str(action.nargs), name
        )

    def _in_one_spelling(self, words: Sequence[str]) -> list[str]:
        """Flags as `-name=value` and switches as `-name`, then `--` and the arguments."""
        values: list[str] = []
        switches: dict[str, bool] = {}
        arguments: list[str] = []
        rest = list(words)
        while rest:
            word = rest.pop(0)
            if word == "--":
                arguments += rest
                break
            if not word.startswith("-") or word == "-" or _NEGATIVE.match(word):
                arguments.append(word)
                continue
            name, equals, text = word.lstrip("-").partition("=")
            name = name.replace("-", "_")
            if name in ("help", "h"):
                return ["--help"]
            if self._is_switch.get(name) or self._negated(name):
                self._set_switch(switches, name, text if equals else None)
            elif name in self._is_switch:
                if not equals:
                    text = self._value(name, rest)
                values.append(f"-{name}={text}")
            else:
                self._refuse(word)
        given = [f"-{name}" for name, is_on in switches.items() if is_on]
        given += [f"-no{name}" for name in self._has_off if switches.get(name) is False]
        return [*values, *given, *(["--", *arguments] if arguments else [])]

    def _negated(self, name: str) -> str:
        """The switch that `noNAME` switches off; nothing if it is none."""
        positive = name[2:] if name.startswith("no") else ""
        return positive if self._is_switch.get(positive) else ""

    def _set_switch(self, switches: dict[str, bool], name: str, text: str | None) -> None:
        if not self._is_switch.get(name):
            if text is not None:
                self.error(f"-{name} takes no value; say -{self._negated(name)}={text}")
            switches[self._negated(name)] = False
        elif text is not None and text.lower() not in (*_TRUE, *_FALSE):
            self.error(f"-{name} is {text!r}; allowed: true or false")
        else:
            switches[name] = text is None or text.lower() in _TRUE

    def _value(self, name: str, rest: list[str]) -> str:
        """Take the value of a flag from the words behind it."""
        following = rest[0] if rest else "--"
        if following.startswith("-"):
            word = following.lstrip("-").partition("=")[0].replace("-", "_")
            if following == "--" or word in self._is_switch:
                self.error(f"-{name} needs a value")
        return rest.pop(0)

    def _refuse(self, word: str) -> NoReturn:
        name = word.partition("=")[0]
        close = get_close_matches(name.lstrip("-").replace("-", "_"), self._is_switch, n=2)
        hint = f"; did you mean {' or '.join(f'-{each}' for each in close)}?" if close else ""
        self.error(f"unknown flag {name}{hint}")


@contextmanager
def about_flag(name: str) -> Iterator[None]:
    """Put a flag's name before what a part that knows no flags says of its value."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"-{name}: {error}") from error
