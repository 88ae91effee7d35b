"""What each format of `caffe export` gives against the net itself: `python -m benchmarks.export`.

    python -m benchmarks.export -model M -weights W -pictures FOLDER [-mean_value ... -scale ...]

Prints, per format, the largest difference of scores and of boxes (parts of the picture) over all
pictures, in the net's own rows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from caffe_ssd.cli.flags import ActionParser, add_pixel_flags
from caffe_ssd.engines.export.formats import FORMATS
from caffe_ssd.scoring.exporting import export_request
from caffe_ssd.scoring.loading import load_net
from caffe_ssd.scoring.picture_detector import PictureDetector, found_rows
from caffe_ssd.scoring.sources import picture_files

Rows = NDArray[np.float32]
Run = Callable[[Rows], Rows]


def onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


def openvino(path: Path) -> Run:
    from openvino import Core

    model = Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(x: Rows) -> Rows:
        rows = np.array(next(iter(model(x).values()))).reshape(-1, 7)
        ends = np.flatnonzero(rows[:, 0] < 0)
        return rows[: ends[0]] if len(ends) else rows

    return run


def torch_program(path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda x: module(torch.from_numpy(x))[0].numpy()


def torchscript(path: Path) -> Run:
    module = torch.jit.load(path)
    return lambda x: module(torch.from_numpy(x))[0].detach().numpy()


NEARLY = 1e-4
RUNS = {"onnx": onnx, "openvino": openvino, "torch": torch_program, "torchscript": torchscript}


def difference(want: Rows, got: Rows) -> tuple[float, float]:
    """The largest difference of scores and of boxes; infinite where other things are found.

    What is found with nearly the lowest score may be there or not: it is the last of `keep_top_k`.
    """
    lowest = min(rows[:, 2].min(initial=np.inf) for rows in (want, got))
    both = []
    for a, b in ((want, got), (got, want)):
        sure = a[a[:, 2] > lowest + NEARLY] if len(want) > 100 else a
        if len(sure) and not len(b):
            return np.inf, np.inf
        for row in sure:
            same = b[b[:, 1] == row[1]]
            off = np.abs(same[:, 2:] - row[2:])
            if not len(off):
                return np.inf, np.inf
            nearest = off[off.max(1).argmin()]
            both.append((float(nearest[0]), float(nearest[1:].max())))
    return tuple(max(column) for column in zip(*both, strict=True)) if both else (0.0, 0.0)


def main() -> None:
    args = _parse()
    net = load_net(args.model, args.weights)
    detector = PictureDetector(net, mean=args.mean_value, scale=args.scale, size=args.input_size)
    pictures = picture_files(Path(args.pictures))[: args.count]
    data = [detector.batch([cv2.imread(str(p))], detector.size) for p in pictures]
    wanted = [found_rows(detector.run(x)).numpy() for x in data]
    count = sum(map(len, wanted))
    print(f"{args.model}: {len(data)} pictures, {count} detections")
    for name, start in RUNS.items():
        request = export_request(net, size=args.input_size, mean=args.mean_value, scale=args.scale)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"net{FORMATS[name].suffix}"
            FORMATS[name].write(request, path)
            run = start(path)
            rows = [found_rows(torch.from_numpy(run(x.numpy()))).numpy() for x in data]
        pairs = [difference(a, b) for a, b in zip(wanted, rows, strict=True)]
        scores, boxes = (max(column) for column in zip(*pairs, strict=True))
        print(f"  {name:12s} scores {scores:.1e}  boxes {boxes:.1e}")


def _parse() -> argparse.Namespace:
    parser = ActionParser("export", description=__doc__ or "", examples="")
    for name in ("model", "weights", "pictures"):
        parser.add_flag(name, default="")
    parser.add_flag("count", type=int, default=20)
    add_pixel_flags(parser)
    return parser.parse_flags(sys.argv[1:])


if __name__ == "__main__":
    main()
