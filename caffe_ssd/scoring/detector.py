"""A detector for programs: from files of a net to what is found on pictures, in a few lines.

detector = Detector("deploy.prototxt", "x.caffemodel", labels="labelmap.prototxt")
for picture, found in detector.stream(["a.jpg", "folder/", "b.mp4", array]):
    print(found)
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np
import torch

from caffe_ssd.devices import allow_tf32, device_named
from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net
from caffe_ssd.proto.label_map import read_label_map
from caffe_ssd.proto.lenient import Lenient
from caffe_ssd.scoring.calibration import picture_transform
from caffe_ssd.scoring.detections import Detections
from caffe_ssd.scoring.engine_choice import AUTO, EngineChoice, choose_engine, give_engine
from caffe_ssd.scoring.loading import PathLike, load_net
from caffe_ssd.scoring.multi_scale import MultiScaleDetector
from caffe_ssd.scoring.picture_detector import PictureDetector
from caffe_ssd.scoring.reading import Named, pictures_of
from caffe_ssd.scoring.scales import MultiScale
from caffe_ssd.scoring.sources import Picture, Source, items_of

Labels = PathLike | Sequence[str] | Mapping[int, str] | None


class Detector:
    """A trained detector. Threads may share it: they take turns at the net.

    Args:
        model: a deploy prototxt with one Input (N, 1 or 3, H, W) and one DetectionOutput layer.
        weights: one or more caffemodel or HDF5 files.
        labels: names of the classes: a label map file, names in the order of their labels (the
            background, 0, included), or label -> name; None shows numbers.
        engine: what runs the net: "auto" is the fastest installed one that gives the same numbers,
            "none" the plain net; see docs/engines.md. Or a choice that says all of this and the
            next three.
        precision: "fp32", "bf16" or "int8".
        calibration: a folder or an LMDB with pictures, for int8.
        calibration_images: how many of them to take; None for 200.
        device: "cpu", "cuda", "cuda:1" or a torch.device.
        tf32: let CUDA devices round the factors of products; other numbers. It holds for the whole
            process, as everywhere in PyTorch.
        threshold: lowest score of what is found.
        mean: subtracted per channel (BGR); None for 104, 117, 123, or 0 for nets with one channel.
        scale: factor after the mean.
        size: (height, width) of the net's input; None for the net's own.
        multi_scale: look at each picture several times; None for once.
        batch: pictures in one pass of `stream`.
        lenient: skip fields of the prototxt that this Caffe does not know and that cannot
            change a result, with a warning.
        allow_unfilled: go on where the weights do not fill all learnable layers.

    Raises:
        CaffeError: a file cannot be read, the net is no detector for pictures, or an argument makes
            no sense.
    """

    def __init__(
        self,
        model: PathLike,
        weights: PathLike | Sequence[PathLike],
        *,
        labels: Labels = None,
        engine: str | EngineChoice = AUTO,
        precision: str = "fp32",
        calibration: str | None = None,
        calibration_images: int | None = None,
        device: str | torch.device = "cpu",
        tf32: bool = False,
        threshold: float = 0.5,
        mean: tuple[float, ...] | None = None,
        scale: float = 1.0,
        size: tuple[int, int] | None = None,
        multi_scale: MultiScale | None = None,
        batch: int = 8,
        lenient: Lenient = False,
        allow_unfilled: bool = False,
    ) -> None:
        if batch < 1:
            raise UsageError(f"batch must be at least 1, got {batch}")
        check_threshold(threshold)
        place = device_named(device)
        if not isinstance(engine, EngineChoice):
            engine = choose_engine(
                engine,
                device=place,
                default=AUTO,
                precision=precision,
                calibration=calibration,
                images=calibration_images,
            )
        self.class_names = _class_names(labels)
        self.threshold = threshold
        self.batch = batch
        self._model = os.fspath(model)
        if place.type == "cuda":
            allow_tf32(tf32)
        net = load_net(
            model,
            weights,
            device=place,
            lenient=lenient,
            is_deploy=True,
            allow_unfilled=allow_unfilled,
        )
        self._detector = _picture_detector(net, mean, scale, size, multi_scale)
        transform = picture_transform(
            self._detector.channels, self._detector.size, mean=mean, scale=scale
        )
        sizes = 1 if multi_scale is None else len(multi_scale.scales)
        self._engine = give_engine(net, engine, transform=transform, sizes=sizes)
        self._turn = threading.Lock()

    def stream(
        self, sources: Source | Iterable[Source], *, threshold: float | None = None
    ) -> Iterator[tuple[Picture, Detections]]:
        """What is found on one picture after the other; they are read ahead of their turn.

        Args:
            sources: files, folders (all pictures and videos below, ordered by name), globs, text
                lists, video files, numbers of cameras, "-" for a list on standard input, and arrays
                (height, width, 3), BGR, uint8, in any number, also without end. Up to two batches
                of them are taken ahead; an array must not change before its turn.
            threshold: lowest score; None for the detector's own.

        Yields:
            The picture, (height, width, 3), BGR, uint8, and what is on it.

        Raises:
            FileError: a file cannot be opened, or a folder holds no picture.
            DataError: something is no picture; says which.
            UsageError: the threshold is not in [0, 1], or a folder holds results of this program.
        """
        if threshold is not None:
            check_threshold(threshold)
        pictures = pictures_of(items_of(sources), ahead=self.batch)
        for named, found in self.look(pictures, threshold=threshold):
            yield named.picture, found

    def look(
        self, pictures: Iterable[Named], *, threshold: float | None = None
    ) -> Iterator[tuple[Named, Detections]]:
        """What is found on pictures that somebody else reads, with all that is known of them.

        Args:
            pictures: taken by batches.
            threshold: lowest score; None for the detector's own.
        """
        waiting = iter(pictures)
        filled = 0  # engines prepare for each size of a batch, so a last, short one is filled up
        while part := list(islice(waiting, self.batch)):
            yield from zip(part, self.find(part, threshold=threshold, at_least=filled), strict=True)
            filled = len(part)

    def detect(self, source: Source, *, threshold: float | None = None) -> Detections:
        """What is found on one picture; see `stream`.

        Raises:
            UsageError: there are several pictures.
        """
        found = [found for _, found in islice(self.stream(source, threshold=threshold), 2)]
        if len(found) != 1:
            raise UsageError(f"{source!r} is more than one picture; stream takes them")
        return found[0]

    def find(
        self, part: Sequence[Named], *, threshold: float | None = None, at_least: int = 0
    ) -> list[Detections]:
        """What is found on the pictures of one batch.

        Args:
            part: the pictures.
            threshold: lowest score; None for the detector's own.
            at_least: how many pictures an engine shall see; the last one is repeated.
        """
        pixels = [named.picture for named in part]
        if self._engine is not None:
            pixels += pixels[-1:] * (at_least - len(part))
        with self._turn:
            rows = self._detector.rows(pixels).cpu().numpy()
        lowest = self.threshold if threshold is None else threshold
        rows = rows[rows[:, 2].astype(np.float64) >= lowest]
        found = []
        for item, named in enumerate(part):
            mine = rows[rows[:, 0] == item]
            mine = mine[np.argsort(-mine[:, 2], kind="stable")]
            height, width = named.picture.shape[:2]
            found.append(
                Detections(
                    source=named.name,
                    frame=named.frame,
                    size=(height, width),
                    label=mine[:, 1].astype(np.int64),
                    score=mine[:, 2],
                    box=mine[:, 3:],
                    class_names=self.class_names,
                    _picture=weakref.ref(named.picture),
                )
            )
        return found

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the net's input in pixels."""
        return self._detector.size

    def __repr__(self) -> str:
        net, size = self._detector.net, self._detector.size
        engine = "none" if self._engine is None else self._engine.description
        classes = f", {len(self.class_names)} class names" if self.class_names else ""
        return (
            f"Detector of {self._model}: input {size[0]} x {size[1]} (height x width){classes}, "
            f"threshold {self.threshold:g}, engine {engine}, on {net.device}"
        )


def check_threshold(threshold: float) -> None:
    """Make sure that a threshold is one for scores.

    Raises:
        UsageError: it is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise UsageError(
            f"the threshold is {threshold:g}; scores go from 0 to 1, and so must a threshold"
        )


def _picture_detector(
    net: Net,
    mean: tuple[float, ...] | None,
    scale: float,
    size: tuple[int, int] | None,
    multi_scale: MultiScale | None,
) -> PictureDetector:
    detector = PictureDetector(net, mean=mean, scale=scale, size=size)
    if multi_scale is None:
        return detector
    rule = multi_scale.rule(net, detector.size)
    return MultiScaleDetector(net, rule, mean=mean, scale=scale)


def _class_names(labels: Labels) -> Mapping[int, str]:
    if labels is None:
        return {}
    if isinstance(labels, str | os.PathLike):
        return read_label_map(labels).label_to_display_name
    if isinstance(labels, Mapping):
        return dict(labels)
    return dict(enumerate(labels))
