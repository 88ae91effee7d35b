"""Evaluations made by hand: what was found and what there is, without a net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from caffe_ssd.evaluate.mean_ap import JudgedClass, MeanAPAccumulator
from caffe_ssd.evaluate.results import Detection, ImageSize
from caffe_ssd.evaluate.test_set import AnnotatedObject, make_test_set
from caffe_ssd.net.cost import NetCost
from caffe_ssd.report.evaluation import Evaluation
from tests.data.databases import annotated, datum, picture

Box = tuple[float, float, float, float]
NOBODY = JudgedClass(scores=np.empty(0, np.float32), is_tp=np.empty(0, np.bool_), num_pos=0)


@dataclass
class Records:
    """Pictures of one size."""

    count: int
    height: int
    width: int

    def __len__(self) -> int:
        return self.count

    def first(self) -> bytes:
        return self[0]

    def __getitem__(self, index: int) -> bytes:
        image = datum(picture(self.height, self.width, seed=index), extension=".jpg")
        return annotated(image).SerializeToString()

    def where(self, index: int) -> str:
        return f"record {index}"


def made(
    truth: Sequence[tuple[int, int, Box, bool]],
    found: Sequence[tuple[int, int, float, Box]],
    *,
    num_classes: int = 2,
    num_images: int = 2,
    size: tuple[int, int] = (300, 400),
    judged: Sequence[JudgedClass] = (),
    counts_difficult: bool = False,
) -> Evaluation:
    """An evaluation.

    Args:
        truth: image, class, box (x, y, width, height) and whether it is difficult.
        found: image, class, score and box.
        num_classes: they are called a, b, ...
        num_images: all of one size.
        size: (height, width).
        judged: per class; none for classes of which nothing is known.
        counts_difficult: see `Evaluation`.
    """
    names = [f"class {i}" if num_classes > 26 else chr(97 + i) for i in range(num_classes)]
    images = [ImageSize(name=str(i), height=size[0], width=size[1]) for i in range(num_images)]
    objects = [
        AnnotatedObject(str(image), names[category], *box, is_difficult)
        for image, category, box, is_difficult in truth
    ]
    test_set = make_test_set(images, {name: name for name in names}, objects)
    detections = [
        Detection(str(image), names[category], score, *box) for image, category, score, box in found
    ]
    classes = tuple(judged) or (NOBODY,) * num_classes
    mean_aps = {}
    for version in ("11point", "MaxIntegral", "Integral"):
        accumulator = MeanAPAccumulator(version)
        rows = [[-1, k + 1, each.num_pos, -1, -1] for k, each in enumerate(classes)]
        for k, each in enumerate(classes):
            pairs = zip(each.scores.tolist(), each.is_tp.tolist(), strict=True)
            rows += [[0, k + 1, score, tp, not tp] for score, tp in pairs]
        accumulator.update(np.array(rows, np.float32))
        mean_aps[version] = accumulator.compute()
    return Evaluation(
        net_name="made",
        input_shape=(1, 3, 30, 40),
        cost=NetCost(layers=(), priors=(), peak_activations=0),
        labels=tuple(range(1, num_classes + 1)),
        test_set=test_set,
        found=test_set.found(detections, source="made"),
        judged=classes,
        mean_aps=mean_aps,
        source=Records(num_images, *size),
        mean=(104.0, 117.0, 123.0),
        scale=1.0,
        counts_difficult=counts_difficult,
        device=torch.device("cpu"),
        seconds=1.0,
    )
