"""The two files of a snapshot: what they are called, and writing them.

Spec: caffe-net.md section 12.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from caffe_ssd import log
from caffe_ssd.errors import DivergedError, FileError, SolverError
from caffe_ssd.net import Net
from caffe_ssd.net.weights import save_binary, save_hdf5
from caffe_ssd.proto.caffe_pb2 import SnapshotOrigin, SolverParameter
from caffe_ssd.solver.origin import file_digest
from caffe_ssd.solver.snapshot import SavedState, write_state


def snapshot_paths(param: SolverParameter, iteration: int) -> tuple[str, str]:
    """The paths of the model and of the state after `iteration` updates."""
    suffix = "" if _is_binary(param) else ".h5"
    stem = f"{param.snapshot_prefix}_iter_{iteration}"
    return f"{stem}.caffemodel{suffix}", f"{stem}.solverstate{suffix}"


def best_path(param: SolverParameter) -> str:
    """The path of the weights that scored best; see `best.py`."""
    suffix = "" if _is_binary(param) else ".h5"
    return f"{param.snapshot_prefix}_best.caffemodel{suffix}"


def saved_states(prefix: str) -> list[Path]:
    """The solver states under a prefix, the newest first."""
    folder, name = Path(prefix).parent, Path(prefix).name
    pattern = re.compile(re.escape(name) + r"_iter_(\d+)\.solverstate(\.h5)?")
    try:
        files = sorted(folder.iterdir())
    except OSError:
        return []
    found = [(pattern.fullmatch(path.name), path) for path in files]
    states = [(int(match[1]), path) for match, path in found if match is not None]
    return [path for _, path in sorted(states, reverse=True)]


def write_snapshot(param: SolverParameter, net: Net, state: SavedState) -> tuple[str, str]:
    """Write the weights, then the state; both files appear whole or not at all.

    Args:
        param: the solver's settings.
        net: the train net.
        state: what else is saved; its `learned_net` should be the first of `snapshot_paths`.

    Returns:
        The paths of the model and of the state.

    Raises:
        DivergedError: a number is not finite; nothing is written.
        FileError: a file cannot be written.
    """
    check_finite(net, state.iteration)
    check_history(net, state)
    model_path, state_path = snapshot_paths(param, state.iteration)
    _save(param, net, model_path)
    if state.origin is not None:
        origin = SnapshotOrigin()
        origin.CopyFrom(state.origin)
        origin.weights_sha256 = file_digest(model_path)
        state = replace(state, origin=origin)
    (log.STATE_BINARY if _is_binary(param) else log.STATE_HDF5).write(path=state_path)
    write_state(state_path, state)
    return model_path, state_path


def write_weights(param: SolverParameter, net: Net, path: str, iteration: int) -> None:
    """Write the weights alone; the file appears whole or not at all.

    Args:
        param: the solver's settings.
        net: the train net.
        path: the file, see `snapshot_paths` and `best_path`.
        iteration: the number of completed updates, for messages.

    Raises:
        DivergedError: a weight is not finite; names the layer.
        FileError: the file cannot be written.
    """
    check_finite(net, iteration)
    _save(param, net, path)


def check_finite(net: Net, iteration: int) -> None:
    """Make sure that weights are nothing but numbers.

    Raises:
        DivergedError: a weight is not finite; names the layer.
    """
    for name, blobs in net.layer_blobs():
        for i, blob in enumerate(blobs):
            if not torch.isfinite(blob.detach()).all():
                raise DivergedError(
                    f"no snapshot is written at iteration {iteration}: blob {i} of layer "
                    f"{name!r} holds numbers that are not finite"
                )


def check_history(net: Net, state: SavedState) -> None:
    """Make sure that a state holds nothing but numbers.

    Raises:
        DivergedError: a history blob is not finite; names the layer.
    """
    for i, values in enumerate(state.history):
        if not np.isfinite(values).all():
            entry = net.learnable[i % len(net.learnable)]
            raise DivergedError(
                f"no snapshot is written at iteration {state.iteration}: the history of blob "
                f"{entry.index} of layer {entry.layer!r} holds numbers that are not finite"
            )


def check_prefix(prefix: str, interval: int) -> None:
    """Make sure that snapshots can be written before hours of training.

    Args:
        prefix: `snapshot_prefix`.
        interval: `snapshot`, more than 0.

    Raises:
        SolverError: there is no prefix.
        FileError: no file can be made there.
    """
    if not prefix:
        raise SolverError(f"snapshot > 0 needs a snapshot_prefix, got snapshot: {interval} alone")
    probe = Path(f"{prefix}_iter_0.tempfile")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FileError(
            f"snapshot_prefix {prefix!r} cannot be written to: {error.strerror}; "
            "create the folder first"
        ) from error


def _save(param: SolverParameter, net: Net, path: str) -> None:
    is_binary = _is_binary(param)
    (log.SNAPSHOT_BINARY if is_binary else log.SNAPSHOT_HDF5).write(path=path)
    (save_binary if is_binary else save_hdf5)(net, path, diff=param.snapshot_diff)


def _is_binary(param: SolverParameter) -> bool:
    return param.snapshot_format == SolverParameter.BINARYPROTO
