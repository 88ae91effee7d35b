"""How the net was trained and with what: settings, reasons, versions."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from caffe_ssd import __version__
from caffe_ssd.errors import CaffeError
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.proto.text import format_text, read_net
from caffe_ssd.report.page import Section, code, facts, folded, heading
from caffe_ssd.report.sections.known import Known

_SHOWN_ALWAYS = (
    ("iterations", "max_iter"),
    ("update rule", "type"),
    ("momentum", "momentum"),
    ("weight decay", "weight_decay"),
    ("random seed", "random_seed"),
    ("version of AP", "ap_version"),
)
_CPU_INFO = Path("/proc/cpuinfo")


def settings(known: Known) -> Section:
    """The solver's key values, the reasons of `caffe fit`, and versions."""
    content: list[object] = []
    reasons = _reasons(known.notes)
    if reasons:
        content.append(heading("What was chosen, and why"))
        content.append(facts(list(reasons.items())))
    if known.files.solver is not None:
        content.append(heading("Training"))
        content.append(facts(_solver_rows(known)))
        content.append(folded("The whole solver", code(format_text(known.files.param))))
    content.append(heading("Versions"))
    content.append(facts(_versions(known)))
    return Section("settings", "Settings", content)


def _reasons(notes: Mapping[str, Any]) -> dict[str, str]:
    """The sentences of fit.json, wherever its version keeps them."""
    plan = notes.get("plan")
    for place in (notes, plan if isinstance(plan, dict) else {}):
        reasons = place.get("reasons")
        if isinstance(reasons, dict):
            return {str(name): str(why) for name, why in reasons.items()}
    return {}


def _solver_rows(known: Known) -> list[tuple[str, object]]:
    param = known.files.param
    rows: list[tuple[str, object]] = [("learning rate", _rate(param)), *_batch(known)]
    for name, field in _SHOWN_ALWAYS:
        if param.HasField(field) or field == "type":
            value = getattr(param, field)
            rows.append((name, f"{value:g}" if isinstance(value, float) else str(value)))
    if param.clip_gradients > 0:
        rows.append(("gradients clipped at", f"{param.clip_gradients:g}"))
    return rows


def _rate(param: SolverParameter) -> str:
    text = f"{param.base_lr:g}, {param.lr_policy}"
    if param.lr_policy == "multistep":
        steps = ", ".join(f"{step:,}" for step in param.stepvalue)
        text += f": times {param.gamma:g} after {steps} iterations"
    elif param.lr_policy == "step":
        text += f": times {param.gamma:g} every {param.stepsize:,} iterations"
    elif param.lr_policy == "poly":
        text += f" of power {param.power:g}"
    return text


def _batch(known: Known) -> list[tuple[str, str]]:
    """Images of an iteration, where the train net can be read."""
    model = known.files.train_model
    if model is None:
        return []
    try:
        layers = read_net(model).layer
    except CaffeError:
        return []
    train = [each for each in layers if each.data_param.batch_size and not _is_test(each)]
    if not train:
        return []
    batch, passes = train[0].data_param.batch_size, known.files.param.iter_size
    text = f"{batch}" if passes == 1 else f"{batch} × {passes} passes = {batch * passes}"
    return [("pictures per iteration", text)]


def _is_test(layer: Any) -> bool:
    return any(rule.HasField("phase") and rule.phase == 1 for rule in layer.include)


def _versions(known: Known) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name in ("begun", "machine", "source"):
        if isinstance(known.notes.get(name), str):
            rows.append((f"training: {name}", known.notes[name]))
    at_fit = known.notes.get("versions")
    if isinstance(at_fit, dict):
        texts = (f"{name} {each}" for name, each in at_fit.items())
        rows.append(("training: versions", ", ".join(texts)))
    rows.append(("caffe-ssd", __version__))
    rows.append(("PyTorch", version("torch")))
    rows.append(("Python", platform.python_version()))
    rows.append(("machine of this report", machine(known)))
    return rows


def machine(known: Known) -> str:
    """The processor, or the GPU on which the net was scored."""
    evaluation = known.evaluation
    if evaluation is not None and evaluation.device.type == "cuda":
        return torch.cuda.get_device_name(evaluation.device)
    threads = torch.get_num_threads()
    name = platform.processor() or platform.machine()
    if _CPU_INFO.is_file():
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
        named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        name = named[0] if named else name
    return f"{name}, {threads} thread{'' if threads == 1 else 's'}"
