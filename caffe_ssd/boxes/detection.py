"""From the network's raw outputs to a list of detections.

Spec: ssd-layers.md section 3; other-forks.md sections 12 (clip) and 13.1 (priors of each image).
Quirk: boxes are not clipped, and an image's rows are ordered by class, then by score.
Quirk: equal scores keep the order of the priors; the reference's GPU build leaves it open.

What has a chance by its score is picked where the scores lie; the rest is done on the host, image
by image. From a device it comes at once, which means to wait twice: for how many there are, and for
them.

Letters: N images, P priors, C classes, L location classes (1 or C), D detections, M candidates.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.boxes.coding import CodeType, check_priors, decode, unusable_priors
from caffe_ssd.boxes.nms import Boxes, Indices, grouped_nms

LOWEST_SCORE = torch.finfo(torch.float32).min

_LEAST_LOOKED_AT = 64


@dataclass(frozen=True, kw_only=True)
class DetectionRule:
    """What makes a detection.

    Args:
        background_label_id: the class that is none; -1: every class counts.
        confidence_threshold: scores must exceed it.
        nms_threshold: largest overlap of two detections of a class.
        top_k: candidates per class before suppression; -1: all.
        eta: see `grouped_nms`.
        keep_top_k: detections per image after suppression; -1: all.
        clip: cut boxes to the image before suppression.
    """

    background_label_id: int = 0
    confidence_threshold: float = LOWEST_SCORE
    nms_threshold: float = 0.3
    top_k: int = -1
    eta: float = 1.0
    keep_top_k: int = -1
    clip: bool = False

    def num_objects(self, num_classes: int) -> int:
        """How many of the classes count."""
        return num_classes - (0 <= self.background_label_id < num_classes)


@dataclass(frozen=True, kw_only=True)
class Coded:
    """Boxes as the network gives them.

    Args:
        loc: [N, P, L, 4] location codes.
        given_priors: [P, 4], the priors of the net, which must be usable.
        priors: those that the codes refer to: the same, or [N, P, 4], made of them for each image.
        variances: [P, 4]; None if the codes already contain them.
        code_type: of `loc`.
    """

    loc: Tensor
    given_priors: Tensor
    priors: Tensor
    variances: Tensor | None
    code_type: CodeType

    def decode(self, image: Tensor, prior: Tensor, label: Tensor) -> Tensor:
        """The boxes of some entries, [M] each -> [M, 4]."""
        own = label if self.loc.shape[2] > 1 else torch.zeros_like(label)
        variances = None if self.variances is None else self.variances[prior]
        priors = self.priors[prior] if self.priors.dim() == 2 else self.priors[image, prior]
        return decode(self.loc[image, prior, own], priors, variances, self.code_type)


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """Entries of one image in the order of priors and classes, on the host; [M] each.

    Args:
        entry: number of prior times C plus the class.
        score: their scores.
        boxes: [M, 4]; None: not decoded yet.
    """

    entry: Indices
    score: NDArray[np.floating[Any]]
    boxes: Boxes | None = None

    def __getitem__(self, index: NDArray[Any] | slice) -> _Candidates:
        return _Candidates(
            entry=self.entry[index],
            score=self.score[index],
            boxes=None if self.boxes is None else self.boxes[index],
        )


@torch.no_grad()
def detect(scores: Tensor, coded: Coded, rule: DetectionRule) -> Tensor:
    """Decode, suppress and select.

    Args:
        scores: [N, P, C], as probabilities.
        coded: the boxes.
        rule: the thresholds.

    Returns:
        [D, 7] rows (image, label, score, xmin, ymin, xmax, ymax).

    Raises:
        LayerError: the priors cannot be decoded.
    """
    on_host = scores.device.type == "cpu"
    found = _on_host(scores, coded, rule) if on_host else _from_device(scores, coded, rule)
    num_classes = scores.shape[2]
    rows = [
        _detections(image, candidates, coded, rule, num_classes)
        for image, candidates in enumerate(found)
    ]
    detections = torch.from_numpy(np.concatenate(rows) if rows else np.empty((0, 7), np.float32))
    return detections.to(scores.device, scores.dtype, non_blocking=True)


def _on_host(scores: Tensor, coded: Coded, rule: DetectionRule) -> list[_Candidates]:
    """The candidates of each image; boxes are decoded when it is known which are needed."""
    check_priors(coded.given_priors, None, coded.code_type)
    found = []
    for of_image in scores.detach().numpy():
        chosen = of_image > rule.confidence_threshold
        if rule.background_label_id >= 0:
            chosen[:, rule.background_label_id] = False
        entry = np.flatnonzero(chosen)
        found.append(_Candidates(entry=entry, score=of_image.reshape(-1)[entry]))
    return found


def _from_device(scores: Tensor, coded: Coded, rule: DetectionRule) -> list[_Candidates]:
    """The same with boxes, from scores that lie on a device."""
    num_images, num_priors, num_classes = scores.shape
    chosen = scores > rule.confidence_threshold
    if rule.background_label_id >= 0:
        chosen[:, :, rule.background_label_id] = False
    if 0 < rule.top_k < num_priors:  # this only spares sending; the host sorts out equal scores
        best = scores.transpose(1, 2).topk(rule.top_k, dim=2, sorted=False).values
        chosen &= scores >= best.amin(2)[:, None]
    image, prior, label = chosen.nonzero(as_tuple=True)  # waits
    boxes = coded.decode(image, prior, label)
    wrong = unusable_priors(coded.given_priors, None, coded.code_type).any()
    numbers = torch.stack([image, prior * num_classes + label], 1)
    # Numbers of any size and scores travel together, as doubles hold both.
    row = torch.cat([numbers.double(), scores[image, prior, label, None], boxes], 1)
    row = torch.cat([row, wrong.expand(1, row.shape[1])])
    sent = row.cpu().numpy()  # waits
    if sent[-1, 0]:
        check_priors(coded.given_priors.cpu(), None, coded.code_type)
    everything = _Candidates(
        entry=sent[:-1, 1].astype(np.intp),
        score=sent[:-1, 2].astype(_numpy_type(scores)),
        boxes=sent[:-1, 3:].astype(_numpy_type(boxes)),
    )
    bounds = np.searchsorted(sent[:-1, 0], np.arange(num_images + 1))
    return [everything[a:b] for a, b in pairwise(bounds)]


def _detections(
    image: int, found: _Candidates, coded: Coded, rule: DetectionRule, num_classes: int
) -> Boxes:
    """The rows of one image, [D, 7].

    Whether a box is kept depends on better boxes of its class alone. So as many of the best are
    settled as it takes to have enough; lower scores have no chance then.
    """
    count, total = rule.keep_top_k, len(found.score)
    most = total if rule.top_k < 0 else min(total, rule.top_k * rule.num_objects(num_classes))
    looked_at = total if count < 0 else max(_LEAST_LOOKED_AT, 2 * count)
    while True:
        best = found
        if looked_at < total:
            floor = np.partition(found.score, total - looked_at)[total - looked_at]
            best = found[np.flatnonzero(found.score >= floor)]
        best, sizes = _ordered(best, rule, num_classes)
        boxes = _decoded(image, best, coded, num_classes) if best.boxes is None else best.boxes
        if rule.clip:
            boxes = boxes.clip(0, 1)
        keep = grouped_nms(boxes, sizes, threshold=rule.nms_threshold, eta=rule.eta)
        kept = np.flatnonzero(keep)
        if looked_at >= total or len(boxes) >= most or len(kept) >= count:
            break
        # As many more as should do if they fare like these.
        looked_at = int(looked_at * min(4, max(1.5, 1.3 * count / max(1, len(kept)))))
    if 0 <= count < len(kept):
        order = np.argsort(-best.score[kept], kind="stable")
        kept = kept[np.sort(order[:count])]
    rows = np.empty((len(kept), 7), boxes.dtype)
    rows[:, 0] = image
    rows[:, 1] = best.entry[kept] % num_classes
    rows[:, 2] = best.score[kept]
    rows[:, 3:] = boxes[kept]
    return rows


def _ordered(
    found: _Candidates, rule: DetectionRule, num_classes: int
) -> tuple[_Candidates, Indices]:
    """By class, then by falling score, `top_k` of each at most; and how many each class has."""
    label = found.entry % num_classes
    order = np.lexsort((-found.score, label))
    sizes = np.bincount(label, minlength=num_classes)
    if 0 <= rule.top_k < len(order):
        rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        order = order[rank < rule.top_k]
        sizes = np.minimum(sizes, rule.top_k)
    return found[order], sizes


def _decoded(image: int, found: _Candidates, coded: Coded, num_classes: int) -> Boxes:
    prior, label = np.divmod(found.entry, num_classes)
    at = torch.full((len(prior),), image)
    boxes: Boxes = coded.decode(at, torch.from_numpy(prior), torch.from_numpy(label)).numpy()
    return boxes


def _numpy_type(x: Tensor) -> np.dtype[Any]:
    return np.dtype(str(x.dtype).removeprefix("torch."))
