"""Images per second of DSOD's augmentation, by number of worker processes.

example: python -m benchmarks.pipeline trainval_lmdb --label-map labelmap.prototxt

The net is one AnnotatedData layer as in the training of DSOD300: distortion, expansion, seven
samplers, mirroring, five interpolations, 300x300, batches of 32.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time

import torch

from benchmarks.nets import dsod300_param
from caffe_ssd.devices import keep_freed_memory
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.net import Net, build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState

BATCH = 32
AHEAD = 6
BATCHES = 10


def pipeline(source: str, label_map: str, runtime: Runtime) -> Net:
    """The net of one data layer."""
    param = NetParameter()
    param.layer.add().CopyFrom(dsod300_param("train").layer[0])
    layer = param.layer[0]
    layer.data_param.source = source
    layer.data_param.batch_size = BATCH
    layer.annotated_data_param.label_map_file = label_map
    return build_net(param, NetState(phase="TRAIN"), runtime)


def rate(net: Net) -> tuple[float, float]:
    """Images per second, once the batches that were made ahead are used up.

    Also milliseconds of processor time that an image takes in the process that trains.
    """
    for _ in range(AHEAD):
        net()
    start, cpu_start = time.perf_counter(), time.process_time()
    for _ in range(BATCHES):
        net()
    images = BATCHES * BATCH
    passed_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
    return images / passed_s, 1000 * cpu_s / images


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="LMDB of convert_annoset")
    parser.add_argument("--label-map", required=True, metavar="FILE")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, os.cpu_count() or 1])
    parser.add_argument("--rounds", type=int, default=3, help="measurements (%(default)s)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as `caffe train` does
    ways = {}
    for workers in dict.fromkeys(args.workers):
        for roundtrip in (True, False):
            name = f"{workers} workers" + ("" if roundtrip else ", -skip_jpeg_roundtrip")
            ways[name] = Runtime(data_workers=workers, jpeg_roundtrip=roundtrip)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, runtime in ways.items():
            rates[name].append(rate(pipeline(args.source, args.label_map, runtime)))
    print("| | median images/s | best images/s | ms per image in the training process |")
    print("|---|---|---|---|")
    for name, found in rates.items():
        per_s, spent_ms = zip(*found, strict=True)
        median, least = statistics.median(per_s), min(spent_ms)
        print(f"| {name} | {median:.1f} | {max(per_s):.1f} | {least:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
