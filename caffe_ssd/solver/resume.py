"""Going on from a snapshot: all of it or nothing, and only with what it belongs to.

Spec: caffe-net.md section 12.

Deliberate difference: the reference takes any weights and any settings whose shapes fit. Here the
weights must be those that were written with the state, and the net the one that was trained.
Changed settings are warned of where a state was named by hand, and refused where it was chosen
automatically. A state of the reference, which does not say what it belongs to, is taken as it is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe_ssd.errors import CaffeError, FileError, SolverError
from caffe_ssd.net import Net
from caffe_ssd.net.loading import load_whole
from caffe_ssd.proto.caffe_pb2 import SnapshotOrigin
from caffe_ssd.solver.origin import changes, file_digest
from caffe_ssd.solver.snapshot import SavedState, read_state
from caffe_ssd.solver.snapshot_files import saved_states
from caffe_ssd.solver.updater import Updater

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """Both files of a snapshot, found to belong together.

    Args:
        path: the state's file.
        state: what it holds.
        model: the weights' file; empty if the state names none.
    """

    path: Path
    state: SavedState
    model: str


def open_snapshot(path: str | Path) -> Snapshot:
    """Read a state and find its weights: where it says, or else beside it.

    Raises:
        FileError: a file cannot be read.
        ProtoError: the file is no solver state.
        SolverError: the weights are not those that were written with the state.
    """
    path = Path(path)
    state = read_state(path)
    if not state.learned_net:
        return Snapshot(path=path, state=state, model="")
    return Snapshot(path=path, state=state, model=_find_model(path, state))


def newest_snapshot(prefix: str) -> Path | None:
    """The newest state under a prefix whose two files are whole; None if there is no state.

    One that is not whole is passed over with a warning.

    Args:
        prefix: `snapshot_prefix`.

    Raises:
        SolverError: there are states, but none can be read.
    """
    states = saved_states(prefix)
    for path in states:
        try:
            open_snapshot(path)
        except CaffeError as error:
            logger.warning("Cannot resume from %s, taking the one before: %s", path, error)
        else:
            return path
    if states:
        raise SolverError(
            f"none of the {len(states)} snapshots {prefix}_iter_*.solverstate can be read; "
            "move them away to start anew"
        )
    return None


def restore_snapshot(
    path: str | Path,
    net: Net,
    updater: Updater,
    origin: SnapshotOrigin | None,
    *,
    strict: bool = False,
) -> SavedState:
    """Give weights and history of a snapshot to a training; it is unchanged if that fails.

    Args:
        path: the state's file.
        net: the train net.
        updater: gets the history.
        origin: the training as it is now; None to compare the weights only.
        strict: refuse changed settings, too, rather than warn of them.

    Returns:
        The state.

    Raises:
        FileError: a file cannot be read.
        ProtoError: the file is no solver state, or its history does not fit.
        WeightsError: the weights do not fit the net.
        SolverError: the snapshot belongs to something else; names every difference.
    """
    snapshot = open_snapshot(path)
    state = snapshot.state
    if origin is not None:
        _compare(path, state.origin, origin, strict=strict)
    updater.check_history(state.history, str(path))
    if snapshot.model:
        load_whole(net, snapshot.model, advice="The snapshot belongs to another net.")
    updater.restore_history(state.history, str(path))
    return state


def _find_model(path: Path, state: SavedState) -> str:
    named, beside = Path(state.learned_net), path.parent / Path(state.learned_net).name
    there = [file for file in dict.fromkeys((named, beside)) if file.exists()]
    if not there:
        raise FileError(f"Could not open file {named}: No such file or directory ({path} needs it)")
    wanted = "" if state.origin is None else state.origin.weights_sha256
    if wanted:
        there = [file for file in there if file_digest(file) == wanted]
        if not there:
            raise SolverError(
                f"{path} does not belong to the weights in {named}: their checksum is another "
                "one. A crash between the two files leaves such a pair, and so does a training "
                "that wrote over one of them. Resume from another snapshot"
            )
    if there[0] != named:
        logger.warning("%s is not there or not the one; taking %s", named, there[0])
    return str(there[0])


def _compare(
    path: str | Path, old: SnapshotOrigin | None, new: SnapshotOrigin, *, strict: bool
) -> None:
    if old is None:
        logger.info(
            "%s does not say what net and settings it belongs to, as states of the original "
            "Caffe do not; it is taken as it is",
            path,
        )
        return
    found = changes(old, new)
    if found.net:
        raise SolverError(_text(f"{path} belongs to another net", [*found.net, *found.settings]))
    if not found.settings:
        return
    if strict:
        advice = (
            "Settings were changed since; name this file as the snapshot to go on with the new "
            "ones, or choose another snapshot_prefix to start anew"
        )
        raise SolverError(_text(f"{path} is not resumed by itself", found.settings, advice))
    logger.warning("%s", _text(f"{path} was written with other settings", found.settings))


def _text(title: str, lines: Sequence[str], advice: str = "") -> str:
    return "\n  ".join([f"{title}:", *lines, *([advice] if advice else [])])
