"""What a solver state belongs to: the weights beside it, the train net, the settings.

A state says it in a field that the original ignores, so that a resume can name every difference.
Another net is never resumed. Changed settings of the same net are something that people do on
purpose, so they are left to the caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from caffe_ssd.errors import FileError
from caffe_ssd.net import Net
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, SnapshotOrigin, SolverParameter
from caffe_ssd.proto.differences import Difference, differences
from caffe_ssd.solver.policies import needs_loss

# Settings that say where things are, what is shown and when to stop, not how to learn.
_NO_COURSE = (
    *("net", "net_param", "train_net", "train_net_param", "train_state"),
    *("test_net", "test_net_param", "test_state", "test_iter", "test_interval"),
    *("test_compute_loss", "test_initialization", "eval_type", "ap_version"),
    *("show_per_class_result", "display", "debug_info", "solver_mode", "device_id"),
    *("snapshot", "snapshot_prefix", "snapshot_diff", "snapshot_format", "snapshot_after_train"),
)
# Parts of a layer that change how it learns but not what it is.
_LEARNING = (
    *("param", "loss_weight", "propagate_down", "phase", "include", "exclude"),
    *("loss_param", "multibox_loss_param", "dropout_param", "batch_norm_param"),
)
_BLOCK_BYTES = 1 << 20
_MOST_NAMED = 5


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a training has that the state's training had not.

    Args:
        net: differences that make it another net, a line each.
        settings: other differences that change the course, likewise.
    """

    net: list[str]
    settings: list[str]


def make_origin(
    param: SolverParameter, net: Net, *, devices: int, options: Sequence[str]
) -> SnapshotOrigin:
    """What a state of this training belongs to, but for the weights.

    Args:
        param: the upgraded settings.
        net: the train net.
        devices: how many train together.
        options: what else changes the numbers, such as flags of the command.
    """
    origin = SnapshotOrigin(devices=devices, options=sorted(options))
    origin.solver.CopyFrom(param)
    for field in _NO_COURSE:
        origin.solver.ClearField(field)
    if param.lr_policy != "poly":  # the only one that looks at the end
        origin.solver.ClearField("max_iter")
    if not needs_loss(param):
        origin.solver.ClearField("average_loss")
    origin.train_net.name = net.name
    origin.train_net.layer.extend(step.param for step in net.steps if step.param.type != "Split")
    return origin


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises:
        FileError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    except OSError as error:
        raise FileError(f"Could not open file {path}: {error.strerror}") from error
    return digest.hexdigest()


def changes(old: SnapshotOrigin, new: SnapshotOrigin) -> Change:
    """Everything that differs between the training of a state and another one."""
    net, settings = _net_changes(old.train_net, new.train_net)
    settings = [each.describe() for each in differences(old.solver, new.solver)] + settings
    if old.devices != new.devices:
        settings.append(f"devices: {old.devices} then, {new.devices} now")
    settings += [f"-{name} was given, is not" for name in old.options if name not in new.options]
    settings += [
        f"-{name} was not given, is now" for name in new.options if name not in old.options
    ]
    return Change(net=net, settings=settings)


def _net_changes(old: NetParameter, new: NetParameter) -> tuple[list[str], list[str]]:
    before = [layer.name for layer in old.layer]
    after = [layer.name for layer in new.layer]
    if before != after:
        gone = [name for name in before if name not in after]
        added = [name for name in after if name not in before]
        lines = [
            f"{what}: {_names(names)}"
            for what, names in (("layers that are gone", gone), ("layers that are new", added))
            if names
        ]
        return lines if lines else ["the layers have another order"], []
    net: list[str] = []
    settings: list[str] = []
    for was, is_ in zip(old.layer, new.layer, strict=True):
        for each in differences(was, is_):
            lines = settings if _is_setting(was, each) else net
            lines.append(f"layer {was.name!r}: {each.describe()}")
    return net, settings


def _is_setting(layer: LayerParameter, difference: Difference) -> bool:
    path = difference.path
    if not layer.bottom:  # data are settings, but for the blobs that they feed
        return path[0] != "top"
    return path[0] in _LEARNING or any(name.endswith("_filler") for name in path)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(map(repr, names[:_MOST_NAMED])) + more
