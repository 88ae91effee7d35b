"""Training on two simulated devices, a process each, beside two processes on the CPU.

The processes are started as `torchrun` starts them, by variables of the environment. Not simulated
are NCCL itself, for which gloo stands (see simulated_peers.py), its streams, and the processes that
`-gpu 0,1` starts by itself: the simulation has to be there before PyTorch is imported.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from caffe_ssd.cli.main import main
from caffe_ssd.proto.caffe_pb2 import NetParameter
from tests.device.test_commands import folder, losses
from tests.device.test_simulated import ROOT, START, guard, pytestmark

__all__ = ["folder", "guard", "pytestmark"]

TRAIN = ["train", "-workers", "0", "-peer_timeout", "300", "-solver"]


def run_two(guard: Path, *arguments: str) -> list[Any]:
    """What `caffe` does as rank 0 and as rank 1 of two, in the current folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    common = {"PYTHONPATH": path, "WORLD_SIZE": "2", "SIMULATED_DEVICES": "2"}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(guard), "command", json.dumps(arguments)],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    said = [process.communicate() for process in started]
    for process, (_, errors) in zip(started, said, strict=True):
        assert process.returncode == 0, errors[-3000:]
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


def weights(path: str) -> NDArray[np.float32]:
    net = NetParameter.FromString(Path(path).read_bytes())
    return np.concatenate([blob.data for layer in net.layer for blob in layer.blobs])


def test_as_two_processes_on_the_cpu(
    guard: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    solver = next(Path("model").glob("**/solver.prototxt")).read_text()
    solver = re.sub(r"\bdisplay: \d+", "display: 1", solver)
    names = ("cpus", "gpus", "graphs")
    for name in names:
        Path(name).mkdir()
        text = re.sub(r'snapshot_prefix: ".*"', f'snapshot_prefix: "{name}/net"', solver)
        Path(f"{name}.prototxt").write_text(text)
    on_cpus = ["-cpu_processes", "2", "-channels_last=false"]  # as GPUs compute
    assert main([*TRAIN, "cpus.prototxt", *on_cpus]) == 0
    for name, flags in (("gpus", ()), ("graphs", ("-cuda_graph",))):
        found = run_two(guard, *TRAIN, f"{name}.prototxt", "-gpu", "0,1", *flags)
        for rank, each in enumerate(found):  # nothing is computed on the other's device
            assert each == {"statuses": [0], "used": [f"cuda:{rank}"]}
    want, have, graphs = (
        losses(Path(f"{x}/net_results.jsonl")) for x in ("cpus", "gpus", "graphs")
    )
    assert len(want) == 4
    assert have == pytest.approx(want, rel=1e-4)
    assert graphs == have
    last = "net_iter_4.caffemodel"
    np.testing.assert_allclose(weights(f"gpus/{last}"), weights(f"cpus/{last}"), 1e-2, 1e-4)
    assert Path(f"graphs/{last}").read_bytes() == Path(f"gpus/{last}").read_bytes()
