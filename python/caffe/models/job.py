"""Files of a training on disk: prototxt, snapshots, and the shell job that runs `caffe train`."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading

from google.protobuf import text_format

from caffe.models.files import make_folder, write_whole

try:
    from shlex import quote
except ImportError:  # Python 2.7
    from pipes import quote

BUILT_CAFFE = "./build/tools/caffe"
AUTO = "auto"  # as a snapshot: the newest one that is whole
_GRACE_S = 3
# Run the job given as $0 so that a signal ends neither the shell nor the log before `caffe`.
_STEADY = 'trap : INT TERM HUP; tee() { trap "" INT TERM HUP; exec tee "$@"; }; source "$0"'


def write_prototxt(path, message):
    """Write a message as text, through a temporary file beside it."""
    _write(path, text_format.MessageToString(message))


def _write(path, text):
    write_whole(path, text if isinstance(text, bytes) else text.encode("utf-8"))


def newest_snapshot(prefix, suffix):
    """Return the file `<prefix>_iter_<N><suffix>`, `.h5` or not, with the largest N.

    Args:
        prefix: the solver's snapshot_prefix.
        suffix: `.solverstate` or `.caffemodel`.
    """
    folder, stem = os.path.split(prefix)
    pattern = re.compile(re.escape(stem) + r"_iter_(\d+)" + re.escape(suffix) + r"(\.h5)?\Z")
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return None
    matches = [(pattern.match(name), name) for name in names]
    found = [(int(match.group(1)), name) for match, name in matches if match is not None]
    return os.path.join(folder, max(found)[1]) if found else None


def shell_job(
    solver,
    log,
    gpus,
    snapshot=None,
    weights=None,
    extras=(),
):
    """Return the text of the shell job.

    Args:
        solver: the solver's prototxt.
        log: gets the whole log; a resumed training appends to it.
        gpus: device ids; none means the CPU.
        snapshot: solver state to resume from; `auto` for the newest, which an original build lacks.
        weights: model to start from where nothing is resumed.
        extras: flags that the original does not have; left out for an original build.
    """
    flags = ["--solver={}".format(_quoted(solver))]
    if snapshot is not None:
        flags.append("--snapshot={}".format(_quoted(snapshot)))
    elif weights is not None:
        flags.append("--weights={}".format(_quoted(weights)))
    if os.path.exists(BUILT_CAFFE):
        last = _tee(log, appends=snapshot is not None)
    else:  # it writes the log itself, and so keeps the terminal
        flags += extras
        last = "--log={}".format(_quoted(log))
    return _shell("train", flags, gpus, last)


def scoring_job(model, log, gpus, weights, extras):
    """Return the text of a shell job that runs `caffe test` on a test net; see `shell_job`."""
    flags = ["--model={}".format(_quoted(model)), "--weights={}".format(_quoted(weights))]
    return _shell("test", flags + list(extras), gpus, _tee(log, appends=False))


def timing_job(model, log, gpus, weights, passes):
    """Return the text of a shell job that runs `caffe time` on a test net; see `shell_job`."""
    flags = ["--model={}".format(_quoted(model)), "--phase=TEST"]
    if weights is not None:
        flags.append("--weights={}".format(_quoted(weights)))
    flags.append("--iterations={}".format(passes))
    return _shell("time", flags, gpus, _tee(log, appends=False))


def _tee(log, appends):
    return "2>&1 | {} {}".format("tee -a" if appends else "tee", quote(log))


def _shell(action, flags, gpus, last):
    caffe = BUILT_CAFFE if os.path.exists(BUILT_CAFFE) else "caffe"
    if gpus:
        last = "--gpu {} {}".format(",".join(str(gpu) for gpu in gpus), last)
    lines = ["{} {} \\".format(caffe, action)] + ["{} \\".format(flag) for flag in flags] + [last]
    return "\n".join(["cd {}".format(quote(os.getcwd()))] + lines + [""])


def _quoted(path):
    return '"' + re.sub(r'([\\"$`])', r"\\\1", path) + '"'


def write_job(places, name, messages, shell, script):
    """Write all files of a job and return the path of its shell script.

    Args:
        places: folders; made where they are missing.
        name: of the shell script, without `.sh`.
        messages: `train`, `test`, `deploy`, `solver`; each goes to `<name>.prototxt`.
        shell: text of the shell script.
        script: the Python file that asked for it; a copy is kept with the job.
    """
    for folder in (places.model_dir, places.snapshot_dir, places.job_dir):
        make_folder(folder)
    for kind, message in messages.items():
        path = os.path.join(places.model_dir, "{}.prototxt".format(kind))
        write_prototxt(path, message)
        _copy_into(places.job_dir, path)
    if script is not None:
        _copy_into(places.job_dir, script)
    path = os.path.join(places.job_dir, "{}.sh".format(name))
    _write(path, shell)
    os.chmod(path, 0o755)
    return path


def _copy_into(folder, path):
    # The same file: the job's own copy of the script was started, or both folders are one.
    try:
        shutil.copy(path, folder)
    except shutil.Error:
        pass


def run_job(path):
    """Run a shell job and return the exit status of `caffe train`."""
    # `caffe` may be installed next to a Python whose folder is not on the path.
    folder = os.path.dirname(os.path.abspath(sys.executable))
    env = dict(os.environ, PATH=os.pathsep.join([os.environ.get("PATH", ""), folder]))
    # In a group of its own, so that Ctrl-C reaches the job once: by way of this process.
    job = subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", _STEADY, path],
        env=env,
        preexec_fn=getattr(os, "setsid", None),
    )

    stopping = [signal.SIGINT, signal.SIGTERM]
    seen = []

    def hand_on(number, frame):
        _signal_group(job, number)
        seen.extend([number] if number in stopping else [])
        if len(seen) == 2:  # it should end at once; what hangs does not
            killer = threading.Timer(_GRACE_S, _signal_group, [job, getattr(signal, "SIGKILL", 9)])
            killer.daemon = True
            killer.start()

    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            before[number] = signal.signal(number, hand_on)
    try:
        return _wait(job)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _signal_group(job, number):
    try:
        os.killpg(job.pid, number)
    except OSError:  # it has just ended
        pass


def _wait(job):
    while True:
        try:
            return job.wait()
        except OSError:  # Python 2: a signal came
            pass
