"""DSOD300 from blob to boxes: latency of one picture, pictures per second, memory, agreement."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.detection import difference
from benchmarks.gpu_check.clock import each_seconds, median_seconds
from benchmarks.gpu_check.report import Report, Setting, Table
from benchmarks.nets import NUM_CLASSES, dsod300, images
from caffe_ssd.devices import allow_tf32, set_up_device
from caffe_ssd.engines.accelerate import ENGINES, accelerate
from caffe_ssd.engines.frozen_net import freeze
from caffe_ssd.engines.precision import Precision
from caffe_ssd.net import Net

COLUMNS = (
    "what",
    "batch",
    "median ms",
    "best ms",
    "images/s",
    "peak MB",
    "differs from the CPU's by",
)
HEADS = ("mbox_loc", "mbox_conf_flatten", "mbox_priorbox")
# Name: engine (empty: the plain net), precision, TF32, bf16 autocast, channels last.
WAYS: dict[str, tuple[str, str, bool, bool, bool]] = {
    "plain net, fp32": ("", "fp32", False, False, False),
    "plain net, TF32": ("", "fp32", True, False, False),
    "plain net, TF32, channels last": ("", "fp32", True, False, True),
    "plain net, -bf16, channels last": ("", "fp32", True, True, True),
    "torch, fp32": ("torch", "fp32", False, False, False),
    "torch, TF32": ("torch", "fp32", True, False, False),
    "torch, bf16": ("torch", "bf16", False, False, False),
}
NOT_IF_QUICK = ("plain net, TF32", "plain net, TF32, channels last")
COMPILED = {
    "compile, fp32": ("compile", "fp32", False, False, False),
    "compile, TF32": ("compile", "fp32", True, False, False),
}


def run(setting: Setting, report: Report) -> None:
    """The section."""
    set_up_device(setting.device, tf32=False)
    wanted = _found(_net(setting), images())
    table = report.table("DSOD300, complete detection", *COLUMNS)
    batches = (1, 2) if setting.tiny else (1, 32) if setting.quick else (1, 8, 32, 128)
    ways = WAYS if setting.tiny else WAYS | COMPILED
    if setting.quick and not setting.tiny:
        ways = {name: way for name, way in WAYS.items() if name not in NOT_IF_QUICK}
    for name, way in ways.items():
        for batch in batches if way[0] != "compile" else batches[::2]:
            if setting.is_late:
                report.note("the time is used up")
                return
            with _kept_going(report, f"{name}, batch {batch}"):
                _measure(name, way, batch, wanted, setting, table)
    with _kept_going(report, "graph"):
        _graph(setting, report)
    with _kept_going(report, "detection output"):
        _detection_output(setting, report)


@contextlib.contextmanager
def _kept_going(report: Report, what: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception:
        report.failure(what)


def _net(setting: Setting, batch: int = 1) -> Net:
    """DSOD300, or a small one for a try."""
    variant = "smallest" if setting.tiny else "DSOD300"
    return dsod300(variant=variant, batch=batch)


def _found(net: Net, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return net({"data": x}).blobs["detection_out"]  # type: ignore[no-any-return]


def _measure(
    name: str,
    way: tuple[str, str, bool, bool, bool],
    batch: int,
    wanted: Tensor,
    setting: Setting,
    table: Table,
) -> None:
    engine, precision, tf32, bf16, channels_last = way
    allow_tf32(tf32)
    setting.forget_peak()
    net = _net(setting, batch).to(setting.device)
    if channels_last:
        net.use_channels_last()
    if bf16:
        net.use_bfloat16()
    if engine:
        accelerate(net, engine, Precision(name=precision))
    x = images().expand(batch, -1, -1, -1).contiguous().to(setting.device)
    rounds = 2 if setting.tiny else 10 if setting.quick else 30
    seconds = sorted(each_seconds(lambda: _found(net, x), setting, rounds=rounds))
    median, best = seconds[len(seconds) // 2], seconds[0]
    rows = _found(net, x).cpu()
    first = rows[:, :, rows[0, 0, :, 0] == 0]
    gap = difference(wanted, first)
    numbers = (1e3 * median, 1e3 * best, batch / median, setting.peak_mb())
    table.add(name, batch, *numbers, f"{gap:.1e}")


def _graph(setting: Setting, report: Report) -> None:
    """What the network alone would take if its launches were recorded once."""
    table = report.table(
        "DSOD300, the network alone", "what", "batch", "median ms", "recorded as a graph, ms"
    )
    if setting.device.type != "cuda":
        report.note("no graphs on a CPU")
        return
    for precision, tf32 in (("fp32", False), ("fp32", True), ("bf16", False)):
        allow_tf32(tf32)
        for batch in (1, 32):
            x = images(batch).to(setting.device)
            frozen = freeze(_net(setting, batch).to(setting.device), outputs=HEADS)
            engine = ENGINES["torch"](frozen, Precision(name=precision))
            plain = median_seconds(lambda e=engine, x=x: e(x), setting, rounds=10)
            replay = _recorded(lambda e=engine, x=x: e(x))
            seconds = median_seconds(replay, setting, rounds=10)
            name = precision + (", TF32" if tf32 else "")
            table.add(name, batch, 1e3 * plain, 1e3 * seconds)


def _recorded(thing: Callable[[], object]) -> Callable[[], None]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.inference_mode():
        for _ in range(3):
            thing()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.inference_mode():
        thing()
    replay: Callable[[], None] = graph.replay
    return replay


def _detection_output(setting: Setting, report: Report) -> None:
    """DetectionOutput alone, as more candidates have a chance."""
    table = report.table("DetectionOutput alone", "batch", "scores above 0.01", "median ms")
    for batch in (1, 2) if setting.tiny else (1, 8, 32):
        net = _net(setting, batch).to(setting.device)
        layer: nn.Module = list(net.program)[-1].layer
        engine = ENGINES["torch"](freeze(net, outputs=HEADS))
        loc, conf, priors = engine(images(batch).to(setting.device))
        logits = conf.view(batch, -1, NUM_CLASSES).log()
        for raised in (6, 0, -7):
            shifted = logits.clone()
            shifted[..., 0] += raised
            scores = shifted.softmax(2)
            count = int((scores[..., 1:] > 0.01).sum())
            tops = loc, scores.flatten(1), priors

            def output(layer: nn.Module = layer, tops: tuple[Tensor, ...] = tops) -> None:
                with torch.inference_mode():
                    layer(*tops)

            table.add(batch, count, 1e3 * median_seconds(output, setting, rounds=7))
