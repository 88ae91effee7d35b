"""Whether the priors of a net fit the objects of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from caffe_ssd.boxes.iou import pairwise_iou
from caffe_ssd.datasets.dataset import NOTE, WARNING, AnnotatedPicture, Dataset, Notes
from caffe_ssd.datasets.net_priors import NetPriors

SIZE_EDGES = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
"""Of box sizes, as the root of a box's share of its picture's area."""

_MANY = 0.05
_PAIRS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Every object's best overlap with a prior.

    Args:
        pictures: [B] index of its picture.
        classes: its class.
        sizes: [B] root of its share of the picture's area.
        overlaps: [B] the largest intersection over union with any prior.
    """

    pictures: NDArray[np.int64]
    classes: Sequence[str]
    sizes: NDArray[np.float64]
    overlaps: NDArray[np.float64]


def box_sizes(dataset: Dataset) -> tuple[list[str], NDArray[np.float64]]:
    """Class and size (see `Reach`) of every box."""
    names, sizes = [], []
    for picture in dataset.pictures:
        for box, fractions in zip(picture.boxes, fractions_of(picture), strict=True):
            names.append(box.category)
            width, height = (fractions[2:] - fractions[:2]).clip(0)
            sizes.append(float(np.sqrt(width * height)))
    return names, np.array(sizes)


def size_names() -> list[str]:
    """Names of the sizes between the edges."""
    pairs = pairwise(SIZE_EDGES)
    return [*(f"{low:g} to {high:g}" for low, high in pairs), f"{SIZE_EDGES[-1]:g} +"]


def size_class(sizes: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which of `size_names` each size is."""
    return np.searchsorted(SIZE_EDGES, sizes, side="right") - 1


def fractions_of(picture: AnnotatedPicture) -> NDArray[np.float32]:
    """[B, 4] the boxes as fractions of the picture, as the database and the net have them."""
    height, width = picture.size
    corners = np.array([box.corners_px for box in picture.boxes], np.float32).reshape(-1, 4)
    return np.divide(corners, np.array([width, height, width, height], np.float32))


def reach(dataset: Dataset, priors: NetPriors) -> Reach:
    """Compare every object with every prior, without augmentation; empty boxes reach 0."""
    fractions = [fractions_of(picture) for picture in dataset.pictures]
    boxes = torch.from_numpy(np.concatenate([*fractions, np.zeros((0, 4), np.float32)]))
    step = max(1, _PAIRS // max(1, len(priors.boxes)))
    best = [
        pairwise_iou(boxes[start : start + step], priors.boxes).amax(1)
        for start in range(0, len(boxes), step)
    ]
    names, sizes = box_sizes(dataset)
    counts = [len(picture.boxes) for picture in dataset.pictures]
    return Reach(
        pictures=np.repeat(np.arange(len(counts)), counts),
        classes=names,
        sizes=sizes,
        overlaps=torch.cat(best).double().numpy() if best else np.zeros(0),
    )


def check_priors(dataset: Dataset, priors: NetPriors, notes: Notes) -> None:
    """Note the objects that no prior overlaps enough."""
    found = reach(dataset, priors)
    least = priors.rule.overlap_threshold
    missed = found.overlaps < least
    real = found.sizes > 0
    missed &= real
    count, total = int(missed.sum()), int(real.sum())
    if not total:
        return
    height, width = priors.input_size
    start = f"the net's {len(priors.boxes)} priors (input {height} x {width})"
    if not count:
        notes.add("priors", NOTE, f"{start} reach every object with an overlap of {least:g}")
        return
    share = count / total
    text = (
        f"{count} of {total} objects ({share:.1%}) are reached by none of {start} with an overlap "
        f"of {least:g}; each is learnt by one prior only. {_by_kind(found, missed)}"
    )
    severity = WARNING if share > _MANY else NOTE
    names = [dataset.pictures[index].name for index in found.pictures[missed].tolist()]
    notes.add_all("priors", severity, text, names)


def _by_kind(found: Reach, missed: NDArray[np.bool_]) -> str:
    """Which classes and sizes they are, those with the largest share first."""
    real = found.sizes > 0
    kinds = np.array(found.classes)
    by_class = [
        (float(missed[kinds == name].mean()), f"{name} {int(missed[kinds == name].sum())}")
        for name in sorted(set(found.classes))
    ]
    groups = size_class(found.sizes)
    by_size = [
        f"{name}: {int(missed[groups == i].sum())} of {int((real & (groups == i)).sum())}"
        for i, name in enumerate(size_names())
        if missed[groups == i].any()
    ]
    worst = [text for share, text in sorted(by_class, reverse=True) if share > 0][:5]
    return f"By class: {', '.join(worst)}. By size: {', '.join(by_size)}"
