"""DSOD300's training iteration: images per second, memory, how long the host takes; its kernels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu_check.clock import median_seconds, seconds_in_a_row
from benchmarks.gpu_check.nets import FULL, TOY, Kind, memory_solver
from benchmarks.gpu_check.report import Report, Setting
from caffe_ssd.devices import allow_tf32, set_up_device
from caffe_ssd.layers.multibox_loss import MultiBoxLoss
from caffe_ssd.net.captured import WARM_UP

COLUMNS = ("what", "batch", "ms", "ms of the host", "images/s", "peak MB")


@dataclass(frozen=True, kw_only=True)
class Way:
    """How an iteration is computed; each as the flag of its name."""

    tf32: bool = False
    bf16: bool = False
    channels_last: bool = False
    checkpoint: bool = False
    cuda_graph: bool = False


WAYS = {
    "fp32": Way(),
    "TF32": Way(tf32=True),
    "TF32, -cuda_graph": Way(tf32=True, cuda_graph=True),
    "TF32, -channels_last": Way(tf32=True, channels_last=True),
    "-bf16": Way(tf32=True, bf16=True),
    "-bf16 -cuda_graph": Way(tf32=True, bf16=True, cuda_graph=True),
    "-bf16 -channels_last": Way(tf32=True, bf16=True, channels_last=True),
    "TF32, -checkpoint": Way(tf32=True, checkpoint=True),
}
_QUICK = ("fp32", "TF32", "TF32, -cuda_graph", "-bf16")


def run(setting: Setting, report: Report) -> None:
    """The section."""
    set_up_device(setting.device, tf32=False)
    kind = TOY if setting.tiny else FULL
    _loss(kind, setting, report)
    for batch in (2,) if setting.tiny else (4, 32):
        _profile(kind, batch, setting, report)
    table = report.table("A training iteration of DSOD300", *COLUMNS)
    for batch in (2,) if setting.tiny else (32, 4) if setting.quick else (32, 4, 128):
        for name, way in WAYS.items():
            if setting.quick and batch == 4 and name not in _QUICK:
                continue
            if setting.is_late:
                report.note("the time is used up")
                return
            try:
                table.add(name, batch, *_measure(kind, way, batch, setting))
            except Exception:
                report.failure(f"{name}, batch {batch}")


def _measure(kind: Kind, way: Way, batch: int, setting: Setting) -> tuple[float, ...]:
    allow_tf32(way.tf32)
    setting.forget_peak()
    solver = memory_solver(kind, batch, setting.device)
    if way.bf16:
        solver.net.use_bfloat16()
    if way.channels_last:
        solver.net.use_channels_last()
    if way.checkpoint:
        solver.net.use_checkpoints()
    if way.cuda_graph and setting.device.type == "cuda":
        solver.use_cuda_graph()
        solver.step(WARM_UP + 1)  # the capture, and the replay that is compared
    calls = 2 if setting.tiny else 5 if setting.quick else 10
    seconds, host = seconds_in_a_row(lambda: solver.step(1), setting, calls=calls)
    return 1e3 * seconds, 1e3 * host, batch / seconds, setting.peak_mb()


def _loss(kind: Kind, setting: Setting, report: Report) -> None:
    """MultiBoxLoss alone, forward and backward."""
    table = report.table("MultiBoxLoss alone, forward and backward", "batch", "ms")
    names = ("mbox_loc", "mbox_conf", "mbox_priorbox")
    for batch in (2,) if setting.tiny else (4, 32):
        solver = memory_solver(kind, batch, setting.device)
        with torch.no_grad():
            kept = solver.net(solver.inputs, keep=names).blobs
        (layer,) = [module for module in solver.net.layers if isinstance(module, MultiBoxLoss)]
        label = solver.inputs["label"]
        loc, conf, priors = (kept[name].detach() for name in names)

        def once(
            layer: MultiBoxLoss = layer,
            bottoms: tuple[torch.Tensor, ...] = (loc, conf, priors, label),
        ) -> None:
            loc, conf = (blob.requires_grad_() for blob in bottoms[:2])
            layer(loc, conf, *bottoms[2:]).backward()

        table.add(batch, 1e3 * median_seconds(once, setting, rounds=10))


def _profile(kind: Kind, batch: int, setting: Setting, report: Report) -> None:
    """The device's time by kernel, for one iteration in TF32."""
    allow_tf32(True)
    solver = memory_solver(kind, batch, setting.device)
    solver.step(3)
    setting.synchronize()
    on_device = setting.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_device
    with warnings.catch_warnings(), profile(activities=activities) as profiler:
        warnings.simplefilter("ignore")
        solver.step(1)
        setting.synchronize()
    events = profiler.key_averages()
    spent = "self_device_time_total" if on_device else "self_cpu_time_total"
    total = sum(getattr(event, spent) for event in events)
    calls = sum(event.count for event in events if "launchkernel" in event.key.lower())
    table = report.table(
        f"Batch {batch}, TF32: {total / 1e3:.1f} ms in {calls} launches", "operation", "ms", "times"
    )
    for event in sorted(events, key=lambda event: -getattr(event, spent))[:20]:
        table.add(event.key.replace("|", "/")[:90], getattr(event, spent) / 1e3, event.count)
