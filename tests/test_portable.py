"""Everything can be imported where the system lacks what only Linux, or only Unix, has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Other packages are imported first: they know their systems. What is left out afterwards is what
# Windows, and in part macOS, do not have.
SCRIPT = """\
import importlib, pkgutil, sys
import cv2, fsspec, google.protobuf.text_format, h5py, lmdb, matplotlib.pyplot, numpy.testing
import rich.console, rich.progress, torch.distributed, torch.multiprocessing
import torch.utils.checkpoint, torch.utils.data
import multiprocessing.connection, os, select, signal, time

MISSING = {
    signal: ("SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGKILL", "SIGQUIT", "alarm",
             "setitimer", "pthread_sigmask", "SIG_BLOCK", "SIG_SETMASK", "sigwait"),
    os: ("fork", "register_at_fork", "sched_getaffinity", "sched_setaffinity", "setsid", "killpg",
         "getuid", "geteuid", "getloadavg", "uname", "sysconf", "posix_fadvise", "pread", "mkfifo",
         "sendfile", "O_DIRECTORY", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK", "nice", "statvfs"),
    select: ("poll", "epoll"),
    time: ("tzset", "clock_gettime", "CLOCK_MONOTONIC"),
}
for module, names in MISSING.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "syslog"):
    sys.modules[name] = None

count = 0
for top in ("caffe_ssd", "caffe", "lmdb_tools"):
    package = importlib.import_module(top)
    for module in pkgutil.walk_packages(package.__path__, f"{top}."):
        importlib.import_module(module.name)
        count += 1
"""


def without_unix(code: str) -> str:
    """Run code after the script above, and return what it prints."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "python")])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "Agg"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_can_be_imported() -> None:
    found = sum(
        not path.name.startswith("__init__")
        for folder in ("caffe_ssd", "python/caffe", "lmdb_tools")
        for path in (ROOT / folder).rglob("*.py")
    )
    assert int(without_unix("print(count)")) >= found


def test_ctrl_c_still_stops_where_there_is_no_hangup() -> None:
    code = """
from caffe_ssd.devices import default_workers
from caffe_ssd.cli.signals import watch
assert 0 <= default_workers(torch.device("cpu")) < os.cpu_count()
with watch(sigint_effect="stop", sighup_effect="snapshot") as actions:
    signal.raise_signal(signal.SIGINT)
    print(actions.action().value)
"""
    assert without_unix(code) == "stop\n"


def test_they_are_left_out_indeed() -> None:
    code = """
for line in ("os.fork", "signal.SIGHUP", "import fcntl"):
    try:
        exec(line)
    except (AttributeError, ImportError) as error:
        print(type(error).__name__)
"""
    assert without_unix(code).split() == ["AttributeError", "AttributeError", "ModuleNotFoundError"]
