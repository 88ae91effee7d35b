"""Solver states in and out: `.solverstate` (binary) and `.solverstate.h5`.

Spec: caffe-net.md section 12.

Deliberate difference: an HDF5 state without `minimum_loss` and `iter_last_event`, as a Caffe
without this fork's additions writes it, gets their defaults; the reference refuses it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.errors import FileError, ProtoError
from caffe_ssd.files import atomic_writer
from caffe_ssd.proto.binary import read_binary, write_binary
from caffe_ssd.proto.blobs import array_to_blob, blob_to_array
from caffe_ssd.proto.caffe_pb2 import SolverState
from caffe_ssd.solver.policies import ScheduleState


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """What a solver state file holds.

    Args:
        iteration: the number of completed updates.
        learned_net: path of the weights as written; empty if there is none.
        history: the history blobs, in the order of caffe-solver.md section 4.
        schedule: the position of the learning-rate policy.
    """

    iteration: int
    learned_net: str
    history: list[NDArray[np.float32]]
    schedule: ScheduleState = field(default_factory=ScheduleState)


def is_hdf5(path: str | Path) -> bool:
    """Whether a file name means HDF5 rather than a binary message."""
    return str(path).endswith(".h5")


def write_state(path: str | Path, state: SavedState) -> None:
    """Write a state in the form its name asks for; the file appears whole or not at all.

    Raises:
        FileError: the file cannot be written.
    """
    if is_hdf5(path):
        _write_hdf5(path, state)
        return
    message = SolverState(
        iter=state.iteration,
        learned_net=state.learned_net,
        current_step=state.schedule.current_step,
        minimum_loss=state.schedule.minimum_loss,
        iter_last_event=state.schedule.iter_last_event,
        history=[array_to_blob(blob) for blob in state.history],
    )
    write_binary(path, message)


def read_state(path: str | Path) -> SavedState:
    """Read a state in the form its name says.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: it is no solver state.
    """
    return _read_hdf5(path) if is_hdf5(path) else _read_binary(path)


def _read_binary(path: str | Path) -> SavedState:
    message = read_binary(path, SolverState())
    if not message.HasField("iter"):
        raise ProtoError(f"{path} is no solver state: it holds no iteration")
    return SavedState(
        iteration=message.iter,
        learned_net=message.learned_net,
        history=[blob_to_array(blob) for blob in message.history],
        schedule=ScheduleState(
            current_step=message.current_step,
            minimum_loss=message.minimum_loss,
            iter_last_event=message.iter_last_event,
        ),
    )


def _write_hdf5(path: str | Path, state: SavedState) -> None:
    # The reference reads C strings: room for the closing zero byte belongs to the type.
    name = state.learned_net.encode()
    with atomic_writer(path) as target, h5py.File(target, "w") as file:
        file["iter"] = np.array([state.iteration], np.int32)
        file["learned_net"] = np.array(name, f"S{len(name) + 1}")
        file["current_step"] = np.array([state.schedule.current_step], np.int32)
        file["iter_last_event"] = np.array([state.schedule.iter_last_event], np.int32)
        file["minimum_loss"] = np.array([state.schedule.minimum_loss], np.float32)
        group = file.create_group("history")
        for i, blob in enumerate(state.history):
            group[str(i)] = blob.astype(np.float32)


def _read_hdf5(path: str | Path) -> SavedState:
    try:
        with h5py.File(path, "r") as file:
            return _state_of(file)
    except KeyError as error:
        raise ProtoError(f"{path} is no HDF5 solver state: {error.args[0]}") from error
    except FileNotFoundError as error:
        raise FileError(f"Could not open file {path}: No such file or directory") from error
    except OSError as error:
        raise ProtoError(f"{path} is no HDF5 file: {error}") from error


def _state_of(file: Any) -> SavedState:
    default = ScheduleState()
    name = file["learned_net"][()] if "learned_net" in file else b""
    return SavedState(
        iteration=int(_scalar(file, "iter")),
        learned_net=name.decode() if isinstance(name, bytes) else str(name),
        history=[
            np.asarray(file["history"][str(i)], np.float32) for i in range(len(file["history"]))
        ],
        schedule=ScheduleState(
            current_step=int(_scalar(file, "current_step")),
            minimum_loss=float(_scalar(file, "minimum_loss", default.minimum_loss)),
            iter_last_event=int(_scalar(file, "iter_last_event", default.iter_last_event)),
        ),
    )


def _scalar(file: Any, name: str, default: float | None = None) -> float:
    if default is not None and name not in file:
        return default
    return float(np.asarray(file[name]).reshape(-1)[0])
