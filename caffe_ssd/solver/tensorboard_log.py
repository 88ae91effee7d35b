"""What a training displays and scores, as files that TensorBoard shows.

Loss, rate, the gradients' norm and speed where an iteration is displayed; at each test the scores
and, of its first batch, some pictures with what was found on them. Needs the extra `tensorboard`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caffe_ssd.data.drawing import DrawnBox, Pen, draw_boxes_on
from caffe_ssd.distribution import install_hint
from caffe_ssd.errors import FileError, UsageError
from caffe_ssd.layers.detection_output import DetectionOutput
from caffe_ssd.layers.registry import SourceLayer
from caffe_ssd.net import Net
from caffe_ssd.solver.hooks import Callback, Observer
from caffe_ssd.solver.solver import Solver
from caffe_ssd.solver.testing import TestResult

_PICTURES = 4
_LEAST_SCORE = 0.3  # of a box that is drawn
_SIDE_PX = 300  # smaller pictures are shown larger


class TensorBoardLog(Observer):
    """Writes event files.

    Args:
        folder: where to; made if it does not exist.
        solver: what is trained; its callbacks get one more.
        names: of the classes by label.
        images: per iteration.

    Raises:
        UsageError: the package is not installed.
        FileError: the folder cannot be written to.
    """

    def __init__(
        self, folder: str, solver: Solver, names: Mapping[int, str], *, images: int
    ) -> None:
        check_tensorboard(folder)
        self._writer = _writer_class()(folder, purge_step=solver.iter)
        self._solver, self._names, self._images = solver, names, images
        self._since: tuple[float, int] | None = None
        self._norm: Tensor | None = None
        self._watched = [_FirstBatch(net) for net in solver.test_nets]
        solver.callbacks.append(Callback(on_gradients_ready=self._take_norm))

    def on_display(self, iteration: int, loss: float, rate: float) -> None:
        add = self._writer.add_scalar
        add("train/loss", loss, iteration)
        add("train/rate", rate, iteration)
        if self._norm is not None:
            add("train/gradient norm", float(self._norm), iteration)
        now = time.monotonic()
        if self._since is not None and iteration > self._since[1]:
            begin, first = self._since
            speed = (iteration - first) * self._images / (now - begin)
            add("train/images per second", speed, iteration)
        self._since = now, iteration

    def on_test_batch(self, index: int, done: int, total: int) -> None:
        self._since = None  # the time of a test is no training
        if done == 1:
            self._watched[index].keep()

    def on_test(self, result: TestResult) -> None:
        suffix = f" of test net {result.index}" if len(self._watched) > 1 else ""
        add = self._writer.add_scalar
        for name, values in result.outputs.items():
            if name not in result.detection:
                for i, value in enumerate(values):
                    number = f" {i}" if len(values) > 1 else ""
                    add(f"test{suffix}/{name}{number}", value, result.iteration)
        for name, score in result.detection.items():
            several = f" of {name}" if len(result.detection) > 1 else ""
            add(f"test{suffix}/mAP{several}", score.value, result.iteration)
            for label, value in score.per_class.items():
                shown = self._names.get(label, f"class{label}")
                add(f"AP{suffix}{several}/{shown}", value, result.iteration)
        for i, picture in enumerate(self._watched[result.index].pictures(self._names)):
            tag = f"pictures{suffix}/{i}"
            self._writer.add_image(tag, picture, result.iteration, dataformats="HWC")
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()

    def _take_norm(self) -> None:
        """The norm of all gradients, where the iteration is displayed."""
        interval = self._solver.param.display
        if interval > 0 and self._solver.iter % interval == 0:
            learnt = [entry.blob for entry in self._solver.net.learnable if entry.lr_mult != 0]
            grads = [blob.grad for blob in learnt if blob.grad is not None]
            norms = torch._foreach_norm(grads)
            self._norm = torch.stack(norms).norm() if norms else None


class _FirstBatch:
    """The pictures of a test's first batch, and what the net found on them.

    Args:
        net: a test net; nothing is kept where it does not detect.
    """

    def __init__(self, net: Net) -> None:
        self._data: Tensor | None = None
        self._rows: Tensor | None = None
        self._kept: tuple[Tensor, Tensor] | None = None
        self._scale, self._means = 1.0, np.zeros(1, np.float32)
        for step, layer in zip(net.steps, net.layers, strict=True):
            if isinstance(layer, SourceLayer) and step.param.HasField("transform_param"):
                transform = step.param.transform_param
                self._scale = transform.scale
                self._means = np.array(transform.mean_value or [0.0], np.float32)
                layer.register_forward_hook(self._take_data)
            if isinstance(layer, DetectionOutput):
                layer.register_forward_hook(self._take_rows)

    def keep(self) -> None:
        """Keep some of the batch that has just passed."""
        if self._data is not None and self._rows is not None:
            rows = self._rows.reshape(-1, 7).detach().float().cpu()
            self._kept = self._data[:_PICTURES].detach().float().cpu(), rows
        self._data = self._rows = None

    def pictures(self, names: Mapping[int, str]) -> list[NDArray[np.uint8]]:
        """Pictures with boxes, (H, W, 3), RGB."""
        if self._kept is None:
            return []
        data, rows = self._kept
        self._kept = None
        return [
            self._draw(image, rows[rows[:, 0] == item], names) for item, image in enumerate(data)
        ]

    def _draw(self, image: Tensor, rows: Tensor, names: Mapping[int, str]) -> NDArray[np.uint8]:
        pixels = image.permute(1, 2, 0).numpy() / self._scale + self._means
        canvas = np.clip(pixels, 0, 255).astype(np.uint8)
        if canvas.shape[2] != 3:
            canvas = canvas[..., :1].repeat(3, axis=2)
        factor = max(1.0, _SIDE_PX / max(canvas.shape[:2]))
        large = cv2.resize(canvas, None, fx=factor, fy=factor).astype(np.uint8, copy=False)
        boxes = [
            DrawnBox(
                label=int(label),
                text=f"{names.get(int(label), f'class{int(label)}')} {score:.2f}",
                corners=np.array(corners, np.float32),
            )
            for _, label, score, *corners in rows.tolist()
            if score >= _LEAST_SCORE
        ]
        drawn = draw_boxes_on(large, boxes[::-1], Pen())  # the best on top
        return np.ascontiguousarray(drawn[..., ::-1])

    def _take_data(self, layer: nn.Module, bottoms: Any, tops: Tensor | tuple[Tensor, ...]) -> None:
        self._data = tops if isinstance(tops, Tensor) else tops[0]

    def _take_rows(self, layer: nn.Module, bottoms: Any, top: Tensor) -> None:
        self._rows = top


def check_tensorboard(folder: str) -> None:
    """Make sure that event files can be written; a thread of their own would fail in silence.

    Raises:
        UsageError: the package is not installed.
        FileError: the folder cannot be written to.
    """
    _writer_class()
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        probe = Path(folder) / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise FileError(f"-tensorboard {folder} cannot be written to: {error.strerror}") from error


def _writer_class() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            f"-tensorboard needs the package tensorboard: {install_hint('tensorboard')}"
        ) from error
    return SummaryWriter
