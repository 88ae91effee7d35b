"""What is read as a file, and what is not."""

from __future__ import annotations

import os

import pytest

from caffe_ssd.errors import DataError, FileError
from caffe_ssd.files import read_bytes, read_text


def test_regular_files(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfgr\xc3\xbcn\n")
    (tmp_path / "link").symlink_to(path)
    assert read_bytes(tmp_path / "link") == path.read_bytes()
    assert read_text(path) == "gr\u00fcn\n"


def test_other_things_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, why in (
        (tmp_path, "it is a folder"),
        (tmp_path / "pipe", "it is a pipe"),
        ("/dev/zero", "it is a device"),
        (tmp_path / "none", "No such file"),
        (tmp_path / ("n" * 300), "File name too long"),
        ("a\0b", "no file name holds a zero byte"),
        ("", "No such file"),
    ):
        with pytest.raises(FileError, match=f"Could not open file .*{why}"):
            read_bytes(path)


def test_length(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_bytes(path, limit=5) == b"12345"
    with pytest.raises(FileError, match=r"Could not read file .*MiB"):
        read_bytes(path, limit=4)


def test_text_that_is_none(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes("one\ntwo".encode("utf-16"))
    with pytest.raises(DataError, match=r"a\.txt:1: holds a zero byte, so it is no text file"):
        read_text(path)
    path.write_bytes(b"gr\xfcn")
    with pytest.raises(DataError, match=r"a\.txt: not a text file in UTF-8"):
        read_text(path)
    assert read_text(path, errors="surrogateescape") == "gr\udcfcn"
