"""Average precision and recall as COCO counts them, by the official code (`pycocotools`).

Source: cocodataset.org, detection evaluation.

Difficult objects of other annotations are handed over as crowds, which is what COCO has for objects
that should neither be found nor missed. Areas that no annotation states are those of the boxes,
while COCO's own are those of the outlines: the numbers for small, medium and large objects are
official only with COCO's annotation file.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from caffe_ssd.distribution import install_hint
from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.score import ProtocolScore
from caffe_ssd.evaluate.test_set import Found, TestSet

TITLE = "COCO protocol"
NUMBERS = (
    "COCO AP@[.50:.95]",
    "COCO AP@.50",
    "COCO AP@.75",
    "COCO AP@[.50:.95] small",
    "COCO AP@[.50:.95] medium",
    "COCO AP@[.50:.95] large",
    "COCO AR@[.50:.95] 1 per image",
    "COCO AR@[.50:.95] 10 per image",
    "COCO AR@[.50:.95] 100 per image",
    "COCO AR@[.50:.95] small",
    "COCO AR@[.50:.95] medium",
    "COCO AR@[.50:.95] large",
)
"""The 12 numbers in the official order."""

_COLUMNS: Mapping[str, slice | int] = {"AP": slice(None), "AP50": 0, "AP75": 5}


def check_pycocotools() -> None:
    """Make sure that the official code is there.

    Raises:
        UsageError: it is not installed.
    """
    _pycocotools()


def score_coco(test_set: TestSet, found: Found) -> ProtocolScore:
    """Score detections by the COCO protocol.

    Args:
        test_set: the truth.
        found: the detections; of each category the 100 best of an image count.

    Raises:
        UsageError: pycocotools is not installed.
    """
    coco, cocoeval = _pycocotools()
    with contextlib.redirect_stdout(io.StringIO()):  # it reports its progress there
        truth, results = coco(), coco()
        truth.dataset, results.dataset = _truth(test_set), _results(test_set, found)
        truth.createIndex()
        results.createIndex()
        evaluation = cocoeval(truth, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # overlap, recall, category
    return ProtocolScore(
        title=TITLE,
        numbers=dict(zip(NUMBERS, map(_defined, evaluation.stats.tolist()), strict=True)),
        per_class={
            column: {
                name: _defined(float(precision[overlaps, :, k].mean()))
                for k, name in enumerate(test_set.categories)
            }
            for column, overlaps in _COLUMNS.items()
        },
    )


def _pycocotools() -> tuple[Any, Any]:
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise UsageError(
            f"the COCO protocol needs the package pycocotools: {install_hint('coco')}"
        ) from error
    return COCO, COCOeval


def _truth(test_set: TestSet) -> dict[str, object]:
    objects, ids = test_set.objects, _image_ids(test_set)
    columns = zip(
        objects.image.tolist(),
        objects.category.tolist(),
        objects.boxes_px.tolist(),
        objects.areas_px.tolist(),
        objects.is_difficult.tolist(),
        strict=True,
    )
    return {
        **_frame(test_set, ids),
        "annotations": [
            {
                "id": number,
                "image_id": ids[image],
                "category_id": category + 1,
                "bbox": box,
                "area": area,
                "iscrowd": int(is_difficult),
            }
            for number, (image, category, box, area, is_difficult) in enumerate(columns, 1)
        ],
    }


def _results(test_set: TestSet, found: Found) -> dict[str, object]:
    ids = _image_ids(test_set)
    columns = zip(
        found.image.tolist(),
        found.category.tolist(),
        found.boxes_px.tolist(),
        found.scores.tolist(),
        strict=True,
    )
    return {
        **_frame(test_set, ids),
        "annotations": [
            {
                "id": number,
                "image_id": ids[image],
                "category_id": category + 1,
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "score": score,
            }
            for number, (image, category, box, score) in enumerate(columns, 1)
        ],
    }


def _frame(test_set: TestSet, ids: list[int]) -> dict[str, object]:
    return {
        "images": [{"id": number} for number in ids],
        "categories": [{"id": k + 1} for k in range(len(test_set.categories))],
    }


def _image_ids(test_set: TestSet) -> list[int]:
    """COCO's own ids where the names are numbers: equal scores are ranked by them."""
    names = [image.name for image in test_set.images]
    if all(name.isascii() and name.isdigit() for name in names):
        ids = [int(name) for name in names]
        if len(set(ids)) == len(ids):
            return ids
    return list(range(1, len(names) + 1))


def _defined(value: float) -> float:
    """COCO's -1 stands for a number that is not defined."""
    return float(np.nan) if value < 0 else value
