"""`Detector`: scores of windows of images, each warped to the net's input (R-CNN).

Spec: caffe-net.md section 15.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from importlib import import_module
from typing import Any, TypedDict

import numpy as np
from numpy.typing import ArrayLike

from caffe.classifier import image_transformer
from caffe.io import Array, InputError, load_image, resize_image
from caffe.pycaffe import TEST, Net
from caffe_ssd.errors import UsageError

_SELECTIVE_SEARCH = "selective_search_ijcv_with_python"

Window = Sequence[int]


class WindowScore(TypedDict):
    """What the net says about one window."""

    window: Window
    prediction: Array
    filename: str


class Detector(Net):
    """A net in phase TEST that takes windows of images.

    Args:
        model_file: prototxt.
        pretrained_file: weights.
        mean: see `Transformer.set_mean`.
        input_scale: factor after the mean.
        raw_scale: factor before the mean.
        channel_swap: order of the channels.
        context_pad: pixels of surroundings around a window, in the net's input; None for a window
            and nothing else.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        mean: ArrayLike | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
        context_pad: int | None = None,
    ) -> None:
        super().__init__(model_file, phase=TEST, weights=pretrained_file)
        self.transformer = image_transformer(
            self, mean=mean, input_scale=input_scale, raw_scale=raw_scale, channel_swap=channel_swap
        )
        self.configure_crop(context_pad)

    def configure_crop(self, context_pad: int | None) -> None:
        """Say how much of its surroundings a window takes along, in pixels of the net's input.

        Args:
            context_pad: on each side; None for the window alone.
        """
        self.context_pad = context_pad
        self.crop_mean = self._image_mean()

    def detect_windows(
        self, images_windows: Iterable[tuple[str, Iterable[Window]]]
    ) -> list[WindowScore]:
        """Score windows.

        Args:
            images_windows: file name and windows (ymin, xmin, ymax, xmax) of each image, whole
                pixels; ymax and xmax are exclusive.

        Raises:
            InputError: a window is empty or there are none.
        """
        windows: list[tuple[str, Window]] = []
        crops: list[Array] = []
        name = self.inputs[0]
        for filename, boxes in images_windows:
            image = load_image(filename)
            for window in boxes:
                windows.append((filename, window))
                crops.append(self.transformer.preprocess(name, self.crop(image, window)))
        if not crops:
            raise InputError("there are no windows to score")
        predictions = self.forward_all(None, **{name: np.stack(crops)})[self.outputs[0]]
        return [
            WindowScore(window=window, prediction=prediction, filename=filename)
            for (filename, window), prediction in zip(windows, predictions, strict=True)
        ]

    def detect_selective_search(self, image_fnames: Sequence[str]) -> list[WindowScore]:
        """Score the windows that selective search proposes.

        Raises:
            UsageError: the package that does so is not installed.
        """
        try:
            search = import_module(_SELECTIVE_SEARCH)
        except ModuleNotFoundError as error:
            raise UsageError(
                f"detect_selective_search needs the package {_SELECTIVE_SEARCH}; "
                "detect_windows takes windows from anywhere"
            ) from error
        names = [os.path.abspath(name) for name in image_fnames]
        windows = search.get_windows(names, cmd="selective_search_rcnn")
        return self.detect_windows(zip(names, windows, strict=True))

    def crop(self, im: Array, window: Window) -> Array:
        """Cut a window out of an image (H, W, C), with `context_pad` if that is set.

        Returns:
            The window as it is, or (h, w, C) in the size of the net's input.

        Raises:
            InputError: the window has no pixels inside the image.
        """
        ymin, xmin, ymax, xmax = (int(n) for n in window)
        if not (0 <= ymin < min(ymax, im.shape[0]) and 0 <= xmin < min(xmax, im.shape[1])):
            raise InputError(f"window {list(window)} has no pixels in an image {list(im.shape)}")
        if not self.context_pad:
            return im[ymin:ymax, xmin:xmax]
        return self._crop_with_context(im, np.array([ymin, xmin, ymax, xmax], np.float64))

    def _crop_with_context(self, im: Array, box: Any) -> Array:
        """The window in its surroundings; beyond the image's border lies the mean."""
        blob = self.blobs[self.inputs[0]]
        size, context_pad = blob.width, self.context_pad or 0
        if blob.height != size or 2 * context_pad >= size:
            raise InputError(
                f"context_pad {context_pad} needs a square input of more than twice that size, "
                f"got {blob.height} x {size}"
            )
        half = (box[2:] - box[:2] + 1) / 2 * size / (size - 2 * context_pad)
        centre = box[:2] + (box[2:] - box[:2] + 1) / 2
        box = np.round(np.concatenate([centre - half, centre + half]))
        scale = size / (box[2:] - box[:2] + 1)
        pad = np.round(np.maximum(0, -box[:2]) * scale)
        box = box.clip(0, [*im.shape[:2], *im.shape[:2]])
        dims = np.minimum(np.round((box[2:] - box[:2] + 1) * scale), size - pad)
        y0, x0, y1, x1 = box.astype(int)
        (y, x), (height, width) = pad.astype(int), dims.astype(int)
        canvas = np.ones((size, size, blob.channels), np.float32) * self.crop_mean
        canvas[y : y + height, x : x + width] = resize_image(im[y0:y1, x0:x1], (height, width))
        return canvas

    def _image_mean(self) -> Array:
        """The mean as an image that `preprocess` turns to zero, (1 or h, 1 or w, C)."""
        name, transformer = self.inputs[0], self.transformer
        if name not in transformer.mean:
            return np.zeros((1, 1, self.blobs[name].channels), np.float32)
        mean = transformer.mean[name]
        if name in transformer.raw_scale:
            mean = mean / np.float32(transformer.raw_scale[name])
        if name in transformer.channel_swap:
            mean = mean[np.argsort(transformer.channel_swap[name])]
        return mean.transpose(np.argsort(transformer.transpose[name]))
