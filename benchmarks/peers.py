"""Five detectors on one picture: this package against OpenCV 4 DNN, ONNX Runtime and OpenVINO.

example: python -m benchmarks.peers --opencv-python .venv-opencv4/bin/python

The others get the nets without our help: OpenCV reads the prototxt and caffemodel itself; ONNX
Runtime and OpenVINO get what PyTorch's exporter makes of the same net written by hand
(plain_nets.py, plain_dsod.py), with the same weights. All are measured in turn, round by round.
"""

from __future__ import annotations

import io
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.detection import difference, opencv
from benchmarks.nets import DETECTORS, images, with_weights
from benchmarks.pairs import Times, alternate, benchmark_parser
from benchmarks.plain_dsod import PlainDSOD300
from benchmarks.plain_dsod import copy_weights as copy_dsod
from benchmarks.plain_nets import (
    copy_weights,
    plain_face,
    plain_mobilenet_ssd,
    plain_ssd300,
)
from benchmarks.pycaffe import pycaffe_of
from caffe_ssd.engines.accelerate import accelerate
from caffe_ssd.net import Net

OURS = "caffe-ssd, default"


class WithSoftmax(nn.Module):
    """DSOD's locations and scores as rows, as DetectionOutput takes them."""

    def __init__(self, net: PlainDSOD300) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        loc, conf = self.net(x)
        return loc.flatten(1), conf.softmax(2).flatten(1)


PLAIN: dict[str, Callable[[], nn.Module]] = {
    "DSOD300": PlainDSOD300,
    "DSOD300_smallest": lambda: PlainDSOD300(bottleneck=64, growth=16),
    "SSD300 VGG": plain_ssd300,
    "MobileNet-SSD": plain_mobilenet_ssd,
    "face net": plain_face,
}


def plain_of(name: str, net: Net) -> nn.Module:
    """The same net in plain PyTorch, with its weights."""
    plain = PLAIN[name]().eval()
    if isinstance(plain, PlainDSOD300):
        copy_dsod(net, plain)
        return WithSoftmax(plain).eval()
    copy_weights(net, plain)
    return plain


def onnx_of(plain: nn.Module, x: Tensor) -> bytes:
    """What PyTorch's exporter writes."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter is the old one; the new needs onnxscript
        torch.onnx.export(plain, (x,), file, dynamo=False, input_names=["data"])
    return file.getvalue()


def onnxruntime_on(model: bytes, x: Tensor) -> tuple[str, Callable[[], list[np.ndarray]]]:
    """ONNX Runtime, without detection output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feed = {"data": x.numpy()}
    name = f"ONNX Runtime {onnxruntime.__version__}, net only"
    return name, lambda: session.run(None, feed)


def openvino_on(model: bytes, net: Net, x: Tensor) -> tuple[str, Callable[[], np.ndarray]]:
    """OpenVINO with its own DetectionOutput behind the net; rows of 7."""
    import openvino
    from openvino import opset8

    core = openvino.Core()
    read = core.read_model(model)
    loc, conf = (output.get_node().input_value(0) for output in read.outputs)
    name = prior_blob(net)
    priors = opset8.constant(net({"data": x}, keep=[name]).blobs[name].numpy())
    param = net.to_proto().layer[-1].detection_output_param
    found = opset8.detection_output(
        loc,
        conf,
        priors,
        {
            "background_label_id": param.background_label_id,
            "top_k": param.nms_param.top_k,
            "keep_top_k": [param.keep_top_k],
            "code_type": "caffe.PriorBoxParameter.CENTER_SIZE",
            "share_location": True,
            "nms_threshold": param.nms_param.nms_threshold,
            "confidence_threshold": param.confidence_threshold,
            "normalized": True,
        },
    )
    whole = openvino.Model([opset8.result(found)], read.get_parameters(), "detector")
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = core.compile_model(whole, "CPU", settings).create_infer_request()
    array = x.numpy()
    name = f"OpenVINO {openvino.__version__.split('-')[0]}, its DetectionOutput"
    return name, lambda: next(iter(request.infer([array]).values()))


def prior_blob(net: Net) -> str:
    """The name of the priors' blob."""
    return str(net.to_proto().layer[-1].bottom[2])


def kept_rows(rows: np.ndarray) -> Tensor:
    """OpenVINO's rows up to the one that says that there are no more, (1, 1, K, 7)."""
    flat = rows.reshape(-1, 7)
    ends = np.flatnonzero(flat[:, 0] < 0)
    return torch.from_numpy(flat[: ends[0]] if len(ends) else flat)[None, None]


def measured(name: str, python: str | None, rounds: int) -> tuple[Times, list[str]]:
    """Times of one net, and what there is to say about the detections."""
    net, x = with_weights(DETECTORS[name]()), images()
    with torch.inference_mode():
        wanted = net({"data": x}).blobs["detection_out"].clone()
        model = onnx_of(plain_of(name, net), x)
        vino_name, vino = openvino_on(model, net, x)
    ort_name, ort = onnxruntime_on(model, x)
    with tempfile.TemporaryDirectory() as folder:
        script = pycaffe_of(net, Path(folder))
    script.blobs["data"].data[...] = x.numpy()
    quick = with_weights(DETECTORS[name]())
    accelerate(quick)
    found: dict[str, Tensor] = {}

    def ours() -> None:
        with torch.inference_mode():
            found[OURS] = quick({"data": x}).blobs["detection_out"]

    things: dict[str, Callable[[], object]] = {
        OURS: ours,
        "caffe.Net.forward": script.forward,
        ort_name: ort,
        vino_name: vino,
    }
    with ExitStack() as stack:
        other = stack.enter_context(opencv(python, net, x))
        if other is not None:
            things[f"OpenCV {other.version} DNN"] = other
        times = alternate(things, rounds=rounds)
        found["caffe.Net"] = torch.from_numpy(script.blobs["detection_out"].data.copy())
        found[vino_name] = kept_rows(vino())
        if other is not None:
            found[f"OpenCV {other.version} DNN"] = other.detections()
    notes = [f"{wanted.shape[2]} detections"]
    notes += [f"{each}: differs by {difference(wanted, rows):.0e}" for each, rows in found.items()]
    return times, notes


def table(results: dict[str, Times]) -> Iterable[str]:
    """The medians of all nets, and in brackets the minima, in ms."""
    columns = list(next(iter(results.values())).seconds)
    yield f"| | {' | '.join(columns)} | default / best peer |"
    yield f"|{'---|' * (len(columns) + 2)}"
    for name, times in results.items():
        cells = [
            f"{1e3 * times.median(each):.1f} ({1e3 * min(times.seconds[each]):.1f})"
            for each in columns
        ]
        best = min(columns[2:], key=times.median)
        yield f"| {name} | {' | '.join(cells)} | {times.ratio(OURS, best):.2f} |"


def main() -> int:
    """Run the benchmark; returns the exit status."""
    parser = benchmark_parser(__doc__, rounds=15)
    parser.add_argument("--opencv-python", metavar="FILE", help="Python that has OpenCV 4")
    parser.add_argument("--nets", nargs="+", choices=list(DETECTORS), default=list(DETECTORS))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = {}
    for name in args.nets:
        results[name], notes = measured(name, args.opencv_python, args.rounds)
        print(f"{name}: {'; '.join(notes)}", flush=True)
    print("", *table(results), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
