"""Two trainings never write under one prefix; a dead one does not count."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from caffe_ssd.errors import FileError, SolverError
from caffe_ssd.solver.prefix_lock import prefix_lock

HOLD = """
import os, sys, time
from caffe_ssd.solver.prefix_lock import prefix_lock
with prefix_lock(sys.argv[1]):
    if os.fork() == 0:  # a data worker, which lives on
        os.close(1)
        time.sleep(60)
        os._exit(0)
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_dead(tmp_path: Path, monkeypatch) -> None:
    prefix = str(tmp_path / "s")
    command = [sys.executable, "-c", HOLD, prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as holder:
        assert holder.stdout.readline() == b"held\n"
        match = rf"another training writes to snapshot_prefix .*\(process {holder.pid} on "
        with pytest.raises(SolverError, match=match), prefix_lock(prefix):
            pass
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SolverError, match="another training"), prefix_lock("./s"):
            pass
        with prefix_lock(f"{prefix}2"):
            pass
        holder.kill()
        holder.wait()
        with prefix_lock(prefix):  # its forked child lives on and does not hold it
            assert [path.name for path in tmp_path.iterdir()] == [".s.lock"]
        os.killpg(holder.pid, 9)
    assert not list(tmp_path.iterdir())


def test_blocks_of_one_process_share_it(tmp_path: Path) -> None:
    prefix = str(tmp_path / "s")
    with prefix_lock(prefix):
        with prefix_lock(prefix):
            pass
        assert (tmp_path / ".s.lock").exists()
    assert not (tmp_path / ".s.lock").exists()


def test_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="create the folder first"), prefix_lock(f"{tmp_path}/no/s"):
        pass
    with prefix_lock(""):
        pass
