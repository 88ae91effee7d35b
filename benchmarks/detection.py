"""DSOD300 on one picture: this package against OpenCV 4 DNN, ONNX Runtime, OpenVINO, PyTorch.

example: python -m benchmarks.detection --opencv-python .venv-opencv4/bin/python

Two tables: complete detection, from the blob to the boxes, and the network alone. Weights are
random, but scores are as rare as a trained detector's.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from google.protobuf import text_format
from torch import Tensor

from benchmarks.nets import NUM_CLASSES, dsod300, images
from benchmarks.pairs import Times, alternate, benchmark_parser
from benchmarks.plain_dsod import PlainDSOD300, copy_weights
from caffe_ssd.engines.accelerate import ENGINES, accelerate
from caffe_ssd.engines.engine import Engine
from caffe_ssd.engines.frozen_net import FrozenNet, freeze
from caffe_ssd.engines.onnx_export import onnx_model
from caffe_ssd.engines.precision import Precision
from caffe_ssd.net import Net
from caffe_ssd.net.weights import save_binary

WORKER = Path(__file__).with_name("opencv_worker.py")
HEADS = ("mbox_loc", "mbox_conf_flatten")


class OpenCV:
    """OpenCV 4's DNN module in a process of its own.

    Args:
        python: interpreter of an environment that has OpenCV 4.
        net: whose weights to use.
        x: the input.
        folder: for the files.
    """

    def __init__(self, python: str, net: Net, x: Tensor, folder: Path) -> None:
        names = [folder / name for name in ("net.prototxt", "net.caffemodel", "x.npy", "y.npy")]
        message = net.to_proto()
        for layer in message.layer:
            layer.ClearField("blobs")
        names[0].write_text(text_format.MessageToString(message))
        save_binary(net, names[1])
        np.save(names[2], x.numpy())
        self._output = names[3]
        command = [python, str(WORKER), *map(str, names), str(torch.get_num_threads())]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.version = self._read()

    def __call__(self) -> None:
        """Run the net once."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the OpenCV process ended; see its message above")
        return line.strip()

    def detections(self) -> Tensor:
        """What the last run found, (1, 1, K, 7)."""
        return torch.from_numpy(np.load(self._output))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def opencv(python: str | None, net: Net, x: Tensor) -> Iterator[OpenCV | None]:
    """OpenCV, where there is an environment for it."""
    if python is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        process = OpenCV(python, net, x, Path(folder))
        try:
            yield process
        finally:
            process.close()


def detectors(names: list[str]) -> dict[str, Net]:
    """The net once for each engine, all with the same weights."""
    nets = {}
    for name in names:
        nets[name] = dsod300()
        if name != "plain net":
            accelerate(nets[name], name)
    return nets


def complete(python: str | None, rounds: int) -> tuple[Times, list[str]]:
    """Times from blob to boxes, and what there is to say about them."""
    x = images()
    engines = [name for name in ENGINES if name not in ("auto", "compile")]
    nets = detectors(["plain net", "auto", *engines])
    found: dict[str, Tensor] = {}

    def run(name: str) -> Callable[[], None]:
        def once() -> None:
            with torch.inference_mode():
                found[name] = nets[name]({"data": x}).blobs["detection_out"]

        return once

    with opencv(python, nets["plain net"], x) as other:
        things: dict[str, Callable[[], object]] = {}
        if other is not None:
            things[f"OpenCV {other.version} DNN"] = other
        things |= {f"caffe-ssd, {name}": run(name) for name in nets}
        times = alternate(things, rounds=rounds)
        wanted = found["plain net"]
        notes = [f"{wanted.shape[2]} detections"]
        if other is not None:
            notes.append(f"OpenCV's differ by {difference(wanted, other.detections()):.1e}")
    for name in nets:
        notes.append(f"{name}'s differ by {difference(wanted, found[name]):.1e}")
    return times, notes


