"""`caffe.Net.forward` against the engine `torch`, one picture at a time, and its memory.

example: python -m benchmarks.pycaffe

Both detect completely, from the blob to the boxes, in turn in one process. A net whose inner blobs
are looked at behind every pass runs layer by layer; it is the third column.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import caffe
import torch
from google.protobuf import text_format

from benchmarks.memory import ROOT, current, peak
from benchmarks.nets import dsod300, images, mobilenet_ssd_param, with_weights
from benchmarks.pairs import alternate
from caffe_ssd.engines.accelerate import accelerate
from caffe_ssd.net import Net
from caffe_ssd.net.weights import save_binary

NETS: dict[str, Callable[[], Net]] = {
    "DSOD300": dsod300,
    "DSOD300_smallest": lambda: dsod300(variant="smallest"),
    "MobileNet-SSD": lambda: with_weights(mobilenet_ssd_param()),
}


def pycaffe_of(net: Net, folder: Path) -> caffe.Net:
    """The same net as a script has it."""
    model, weights = folder / "deploy.prototxt", folder / "net.caffemodel"
    message = net.to_proto()
    for layer in message.layer:
        layer.ClearField("blobs")
    message.state.phase = 1
    model.write_text(text_format.MessageToString(message))
    save_binary(net, weights)
    return caffe.Net(str(model), str(weights), caffe.TEST)


def row(name: str, rounds: int) -> str:
    """One line of the table."""
    engine = NETS[name]()
    x = images()
    with tempfile.TemporaryDirectory() as folder:
        quick, watched = (pycaffe_of(engine, Path(folder)) for _ in range(2))
    accelerate(engine, "torch")
    inner = next(blob for blob in watched.blobs if blob not in ("data", *watched.outputs))

    def by_engine() -> None:
        with torch.inference_mode():
            engine({"data": x})

    def by_script(net: caffe.Net, look: bool = False) -> None:
        net.blobs["data"].data[...] = x.numpy()
        net.forward()
        if look:
            net.blobs[inner].data.max()

    times = alternate(
        {
            "engine torch": by_engine,
            "caffe.Net": lambda: by_script(quick),
            "looked into": lambda: by_script(watched, look=True),
        },
        rounds=rounds,
        warm_up=3,
    )
    cells = " | ".join(f"{times.median(each) * 1e3:.1f}" for each in times.seconds)
    return f"| {name} | {cells} | {times.ratio('engine torch', 'caffe.Net'):.2f} |"


def memory(name: str) -> float:
    """Peak MB of three passes above the imports; the weights count."""
    with tempfile.TemporaryDirectory() as folder:
        pycaffe_of(NETS[name](), Path(folder))
        files = [f"{folder}/deploy.prototxt", f"{folder}/net.caffemodel"]
        command = [sys.executable, "-m", "benchmarks.pycaffe", "--files", *files]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return float(done.stdout)


def memory_of_files(model: str, weights: str) -> float:
    """The same, in a process that has done nothing else."""
    torch.conv2d(images(), torch.ones(1, 3, 3, 3))
    before = current()
    net = caffe.Net(model, weights, caffe.TEST)
    for _ in range(3):
        net.blobs["data"].data[...] = images().numpy()
        net.forward()
    return peak() - before


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15, help="passes of each (%(default)s)")
    parser.add_argument("--files", nargs=2, help="only the memory of this net")
    args = parser.parse_args()
    if args.files:
        print(memory_of_files(*args.files))
        return 0
    print("| net | engine torch ms | caffe.Net ms | looked into ms | engine / caffe.Net |")
    print("|---|---|---|---|---|")
    for name in NETS:
        print(row(name, args.rounds), flush=True)
    megabytes = memory("DSOD300")
    print(f"\nDSOD300: {megabytes:.0f} MB above the imports, weights included")
    return 0


if __name__ == "__main__":
    sys.exit(main())
