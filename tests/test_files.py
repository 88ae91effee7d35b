"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from caffe_ssd.errors import FileError
from caffe_ssd.files import atomic_write, atomic_writer


@pytest.mark.parametrize(("data", "want"), [(b"\x00\n", b"\x00\n"), ("é\r\n", b"\xc3\xa9\r\n")])
def test_writes_bytes_and_text(tmp_path: Path, data: bytes | str, want: bytes) -> None:
    target = tmp_path / "new.bin"
    atomic_write(target, data)
    assert target.read_bytes() == want
    assert os.listdir(tmp_path) == ["new.bin"]


def test_old_content_stays_until_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.write_bytes(b"old")
    with atomic_writer(str(target)) as file:
        file.write(b"new")
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model"
    target.write_bytes(b"old")

    def write_half() -> None:
        with atomic_writer(target) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model"]


def test_permissions_follow_the_umask_or_the_old_file(tmp_path: Path) -> None:
    old_umask = os.umask(0o027)
    try:
        target = tmp_path / "model"
        atomic_write(target, b"1")
        assert stat.S_IMODE(target.stat().st_mode) == 0o640
        target.chmod(0o604)
        atomic_write(target, b"2")
        assert stat.S_IMODE(target.stat().st_mode) == 0o604
    finally:
        os.umask(old_umask)


def test_links_are_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "real", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    atomic_write(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_what_is_no_regular_file_is_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        atomic_write(pipe, b"through")
        assert os.read(reader, 100) == b"through"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("name", ["missing/model", "."])
def test_unwritable_target(tmp_path: Path, name: str) -> None:
    target = tmp_path / name
    with pytest.raises(FileError, match=f"^Could not write file {target}: "):
        atomic_write(target, b"")
    assert os.listdir(tmp_path) == []


def test_errors_of_other_files_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_writer(tmp_path / "model"):
        (tmp_path / "elsewhere" / "input").read_bytes()
    assert os.listdir(tmp_path) == []