def difference(wanted: Tensor, found: Tensor) -> float:
    """How far the most different detection is from the nearest one on the other side.

    Detections of almost the same score may change places, so the order does not count.
    """
    gaps = (wanted[0, 0, :, None] - found[0, 0]).abs().amax(2)
    return float(torch.maximum(gaps.amin(0).max(), gaps.amin(1).max()))


def libraries(net: FrozenNet, x: Tensor) -> dict[str, Callable[[], object]]:
    """ONNX Runtime and OpenVINO on the file that `caffe export` writes, used directly."""
    import onnxruntime
    import openvino

    model = onnx_model(net.specialised(x))
    array = x.numpy()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    core = openvino.Core()
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    request = compiled.create_infer_request()
    feed = {session.get_inputs()[0].name: array}
    return {
        f"ONNX Runtime {onnxruntime.__version__}": lambda: session.run(None, feed),
        f"OpenVINO {openvino.__version__.split('-')[0]}": lambda: request.infer([array]),
    }


def network(rounds: int, *, compiled: bool) -> Times:
    """Times of the network without detection output."""
    net, x = dsod300(), images()
    plain = PlainDSOD300().eval()
    copy_weights(net, plain)
    last = PlainDSOD300().eval()
    copy_weights(net, last)
    last = last.to(memory_format=torch.channels_last)
    frozen = freeze(net, outputs=HEADS)

    def eager(module: PlainDSOD300, x: Tensor) -> Callable[[], object]:
        def once() -> object:
            with torch.inference_mode():
                return module(x)

        return once

    things = {
        "PyTorch eager": eager(plain, x),
        "PyTorch eager, channels last": eager(last, x.to(memory_format=torch.channels_last)),
        **libraries(frozen, x),
    }
    engines: list[Engine] = [kind(frozen) for name, kind in ENGINES.items() if name != "auto"]
    if not compiled:
        engines = [engine for engine in engines if engine.name != "compile"]
    pictures = [images(seed=seed) for seed in range(16)]
    int8 = Precision(name="int8", calibration=pictures)
    for name, kind in ENGINES.items():
        if name != "auto" and "int8" in kind.precisions:
            engines.append(kind(frozen, int8))
    for engine in engines:
        things[f"engine {engine.description}"] = lambda engine=engine: engine(x)
    return alternate(things, rounds=rounds)


def detection_output(rounds: int) -> str:
    """A table of DetectionOutput's time beside the network's, as more candidates have a chance."""
    net, x = dsod300(), images()
    layer = list(net.program)[-1].layer
    engine = ENGINES["torch"](freeze(net, outputs=(*HEADS, "mbox_priorbox")))
    loc, conf, priors = engine(x)
    logits = conf.view(1, -1, NUM_CLASSES).log()
    things: dict[str, Callable[[], object]] = {"network": lambda: engine(x)}
    for raised in (6, 3, 0, -7):
        shifted = logits.clone()
        shifted[..., 0] += raised
        scores = shifted.softmax(2)
        count = int((scores[..., 1:] > 0.01).sum())
        tops = loc, scores.flatten(1), priors

        def output(tops: tuple[Tensor, ...] = tops) -> object:
            with torch.inference_mode():
                return layer(*tops)

        things[f"DetectionOutput, {count} scores above 0.01"] = output
    times = alternate(things, rounds=rounds)
    lines = ["| | median ms | share of the network's time |", "|---|---|---|"]
    for name in times.seconds:
        share = 100 / times.ratio("network", name)
        lines.append(f"| {name} | {1e3 * times.median(name):.3g} | {share:.1f} % |")
    return "\n".join(lines)


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = benchmark_parser(__doc__, rounds=15)
    parser.add_argument("--opencv-python", metavar="FILE", help="Python that has OpenCV 4")
    parser.add_argument("--compile", action="store_true", help="the engine compile, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    times, notes = complete(args.opencv_python, args.rounds)
    print(times.table(next(iter(times.seconds))), "", "; ".join(notes), "", sep="\n")
    print(network(args.rounds, compiled=args.compile).table("PyTorch eager"), "", sep="\n")
    print(detection_output(args.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
