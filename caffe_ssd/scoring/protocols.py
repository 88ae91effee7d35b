"""Scores of detections by several protocols, each by its name.

"reference" is how the reference's DetectionEvaluate layer counts in pixels, with its three versions
of AP; the official protocols are those of `evaluate.voc_protocol` and `evaluate.coco_protocol`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from caffe_ssd.boxes.average_precision import AP_VERSIONS
from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.coco_protocol import check_pycocotools, score_coco
from caffe_ssd.evaluate.mean_ap import MeanAPAccumulator
from caffe_ssd.evaluate.score import ProtocolScore
from caffe_ssd.evaluate.test_set import Floats, Found, TestSet
from caffe_ssd.evaluate.voc_protocol import score_voc
from caffe_ssd.layers.detection_evaluate import DetectionEvaluate

OFFICIAL = ("voc2007", "voc2012", "coco")
PROTOCOLS = ("reference", *OFFICIAL)

_IMAGES_AT_ONCE = 16


def read_protocols(words: Iterable[str], known: Sequence[str] = PROTOCOLS) -> list[str]:
    """Names of protocols from texts that may each hold several, separated by commas.

    Raises:
        UsageError: one is unknown, or needs a package that is not installed.
    """
    names = [name.strip().lower() for word in words for name in word.split(",")]
    for name in names:
        if name not in known:
            raise UsageError(f"unknown protocol {name!r}; known: {', '.join(known)}")
    if "coco" in names:
        check_pycocotools()
    return list(dict.fromkeys(names))


def score(protocol: str, test_set: TestSet, found: Found) -> ProtocolScore:
    """Score by one of `PROTOCOLS`; see `read_protocols`."""
    if protocol == "reference":
        return _score_as_reference(test_set, found)
    if protocol == "coco":
        return score_coco(test_set, found)
    return score_voc(test_set, found, year=protocol.removeprefix("voc"))


def reference_score(
    accumulators: Sequence[MeanAPAccumulator], names: Mapping[int, str]
) -> ProtocolScore:
    """The reference's mAP in several versions, from accumulators that have seen all rows.

    Args:
        accumulators: one per version.
        names: categories by label.
    """
    results = {each.version: each.compute() for each in accumulators}
    return ProtocolScore(
        title="reference",
        numbers={f"reference mAP ({version})": each.value for version, each in results.items()},
        per_class={
            version: {
                names.get(label, str(label)): value for label, value in each.per_class.items()
            }
            for version, each in results.items()
        },
    )


def _score_as_reference(test_set: TestSet, found: Found) -> ProtocolScore:
    """Lets the layer judge the boxes of the files, some images at a time."""
    names = dict(enumerate(test_set.categories, 1))
    accumulators = [MeanAPAccumulator(version) for version in AP_VERSIONS]
    layer = DetectionEvaluate(
        num_classes=len(names) + 1, evaluate_difficult_gt=False, sizes=test_set.images
    )
    for first, detections, label in _blobs(test_set, found):
        layer.next_image = first
        rows = layer(detections, label).numpy()
        for accumulator in accumulators:
            accumulator.update(rows)
    return reference_score(accumulators, names)


def _blobs(test_set: TestSet, found: Found) -> Iterator[tuple[int, Tensor, Tensor]]:
    """First image, detections (1, 1, D, 7) and labels (1, 1, G, 8) of some images at a time."""
    truth = test_set.objects
    sides = np.array([[image.width, image.height] * 2 for image in test_set.images], np.float64)
    tables = []
    for columns, scores, last in (
        (found, found.scores, np.empty((len(found), 0))),
        (truth, np.zeros(len(truth.image)), truth.is_difficult[:, None]),
    ):
        corners = columns.boxes_px.copy()
        corners[:, 2:] += corners[:, :2]
        corners /= sides[columns.image]
        head = np.stack([columns.image, columns.category + 1, scores], 1)
        table = np.concatenate([head, corners, last], 1)
        tables.append(table[columns.image.argsort(kind="stable")])
    for first in range(0, len(test_set.images), _IMAGES_AT_ONCE):
        detections, label = (_part(table, first) for table in tables)
        yield first, detections, label


def _part(table: Floats, first: int) -> Tensor:
    low, high = table[:, 0].searchsorted([first, first + _IMAGES_AT_ONCE])
    rows = table[low:high].astype(np.float32)
    rows[:, 0] -= first
    if not len(rows):
        rows = np.full((1, table.shape[1]), -1, np.float32)
    return torch.from_numpy(rows)[None, None]
