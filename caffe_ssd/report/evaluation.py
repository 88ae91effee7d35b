"""One pass of the test net over its test set, and all that a report needs to know from it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray

from caffe_ssd.boxes.average_precision import precision_recall
from caffe_ssd.data.records import LmdbSource, RecordSource
from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.mean_ap import JudgedClass, MeanAP
from caffe_ssd.evaluate.test_set import Floats, Found, Indices, TestSet
from caffe_ssd.layers.data import RecordLayer
from caffe_ssd.layers.detection_evaluate import DetectionEvaluate
from caffe_ssd.net import Net
from caffe_ssd.net.cost import NetCost, net_cost
from caffe_ssd.proto.label_map import LabelMap, read_label_map
from caffe_ssd.proto.text import read_net
from caffe_ssd.report.run_files import RunFiles, with_absolute_paths
from caffe_ssd.scoring.loading import load_net
from caffe_ssd.scoring.official import OfficialScores, own_names
from caffe_ssd.scoring.score import tally_of
from caffe_ssd.scoring.tally import judged_outputs
from caffe_ssd.scoring.whole_set import record_readers

MIN_OVERLAP = 0.5
"""Least overlap of a detection with the object that it finds."""

_NOBODY = JudgedClass(scores=np.empty(0, np.float32), is_tp=np.empty(0, np.bool_), num_pos=0)


@dataclass(frozen=True, kw_only=True)
class BestPoint:
    """Where a class has its best F1.

    Args:
        threshold: lowest score that counts there.
        precision, recall, f1: at this threshold; nan where nothing was found.
    """

    threshold: float
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, kw_only=True)
class ImagePairs:
    """The detections and objects of one image.

    Args:
        image: its number.
        found: indices of its detections, best score first. [D]
        objects: indices of its objects. [G]
        overlap: intersection over union of the boxes in pixels, of any classes. [D, G]
    """

    image: int
    found: Indices
    objects: Indices
    overlap: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a net found in its test set.

    Args:
        net_name: from the prototxt.
        input_shape: (N, C, H, W) of the net's data.
        cost: what the net costs, for N pictures.
        labels: of the classes, in the order of `test_set.categories`.
        test_set: the truth.
        found: the detections.
        judged: by the reference's layer, one per class; what AP is made of.
        mean_aps: by version.
        source: the pictures' records.
        mean, scale: how pixels become input; None for a mean that is a picture.
        counts_difficult: whether difficult objects count like others.
        device: where the net ran.
        seconds: that the pass took.
    """

    net_name: str
    input_shape: tuple[int, ...]
    cost: NetCost
    labels: tuple[int, ...]
    test_set: TestSet
    found: Found
    judged: tuple[JudgedClass, ...]
    mean_aps: dict[str, MeanAP]
    source: RecordSource = field(repr=False)
    mean: tuple[float, ...] | None
    scale: float
    counts_difficult: bool
    device: torch.device
    seconds: float

    @cached_property
    def image_names(self) -> tuple[str, ...]:
        """The images' names for people: of a name-size file, else the files that keys tell of."""
        names = tuple(image.name for image in self.test_set.images)
        if names != tuple(map(str, range(len(names)))) or not isinstance(self.source, LmdbSource):
            return names
        keys = [key.decode(errors="replace").rstrip("\0") for key in LmdbSource.keys(self.source)]
        return tuple(PurePosixPath(key.partition("_")[2] or key).stem for key in keys)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The classes' names for people."""
        return tuple(self.test_set.categories.values())

    def class_ap(self, version: str) -> list[float]:
        """AP of each class; nan for one without objects, which the reference counts as 0."""
        per_class = self.mean_aps[version].per_class
        return [
            per_class.get(label, math.nan) if each.num_pos else math.nan
            for label, each in zip(self.labels, self.judged, strict=True)
        ]

    @cached_property
    def best_points(self) -> tuple[BestPoint, ...]:
        """The best F1 of each class."""
        return tuple(map(best_point, self.judged))

    @cached_property
    def best_of_all(self) -> BestPoint:
        """The best F1 with one threshold for all classes."""
        return best_point(
            JudgedClass(
                scores=np.concatenate([each.scores for each in self.judged]),
                is_tp=np.concatenate([each.is_tp for each in self.judged]),
                num_pos=sum(each.num_pos for each in self.judged),
            )
        )

    def pairs(self) -> Iterator[ImagePairs]:
        """Every image with its detections and objects, in order."""
        found, objects = self.found, self.test_set.objects
        order = np.lexsort((-found.scores, found.image))
        own = np.argsort(objects.image, kind="stable")
        images = np.arange(len(self.test_set.images) + 1)
        starts = np.searchsorted(found.image[order], images)
        own_starts = np.searchsorted(objects.image[own], images)
        for image in range(len(self.test_set.images)):
            mine = order[starts[image] : starts[image + 1]]
            truth = own[own_starts[image] : own_starts[image + 1]]
            overlap = overlaps(found.boxes_px[mine], objects.boxes_px[truth])
            yield ImagePairs(image=image, found=mine, objects=truth, overlap=overlap)


