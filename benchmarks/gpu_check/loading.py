"""Images per second that DSOD's augmentation can deliver, by number of worker processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import torch

from benchmarks.gpu_check.report import Report, Setting
from benchmarks.pipeline import BATCH, pipeline
from caffe_ssd.layers.registry import Runtime

LABELS = "shapes/labelmap_shapes.prototxt"


def run(setting: Setting, report: Report) -> None:
    """The section."""
    torch.set_num_threads(1)
    _make_pictures(setting)
    table = report.table(
        "DSOD300's training data, pictures of 500 pixels", "workers", "way", "images/s"
    )
    cores = len(os.sched_getaffinity(0))
    counts = [2] if setting.tiny else [1, 4, 8, cores - 1] if not setting.quick else [cores - 1]
    for workers in dict.fromkeys(counts):
        for roundtrip in (True, False):
            if setting.is_late:
                report.note("the time is used up")
                return
            runtime = Runtime(data_workers=workers, jpeg_roundtrip=roundtrip)
            name = "as the original" if roundtrip else "-skip_jpeg_roundtrip"
            table.add(workers, name, _rate(setting, runtime, workers))


def _rate(setting: Setting, runtime: Runtime, workers: int) -> float:
    """Images per second once the batches that were made ahead are used up."""
    net = pipeline(str(setting.work / "lmdb"), str(setting.work / LABELS), runtime)
    for _ in range(1 if setting.tiny else 2 * workers + 1):
        net()
    start = time.perf_counter()
    count = 1 if setting.tiny else max(3 * workers, 8)
    for _ in range(count):
        net()
    return count * BATCH / (time.perf_counter() - start)


def _make_pictures(setting: Setting) -> None:
    count = "20" if setting.tiny else "300"
    convert = ("--anno_type=detection", f"--label_map_file={LABELS}")
    convert += ("--encode_type=jpg", "--encoded", "shapes/", "shapes/trainval.txt", "lmdb")
    for words in (
        ("lmdb_tools.shapes", "shapes", "--train", count, "--test", "1", "--size", "500"),
        ("lmdb_tools.convert_annoset", *convert),
    ):
        subprocess.run(
            [sys.executable, "-m", *words], cwd=setting.work, check=True, capture_output=True
        )
