"""Saves the detections of a test set while it passes through DetectionOutput.

Spec: ssd-data.md section 7.
Quirk: files appear, all at once and complete, after every `num_test_image` images. The reference
    empties VOC files as soon as a net is built, which loses earlier results; that is not repeated.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caffe_ssd.boxes.image_space import AppliedResize, to_image_px
from caffe_ssd.errors import DataError, FileError
from caffe_ssd.evaluate.results import Detection, ImageSize, coco_text, ilsvrc_text, voc_text
from caffe_ssd.files import atomic_write

logger = logging.getLogger(__name__)

FORMATS = ("VOC", "COCO", "ILSVRC")


class ResultWriter:
    """Collects detections image by image and writes them after each pass over the test set.

    Args:
        directory: where to; made when the first file is written.
        prefix: beginning of every file name.
        output_format: `VOC`, `COCO` or `ILSVRC`; anything else writes nothing.
        names: class names by label.
        background_label_id: the class without a VOC file.
        sizes: names and sizes of the images, in the order in which they come.
        num_test_image: images in a pass; at most as many as there are sizes.
        resize: how the images became the network's input.
    """

    def __init__(
        self,
        *,
        directory: str | os.PathLike[str],
        prefix: str,
        output_format: str,
        names: Mapping[int, str],
        background_label_id: int,
        sizes: Sequence[ImageSize],
        num_test_image: int,
        resize: AppliedResize | None = None,
    ) -> None:
        self.directory = Path(directory)
        self.prefix = prefix
        self.output_format = output_format
        self.names = names
        self.background_label_id = background_label_id
        self.sizes = sizes
        self.num_test_image = num_test_image
        self.resize = resize
        self._next = 0
        # Per image: its name, labels [D], scores [D] and (x, y, width, height) [D, 4].
        self._found: list[tuple[str, NDArray[Any], NDArray[Any], NDArray[Any]]] = []
        if output_format not in FORMATS:
            logger.warning(
                "output_format %r is none of %s: detections are not saved",
                output_format,
                ", ".join(FORMATS),
            )

    def add(self, rows: NDArray[np.float32], num_images: int) -> None:
        """Take the detections of the next images.

        Args:
            rows: [D, 7] rows (index in the batch, label, score, box), ordered by image; label -1
                stands for no detection.
            num_images: length of the batch; images without rows count, too.

        Raises:
            DataError: the label map lacks a label that was found.
            FileError: the results cannot be written.
        """
        rows = rows[rows[:, 1] != -1]
        for index in range(num_images):
            self._add_image(rows[rows[:, 0] == index])
            self._next += 1
            if self._next == self.num_test_image:
                self._write()
                self._next, self._found = 0, []

    def _add_image(self, rows: NDArray[np.float32]) -> None:
        if len(rows) == 0:
            return
        size = self.sizes[self._next]
        labels = rows[:, 1].astype(np.int64)
        for label in labels.tolist():
            if label not in self.names:
                raise DataError(f"label {label} was detected but is not in the label map")
        bbox = result_boxes_px(rows[:, 3:], size, self.resize)
        self._found.append((size.name, labels, rows[:, 2].copy(), bbox))

    def _write(self) -> None:
        if self.output_format not in FORMATS:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FileError(f"Could not make folder {self.directory}: {error.strerror}") from error
        if self.output_format == "VOC":
            self._write_voc()
        elif self.output_format == "COCO":
            atomic_write(self._path(".json"), coco_text(self._detections(self.names)))
        else:
            numbers = {label: str(label) for label in self.names}
            atomic_write(self._path(".txt"), ilsvrc_text(self._detections(numbers)))

    def _write_voc(self) -> None:
        per_class: dict[int, list[Detection]] = {
            label: [] for label in self.names if label != self.background_label_id
        }
        labels = [label for _, found, _, _ in self._found for label in found.tolist()]
        for label, detection in zip(labels, self._detections(self.names), strict=True):
            per_class[label].append(detection)
        for label, detections in per_class.items():
            atomic_write(self._path(f"{self.names[label]}.txt"), voc_text(detections))

    def _path(self, ending: str) -> Path:
        return self.directory / f"{self.prefix}{ending}"

    def _detections(self, names: Mapping[int, str]) -> Iterator[Detection]:
        for image, labels, scores, bbox in self._found:
            rows = zip(labels.tolist(), scores.tolist(), bbox.tolist(), strict=True)
            for label, score, box in rows:
                yield Detection(image, names[label], score, *box)


def result_boxes_px(
    boxes: NDArray[np.float32], size: ImageSize, resize: AppliedResize | None
) -> NDArray[np.float32]:
    """Boxes of one image as result files give them.

    Args:
        boxes: [D, 4], normalised.
        size: of the image.
        resize: how it became the network's input.

    Returns:
        [D, 4] (x, y, width, height) in pixels, clipped to the image, with 2 decimals.
    """
    boxes_px, _ = to_image_px(
        torch.from_numpy(boxes.astype(np.float32)),
        torch.full((len(boxes),), size.height),
        torch.full((len(boxes),), size.width),
        resize,
    )
    low, high = boxes_px.numpy()[:, :2], boxes_px.numpy()[:, 2:]
    return _round_to_cents(np.concatenate([low, high - low], 1))


def _round_to_cents(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to 2 decimals, half away from zero."""
    cents = (values * np.float32(100)).astype(np.float64)  # where adding a half is exact
    return (np.copysign(np.floor(np.abs(cents) + 0.5), cents) / 100).astype(np.float32)
