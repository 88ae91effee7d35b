"""Digests that tell one net, and one machine, from another: names for what was measured on them."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from torch import nn

from caffe_ssd.engines.frozen_net import FrozenNet

_CPU_INFO = Path("/proc/cpuinfo")
_CPU_WORDS = ("model name", "cpu family", "model", "stepping", "flags", "Features", "CPU part")


def structure_digest(net: FrozenNet) -> str:
    """Equal for nets that do the same with weights of the same shapes."""
    digest = hashlib.sha256()
    for op in net.program:
        message = op.step.param.SerializeToString(deterministic=True)
        shapes = [(name, tuple(blob.shape)) for name, blob in op.layer.state_dict().items()]
        wiring = (op.bottoms, op.tops, shapes, type(op.layer).__name__, _settings(op.layer))
        digest.update(repr((message, wiring)).encode())
    digest.update(repr((net.inputs, net.outputs)).encode())
    return digest.hexdigest()


def weights_digest(net: FrozenNet) -> str:
    """Equal for nets that hold the same numbers."""
    digest = hashlib.sha256()
    for blob in net.state_dict().values():
        digest.update(blob.detach().cpu().contiguous().reshape(-1).numpy())
    return digest.hexdigest()


def processor() -> str:
    """The processor's model and abilities, as far as the system tells."""
    try:
        first = _CPU_INFO.read_text().split("\n\n")[0]
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    lines = (line.split(":", 1) for line in first.splitlines() if ":" in line)
    known = {name.strip(): text.strip() for name, text in lines}
    return "; ".join(f"{word}: {known[word]}" for word in _CPU_WORDS if word in known)


def _settings(layer: nn.Module) -> list[tuple[str, object]]:
    """What joining changed beside a layer's message, such as a ReLU."""
    plain = (bool, int, float, str)
    return sorted((name, each) for name, each in vars(layer).items() if isinstance(each, plain))
