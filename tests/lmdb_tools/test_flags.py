"""gflags' ways of writing a command line."""

from __future__ import annotations

import pytest

from caffe_ssd.errors import UsageError
from lmdb_tools.flags import Flag, format_flags, parse_flags

FLAGS = (
    Flag(name="check_label", default=False, help="A switch."),
    Flag(name="min_dim", default=0, help="A number."),
    Flag(name="backend", default="lmdb", choices=("lmdb", "leveldb"), help="A text."),
    Flag(name="normal", default=True, help="A switch that begins with no."),
)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--check_label", True),
        ("-check_label", True),
        ("--check-label", True),
        ("--check_label=true", True),
        ("--check_label=1", True),
        ("--check_label=false", False),
        ("--nocheck_label", False),
        ("--nocheck-label", False),
        ("", False),
    ],
)
def test_switches(words, expected):
    flags, arguments = parse_flags([*words.split(), "root"], FLAGS)
    assert flags.switch("check_label") is expected
    assert arguments == ["root"]


def test_values_and_arguments_in_any_order():
    argv = ["a", "--min_dim=-3", "b", "-backend", "leveldb", "--", "--check_label"]
    flags, arguments = parse_flags(argv, FLAGS)
    assert flags.number("min_dim") == -3
    assert flags.text("backend") == "leveldb"
    assert arguments == ["a", "b", "--check_label"]


def test_a_name_that_begins_with_no():
    assert not parse_flags(["--nonormal"], FLAGS)[0].switch("normal")
    assert parse_flags(["--normal"], FLAGS)[0].switch("normal")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--min_dm=3", r"unknown flag --min_dm; did you mean --min_dim\?"),
        ("--zzz", "unknown flag --zzz; see --help"),
        ("--min_dim=3.5", "--min_dim is '3.5'; allowed: a whole number"),
        ("--min_dim", "--min_dim needs a value"),
        ("--check_label=maybe", "--check_label is 'maybe'; allowed: true or false"),
        ("--nocheck_label=true", "takes no value; say --check_label=true"),
        ("--backend=hdf5", "--backend is 'hdf5'; allowed: lmdb, leveldb"),
    ],
)
def test_errors(words, message):
    with pytest.raises(UsageError, match=message):
        parse_flags(words.split(), FLAGS)


def test_help_names_every_flag_and_default():
    text = format_flags(FLAGS)
    assert "--min_dim\n      A number. number, default 0" in text
    assert 'One of: lmdb, leveldb. text, default "lmdb"' in text
