"""From the network's raw outputs to a list of detections.

Spec: ssd-layers.md section 3; other-forks.md sections 12 (clip) and 13.1 (priors of each image).
Quirk: boxes are not clipped, and an image's rows are ordered by class, then by score.
Quirk: equal scores keep the order of the priors; the reference's GPU build leaves it open.

What has a chance by its score is picked where the scores lie; the rest is done on the host, for all
images at once: what has a chance is little, and calls are what costs. From a device it comes at
once, which means to wait twice: for how many there are, and for them.

Letters: N images, P priors, C classes, L location classes (1 or C), D detections, M candidates.
An entry of the scores is known by its place in them, (image P + prior) C + class. A list is what
one class has in one image; its number is image C + class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.boxes.coding import Array, CodeType, are_flat, check_priors, decode, unusable_priors
from caffe_ssd.boxes.nms import Boxes, Indices, Marks, grouped_nms

Shape: TypeAlias = tuple[int, int, int]  # of the scores: N, P, C

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

    def decode(self, entry: Tensor, num_classes: int) -> Tensor:
        """The boxes of some entries of the scores, [M] -> [M, 4]."""
        own, place, prior = self._places(entry, num_classes)
        variances = None if self.variances is None else self.variances[prior]
        priors = self.priors.reshape(-1, 4)[place]
        return decode(self.loc.reshape(-1, 4)[own], priors, variances, self.code_type)

    @np.errstate(over="ignore", invalid="ignore")  # infinite boxes are no news to a tensor
    def decode_on_host(self, entry: Indices, num_classes: int) -> Boxes:
        """The same where everything lies on the host."""
        own, place, prior = self._places(entry, num_classes)
        variances = None if self.variances is None else _rows_of(self.variances, prior)
        return decode(
            _rows_of(self.loc, own), _rows_of(self.priors, place), variances, self.code_type
        )

    def _places(self, entry: Array, num_classes: int) -> tuple[Array, Array, Array]:
        """The rows of codes, priors and variances that belong to entries, [M] each."""
        place = entry // num_classes  # of a prior in an image
        prior = place % len(self.given_priors)
        num_loc_classes = self.loc.shape[2]
        own = place if num_loc_classes == 1 else place * num_loc_classes + entry % num_classes
        return own, prior if self.priors.dim() == 2 else place, prior


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """What has a chance, in the order of the scores' entries, on the host; [M] each.

    Args:
        entry: places in the scores.
        score: the scores there.
        boxes: [M, 4]; None: not decoded yet.
    """

    entry: Indices
    score: NDArray[np.floating[Any]]
    boxes: Boxes | None = None

    def __getitem__(self, index: NDArray[Any]) -> _Candidates:
        return _Candidates(
            entry=self.entry[index],
            score=self.score[index],
            boxes=None if self.boxes is None else self.boxes[index],
        )


def detect(scores: Tensor, coded: Coded, rule: DetectionRule) -> Tensor:
    """Decode, suppress and select; to be called without gradients.

    Args:
        scores: [N, P, C], as probabilities.
        coded: the boxes.
        rule: the thresholds.

    Returns:
        [D, 7] rows (image, label, score, xmin, ymin, xmax, ymax).

    Raises:
        LayerError: the priors cannot be decoded.
    """
    num_images, num_priors, num_classes = scores.shape
    on_host = scores.device.type == "cpu"
    found = _on_host(scores, coded, rule) if on_host else _from_device(scores, coded, rule)
    rows = _detections(found, coded, rule, (num_images, num_priors, num_classes))
    return torch.from_numpy(rows).to(scores.device, scores.dtype, non_blocking=True)


def _on_host(scores: Tensor, coded: Coded, rule: DetectionRule) -> _Candidates:
    """The candidates; boxes are decoded when it is known which are needed."""
    if are_flat(coded.given_priors.numpy()).any():
        check_priors(coded.given_priors, None, coded.code_type)
    entries, found = [], []
    for image, of_image in enumerate(scores.numpy()):  # one fits the cache
        chosen = of_image > rule.confidence_threshold
        if rule.background_label_id >= 0:
            chosen[:, rule.background_label_id] = False
        entry = chosen.reshape(-1).nonzero()[0]
        found.append(of_image.reshape(-1)[entry])
        entries.append(entry + image * of_image.size if image else entry)
    if not found:
        return _Candidates(entry=np.empty(0, np.intp), score=np.empty(0, _numpy_type(scores)))
    return _Candidates(entry=np.concatenate(entries), score=np.concatenate(found))


def _from_device(scores: Tensor, coded: Coded, rule: DetectionRule) -> _Candidates:
    """The same with boxes, from scores that lie on a device."""
    num_priors, num_classes = scores.shape[1:]
    chosen = scores > rule.confidence_threshold
    if rule.background_label_id >= 0:
        chosen[:, :, rule.background_label_id] = False
    if 0 < rule.top_k < num_priors:  # this only spares sending; the host sorts out equal scores
        best = scores.transpose(1, 2).topk(rule.top_k, dim=2, sorted=False).values
        chosen &= scores >= best.amin(2)[:, None]
    entry = chosen.reshape(-1).nonzero()[:, 0]  # waits
    boxes = coded.decode(entry, num_classes)
    wrong = unusable_priors(coded.given_priors, None, coded.code_type).any()
    # Numbers of any size and scores travel together, as doubles hold both.
    row = torch.cat([entry[:, None].double(), scores.reshape(-1)[entry, None], boxes], 1)
    row = torch.cat([row, wrong.expand(1, row.shape[1])])
    sent = row.cpu().numpy()  # waits
    if sent[-1, 0]:
        check_priors(coded.given_priors.cpu(), None, coded.code_type)
    return _Candidates(
        entry=sent[:-1, 0].astype(np.intp),
        score=sent[:-1, 1].astype(_numpy_type(scores)),
        boxes=sent[:-1, 2:].astype(_numpy_type(boxes)),
    )


def _detections(found: _Candidates, coded: Coded, rule: DetectionRule, shape: Shape) -> Boxes:
    """The rows of all images, [D, 7].

    Whether a box is kept depends on better boxes of its class alone. So as many of an image's best
    are settled as it takes to have enough; lower scores have no chance then.
    """
    num_images, num_priors, num_classes = shape
    count = rule.keep_top_k
    looked_at = max(_LEAST_LOOKED_AT, 2 * count)
    if count < 0 or len(found.entry) <= looked_at:
        return _settled(found, coded, rule, shape).rows(count)
    bounds = np.searchsorted(found.entry, np.arange(num_images + 1) * num_priors * num_classes)
    total = np.diff(bounds)
    limit = rule.top_k * rule.num_objects(num_classes)
    most = total if rule.top_k < 0 else np.minimum(total, limit)
    left, pieces = np.arange(num_images), []
    while len(left):
        looked = _settled(_best(found, bounds, left, looked_at), coded, rule, shape)
        num_kept = looked.num_kept()
        enough = (looked_at >= total) | (looked.examined() >= most) | (num_kept >= count)
        left = left[~enough[left]]
        pieces.append(looked.rows(count, enough if len(left) else None))
        if len(left):  # as many more as should do if they fare like these
            fewest = max(1, int(num_kept[left].min()))
            looked_at = int(looked_at * min(4, max(1.5, 1.3 * count / fewest)))
    rows = np.concatenate(pieces)
    return rows if len(pieces) == 1 else rows[np.argsort(rows[:, 0], kind="stable")]


@dataclass(frozen=True, kw_only=True)
class _Settled:
    """What is kept of some candidates, by list and falling score; [K] each.

    Args:
        number: of their lists.
        score: their scores.
        boxes: [K, 4].
        sizes: how many candidates each list had, [N C].
        shape: of the scores.
    """

    number: Indices
    score: NDArray[np.floating[Any]]
    boxes: Boxes
    sizes: Indices
    shape: Shape

    def image(self) -> Indices:
        """The image of each."""
        image: Indices = self.number // self.shape[2]
        return image

    def num_kept(self) -> Indices:
        """How many of each image are kept, [N]."""
        return np.bincount(self.image(), minlength=self.shape[0])

    def examined(self) -> Indices:
        """How many there were of each image, [N]."""
        examined: Indices = self.sizes.reshape(self.shape[0], self.shape[2]).sum(1)
        return examined

    def rows(self, count: int, images: Marks | None = None) -> Boxes:
        """Rows of the `count` best of each image, or of all for -1; [D, 7].

        Args:
            count: how many.
            images: whether an image is wanted, [N]; None: all are.
        """
        number, score, boxes = self.number, self.score, self.boxes
        if images is not None or 0 <= count < len(number):
            image = self.image()
            chosen = np.arange(len(number)) if images is None else images[image].nonzero()[0]
            if count >= 0:
                chosen = chosen[_best_of_each(image[chosen], score[chosen], count)]
            number, score, boxes = number[chosen], score[chosen], boxes[chosen]
        rows = np.empty((len(number), 7), boxes.dtype)
        rows[:, 0], rows[:, 1] = np.divmod(number, self.shape[2])
        rows[:, 2] = score
        rows[:, 3:] = boxes
        return rows


def _settled(found: _Candidates, coded: Coded, rule: DetectionRule, shape: Shape) -> _Settled:
    """Decode and suppress."""
    best, number, sizes = _ordered(found, rule, shape)
    boxes = coded.decode_on_host(best.entry, shape[2]) if best.boxes is None else best.boxes
    if rule.clip:
        boxes = boxes.clip(0, 1)
    most = rule.keep_top_k if rule.keep_top_k >= 0 else None  # of an image, so of a list
    keep = grouped_nms(boxes, sizes, threshold=rule.nms_threshold, eta=rule.eta, most=most)
    kept = keep.nonzero()[0]
    return _Settled(
        number=number[kept], score=best.score[kept], boxes=boxes[kept], sizes=sizes, shape=shape
    )


def _best(found: _Candidates, bounds: Indices, images: Indices, count: int) -> _Candidates:
    """The `count` best of some images, and what equals the last of them.

    Args:
        found: those of all images.
        bounds: where each image begins in `found`, and its end, [N + 1].
        images: which images.
        count: how many of each.
    """
    chosen = []
    for start, end in zip(bounds[images].tolist(), bounds[images + 1].tolist(), strict=True):
        if end - start <= count:
            chosen.append(np.arange(start, end))
            continue
        score = found.score[start:end]
        floor = np.partition(score, -count)[-count]
        chosen.append(np.flatnonzero(score >= floor) + start)
    return found[np.concatenate(chosen)]


def _ordered(
    found: _Candidates, rule: DetectionRule, shape: Shape
) -> tuple[_Candidates, Indices, Indices]:
    """By list, then by falling score, `top_k` of each list at most.

    Returns:
        The candidates, the number of the list of each, and the sizes of all lists, [N C].
    """
    num_images, num_priors, num_classes = shape
    place, label = np.divmod(found.entry, num_classes)
    number = place // num_priors * num_classes + label
    order = _by_score(number, found.score)
    sizes = np.bincount(number, minlength=num_images * num_classes)
    if 0 <= rule.top_k < sizes.max(initial=0):
        order = order[_rank(sizes) < rule.top_k]
        sizes = np.minimum(sizes, rule.top_k)
    return found[order], number[order], sizes


def _best_of_each(image: Indices, score: NDArray[Any], count: int) -> Indices:
    """Which are among the `count` best of their image, in the order they have; [M] -> [D]."""
    order = _by_score(image, score)
    best: Indices = np.sort(order[_rank(np.bincount(image)) < count])
    return best


def _by_score(group: Indices, score: NDArray[Any]) -> Indices:
    """The order by group, then by falling score; what is equal stays as it is."""
    return np.lexsort((-score, group))


def _rank(sizes: Indices) -> Indices:
    """The place of each element within its group, for groups one behind the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _rows_of(x: Tensor, index: Indices) -> Boxes:
    """Rows of four, [M, 4]; in memory each side is for itself, so that loops over them are long."""
    return np.asfortranarray(x.numpy().reshape(-1, 4).take(index, 0))


def _numpy_type(x: Tensor) -> np.dtype[Any]:
    return np.dtype(str(x.dtype).removeprefix("torch."))
