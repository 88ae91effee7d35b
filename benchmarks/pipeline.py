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


def rate(net: Net) -> float:
    """Images per second, once the batches that were made ahead are used up."""
    for _ in range(AHEAD):
        net()
    start = time.perf_counter()
    for _ in range(BATCHES):
        net()
    return BATCHES * BATCH / (time.perf_counter() - start)


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
    ways = {}
    for workers in dict.fromkeys(args.workers):
        for roundtrip in (True, False):
            name = f"{workers} workers" + ("" if roundtrip else ", -skip_jpeg_roundtrip")
            ways[name] = Runtime(data_workers=workers, jpeg_roundtrip=roundtrip)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.rounds):
        for name, runtime in ways.items():
            rates[name].append(rate(pipeline(args.source, args.label_map, runtime)))
    print("| | median images/s | best images/s |\n|---|---|---|")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):.1f} | {max(found):.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
