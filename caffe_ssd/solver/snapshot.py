"""Solver states in and out: `.solverstate` (binary) and `.solverstate.h5`.

Spec: caffe-net.md section 12.

Deliberate difference: an HDF5 state without `minimum_loss` and `iter_last_event`, as a Caffe
without this fork's additions writes it, gets their defaults; the reference refuses it.
Addition: what a state belongs to (`origin.py`), in field 10001 or the data set `origin`, which the
reference does not look at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from caffe_ssd.errors import ProtoError
from caffe_ssd.files import atomic_writer
from caffe_ssd.hdf5 import check_stored, member, open_hdf5, read_numbers
from caffe_ssd.proto.binary import read_binary, write_binary
from caffe_ssd.proto.blobs import array_to_blob, blob_to_array
from caffe_ssd.proto.caffe_pb2 import SnapshotOrigin, SolverState
from caffe_ssd.solver.policies import ScheduleState
from caffe_ssd.startup import Later

if TYPE_CHECKING:
    import h5py
else:
    h5py = Later("h5py")


@dataclass(frozen=True, kw_only=True)
class SavedState:
    """What a solver state file holds.

    Args:
        iteration: the number of completed updates.
        learned_net: path of the weights as written; empty if there is none.
        history: the history blobs, in the order of caffe-solver.md section 4.
        schedule: the position of the learning-rate policy.
        origin: what the state belongs to; None in a state of the reference.
    """

    iteration: int
    learned_net: str
    history: list[NDArray[np.float32]]
    schedule: ScheduleState = field(default_factory=ScheduleState)
    origin: SnapshotOrigin | None = None


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
        origin=state.origin,
    )
    write_binary(path, message)


def read_state(path: str | Path) -> SavedState:
    """Read a state in the form its name says.

    Raises:
        FileError: the file cannot be opened.
        ProtoError: it is no solver state, or damaged.
    """
    state = _read_hdf5(path) if is_hdf5(path) else _read_binary(path)
    if state.iteration < 0:
        raise ProtoError(f"{path} is no solver state: its iteration is {state.iteration}")
    for i, blob in enumerate(state.history):
        if not np.isfinite(blob).all():
            raise ProtoError(f"{path}: history blob {i} holds numbers that are not finite")
    return state


def _read_binary(path: str | Path) -> SavedState:
    message = read_binary(path, SolverState())
    if not message.HasField("iter"):
        raise ProtoError(f"{path} is no solver state: it holds no iteration")
    try:
        history = [blob_to_array(blob) for blob in message.history]
    except ProtoError as error:
        raise ProtoError(f"{path}: history: {error}") from error
    return SavedState(
        iteration=message.iter,
        learned_net=message.learned_net,
        history=history,
        schedule=ScheduleState(
            current_step=message.current_step,
            minimum_loss=message.minimum_loss,
            iter_last_event=message.iter_last_event,
        ),
        origin=message.origin if message.HasField("origin") else None,
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
        if state.origin is not None:  # too long for an attribute
            file["origin"] = np.frombuffer(state.origin.SerializeToString(), np.uint8)


def _read_hdf5(path: str | Path) -> SavedState:
    with open_hdf5(path) as file:
        try:
            return _state_of(file)
        except ProtoError as error:
            if str(error).startswith(str(path)):
                raise
            raise ProtoError(f"{path} is no HDF5 solver state: {error}") from error


def _state_of(file: Any) -> SavedState:
    default = ScheduleState()
    iteration = _whole(file, "iter")
    history = member(file, "history")
    if not isinstance(history, h5py.Group):
        raise ProtoError("it has no group history")
    return SavedState(
        iteration=iteration,
        learned_net=_text(file, "learned_net"),
        history=[_numbers(history, str(i)) for i in range(len(history))],
        schedule=ScheduleState(
            current_step=_whole(file, "current_step"),
            minimum_loss=_number(file, "minimum_loss", default.minimum_loss),
            iter_last_event=_whole(file, "iter_last_event", default.iter_last_event),
        ),
        origin=_origin(file),
    )


def _dataset(group: Any, name: str) -> Any:
    """A dataset of this very file: a link could lead to any other."""
    found = member(group, name)
    if not isinstance(found, h5py.Dataset):
        raise ProtoError(f"it has no dataset {name}")
    check_stored(found)
    return found


def _numbers(group: Any, name: str) -> NDArray[np.float32]:
    return read_numbers(_dataset(group, name))


def _number(file: Any, name: str, default: float | None = None) -> float:
    if default is not None and name not in file:
        return default
    found = _dataset(file, name)
    if found.dtype.kind not in "fiu" or found.size != 1:
        raise ProtoError(f"{name} is not one number but {found.dtype}, shape {found.shape}")
    return float(np.asarray(found[()]).item())


def _whole(file: Any, name: str, default: int | None = None) -> int:
    value = _number(file, name, default)
    if not float(value).is_integer():
        raise ProtoError(f"{name} must be a whole number, got {value}")
    return int(value)


def _text(file: Any, name: str) -> str:
    if name not in file:
        return ""
    found = _dataset(file, name)
    value = found[()] if found.size == 1 else None
    value = value.item() if isinstance(value, np.ndarray) else value
    if not isinstance(value, bytes):
        raise ProtoError(f"{name} is not one text but {found.dtype}, shape {found.shape}")
    return value.decode()


def _origin(file: Any) -> SnapshotOrigin | None:
    if "origin" not in file:
        return None
    try:
        return SnapshotOrigin.FromString(bytes(_dataset(file, "origin")[()]))
    except DecodeError as error:
        raise ProtoError("what it says of its origin is damaged") from error