def best_point(judged: JudgedClass) -> BestPoint:
    """Where F1, the harmonic mean of precision and recall, is largest.

    Equal scores stand or fall together.
    """
    if not len(judged.scores) or not judged.num_pos:
        return BestPoint(threshold=0.5, precision=math.nan, recall=math.nan, f1=math.nan)
    precision, recall = precision_recall(judged.scores, judged.is_tp, judged.num_pos)
    scores = -np.sort(-judged.scores)
    is_last = np.append(scores[1:] != scores[:-1], True)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(np.argmax(np.where(is_last, f1, -1)))
    return BestPoint(
        threshold=float(scores[best]),
        precision=float(precision[best]),
        recall=float(recall[best]),
        f1=float(f1[best]),
    )


def overlaps(a: Floats, b: Floats) -> NDArray[np.float32]:
    """Intersection over union of boxes (x, y, width, height) [D, 4] and [G, 4]; [D, G]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, :2] + a[:, None, 2:], b[None, :, :2] + b[None, :, 2:])
    common = np.maximum(high - low, 0).prod(axis=2)
    areas = a[:, 2:].prod(axis=1)[:, None] + b[:, 2:].prod(axis=1)[None] - common
    iou = np.divide(common, areas, out=np.zeros_like(common), where=areas > 0)
    return np.asarray(iou, np.float32)


def evaluate(
    files: RunFiles, *, device: torch.device, workers: int | None = 0, lenient: bool = False
) -> Evaluation:
    """Run the test net over its test set.

    Args:
        files: with a test net and weights.
        device: where.
        workers: data worker processes; None for as many as the device deserves.
        lenient: skip fields of the prototxt that cannot change a result.

    Raises:
        UsageError: the net judges no detections, or has no weights.
        CaffeError: a file cannot be read, or they do not fit one another.
    """
    if files.test_model is None or not files.weights:
        raise UsageError("there is nothing to score: no test net, or no weights")
    param = with_absolute_paths(read_net(files.test_model, lenient=lenient), files.base)
    net = load_net(param, files.weights, device=device, workers=workers, lenient=lenient)
    if not judged_outputs(net):
        raise UsageError(
            f"{files.test_model} has no DetectionEvaluate layer, so there is nothing to report of "
            "its detections; name the test net of a detector"
        )
    label_map = _label_map(net, files.label_map)
    official = OfficialScores(net, label_map)
    start = time.perf_counter()
    accumulators = next(iter(tally_of(net, whole_set=True).accumulators.values()))
    seconds = time.perf_counter() - start
    classes = accumulators[0].classes()
    labels = [label_map.name_to_label[name] for name in official.test_set.categories]
    data_layer, reader = next(record_readers(net))
    shape = _data_shape(net, data_layer)
    judge = next(layer for layer in net.layers if isinstance(layer, DetectionEvaluate))
    mean = reader.transform.mean
    return Evaluation(
        net_name=net.name,
        input_shape=shape,
        cost=net_cost(net),
        labels=tuple(labels),
        test_set=official.test_set,
        found=official.found(),
        judged=tuple(classes.get(label, _NOBODY) for label in labels),
        mean_aps={each.version: each.compute() for each in accumulators},
        source=official.source,
        mean=None if mean.file else tuple(mean.per_channel(shape[1]).tolist()),
        scale=reader.transform.scale,
        counts_difficult=judge.evaluate_difficult_gt,
        device=device,
        seconds=seconds,
    )


def _data_shape(net: Net, data_layer: RecordLayer) -> tuple[int, ...]:
    """(N, C, H, W) of what a data layer hands out."""
    step = net.steps[list(net.layers).index(data_layer)]
    return tuple(net.blob_shapes[step.tops[0].blob])


def _label_map(net: Net, path: Path | None) -> LabelMap:
    """Names of exactly the classes that the net judges; numbers for those without one."""
    own = own_names(net)
    if path is None:
        return own
    named = read_label_map(path)
    names = {k: named.label_to_name.get(k, name) for k, name in own.label_to_name.items()}
    shown = {k: named.label_to_display_name.get(k, name) for k, name in names.items()}
    return LabelMap(
        name_to_label={name: label for label, name in names.items()},
        label_to_name=names,
        label_to_display_name=shown,
    )
