"""The two files of a snapshot: what they are called, writing them, and finding the weights again.

Spec: caffe-net.md section 12.
"""

from __future__ import annotations

import logging
from pathlib import Path

from caffe_ssd import log
from caffe_ssd.errors import FileError, SolverError
from caffe_ssd.net import Net
from caffe_ssd.net.weights import save_binary, save_hdf5
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.solver.snapshot import SavedState, write_state

logger = logging.getLogger(__name__)


def snapshot_paths(param: SolverParameter, iteration: int) -> tuple[str, str]:
    """The paths of the model and of the state after `iteration` updates."""
    suffix = "" if _is_binary(param) else ".h5"
    stem = f"{param.snapshot_prefix}_iter_{iteration}"
    return f"{stem}.caffemodel{suffix}", f"{stem}.solverstate{suffix}"


def write_snapshot(param: SolverParameter, net: Net, state: SavedState) -> tuple[str, str]:
    """Write the weights, then the state; both files appear whole or not at all.

    Args:
        param: the solver's settings.
        net: the train net.
        state: what else is saved; its `learned_net` should be the first of `snapshot_paths`.

    Returns:
        The paths of the model and of the state.

    Raises:
        FileError: a file cannot be written.
    """
    is_binary = _is_binary(param)
    model_path, state_path = snapshot_paths(param, state.iteration)
    (log.SNAPSHOT_BINARY if is_binary else log.SNAPSHOT_HDF5).write(path=model_path)
    (save_binary if is_binary else save_hdf5)(net, model_path, diff=param.snapshot_diff)
    (log.STATE_BINARY if is_binary else log.STATE_HDF5).write(path=state_path)
    write_state(state_path, state)
    return model_path, state_path


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


def find_model(path: str, state: Path) -> str:
    """Where the weights of a solver state are: where it says, or else beside it."""
    beside = state.parent / Path(path).name
    if Path(path).exists() or not beside.exists():
        return path
    logger.warning("%s does not exist; taking %s", path, beside)
    return str(beside)


def _is_binary(param: SolverParameter) -> bool:
    return param.snapshot_format == SolverParameter.BINARYPROTO
