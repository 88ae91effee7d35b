"""Command lines: all the ways of writing one, and one spelling in what is shown."""

from __future__ import annotations

import argparse

import pytest

from caffe_ssd.desk.flags import FlagParser, about_flag
from caffe_ssd.errors import UsageError


def made() -> FlagParser:
    parser = FlagParser("tool", description="Does it.", examples="  tool a")
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_switch("check_label", help="a switch")
    parser.add_flag("min_dim", type=int, default=0, help="a number (%(default)s)")
    parser.add_flag("backend", default="lmdb", choices=("lmdb", "leveldb"), help="a text")
    parser.add_switch("no_link", help="a switch that begins with no")
    parser.add_switch("pack", default=True, help="a switch that is on")
    parser.add_switch("sort", default=None, help="a switch that decides for itself")
    return parser


def parse(words: str) -> argparse.Namespace:
    return made().parse_flags(words.split())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--check_label", True),
        ("-check_label", True),
        ("--check-label", True),
        ("-check-label", True),
        ("--check_label=true", True),
        ("--check_label=1", True),
        ("--check_label=false", False),
        ("--nocheck_label", False),
        ("-nocheck-label", False),
        ("-check_label --nocheck_label", False),
        ("-check_label=0 -check_label", True),
        ("", False),
    ],
)
def test_switches(words: str, expected: bool) -> None:
    flags = parse(f"{words} root")
    assert flags.check_label is expected
    assert flags.words == ["root"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-{}", True),
        ("-{}=true", True),
        ("-{}=false", False),
        ("-no{}", False),
        ("-no{} -{}", True),
    ],
)
def test_switches_that_are_not_off(words: str, expected: bool) -> None:
    for name in ("pack", "sort"):
        assert getattr(parse(words.replace("{}", name)), name) is expected


def test_defaults_of_switches() -> None:
    flags = parse("")
    assert (flags.no_link, flags.pack, flags.sort) == (False, True, None)


@pytest.mark.parametrize(
    "words", ["-min_dim 3", "-min_dim=3", "--min_dim 3", "--min-dim=3", "-min-dim 3"]
)
def test_flags_may_be_written_in_many_ways(words: str) -> None:
    assert parse(words).min_dim == 3


def test_values_and_arguments_in_any_order() -> None:
    flags = parse("a --min_dim -3 b -backend leveldb - -- --check_label")
    assert flags.min_dim == -3
    assert flags.backend == "leveldb"
    assert flags.words == ["a", "b", "-", "--check_label"]
    assert not flags.check_label


def test_values_that_look_like_flags() -> None:
    parser = made()
    parser.add_flag("delimiter", default=" ", help="any")
    assert parser.parse_flags(["-delimiter", "-,"]).delimiter == "-,"
    assert parser.parse_flags(["-delimiter="]).delimiter == ""


def test_a_name_that_begins_with_no() -> None:
    assert parse("--no-link").no_link
    assert not parse("--no-link=false").no_link


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--min_dm=3", r"unknown flag --min_dm; did you mean -min_dim\?; see tool --help"),
        ("-min 3", "unknown flag -min; did you mean -min_dim"),  # no abbreviations
        ("--zzz", "unknown flag --zzz; see tool --help"),
        ("--min_dim=3.5", "argument -min_dim: invalid int value: '3.5'"),
        ("--min_dim", "-min_dim needs a value"),
        ("--min_dim --check_label", "-min_dim needs a value"),
        ("--check_label=maybe", "-check_label is 'maybe'; allowed: true or false"),
        ("--nocheck_label=true", "takes no value; say -check_label=true"),
        ("--nobackend", "unknown flag --nobackend"),
        ("--backend=hdf5", "argument -backend: invalid choice: 'hdf5'"),
    ],
)
def test_errors(words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse(words)


def test_help_has_one_spelling_and_the_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("-h", "-help", "--help"):
        with pytest.raises(SystemExit) as leaving:
            parse(word)
        assert leaving.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith("usage: tool [flags] [WORD ...]\n")
        assert "\n  -min_dim MIN_DIM " in text
        assert "--min" not in text
        assert text.endswith("examples:\n  tool a\n")


def test_the_flag_is_named_where_others_know_none() -> None:
    with pytest.raises(UsageError, match="-gpu: takes ids"), about_flag("gpu"):
        raise UsageError("takes ids")
