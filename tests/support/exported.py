"""Runs exported files as their users do, with the libraries they are made for."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Rows = NDArray[np.float32]
Run = Callable[[Tensor], Rows]
"""From the net's input to DetectionOutput's rows, [D, 7]."""


def _onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options)
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x.numpy()})[0].reshape(-1, 7)


def _openvino(path: Path) -> Run:
    from caffe_ssd.engines.onnx_runtimes import openvino_core

    model = openvino_core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    return lambda x: openvino_rows(np.array(next(iter(model(x.numpy()).values()))))


def openvino_rows(blob: Rows) -> Rows:
    """The rows of OpenVINO's DetectionOutput in front of the first that begins with -1."""
    rows = blob.reshape(-1, 7)
    ends = np.flatnonzero(rows[:, 0] < 0)
    return rows[: ends[0]] if len(ends) else rows


def _program(path: Path) -> Run:
    module = torch.export.load(path).module()
    return lambda x: module(x)[0].reshape(-1, 7).numpy()


def _torchscript(path: Path) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = torch.jit.load(path)
    return lambda x: module(x)[0].detach().reshape(-1, 7).numpy()


RUNS: dict[str, Callable[[Path], Run]] = {
    ".onnx": _onnx,
    ".xml": _openvino,
    ".pt2": _program,
    ".pt": _torchscript,
}


def assert_same_detections(
    want: Rows, got: Rows, *, atol: float = 1e-4, only_wanted: bool = False
) -> None:
    """Each row has its equal in the other list; rows of -1 stand for nothing."""
    want, got = want[want[:, 1] >= 0], got[got[:, 1] >= 0]
    if not only_wanted:
        assert len(want) == len(got)
    for row in want:
        same = got[(got[:, :2] == row[:2]).all(1)]
        assert len(same), row
        assert np.abs(same[:, 2:] - row[2:]).max(1).min() <= atol, row
