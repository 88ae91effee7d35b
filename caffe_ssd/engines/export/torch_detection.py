"""DetectionOutput as tensors of fixed shape and one loop, which tracers can follow.

The layer's own code is quicker, but how it runs depends on numbers. Rows, shape and order are the
layer's; see `caffe_ssd.layers.detection_output`.

Letters: N images, P priors, C classes that count, K candidates per class, D detections.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from caffe_ssd.boxes.coding import decode
from caffe_ssd.boxes.nms import ADAPTIVE_ABOVE
from caffe_ssd.layers.detection_output import ROW_WIDTH, DetectionOutput

Suppress = Callable[[Tensor, Tensor, float, float], Tensor]
"""Lists of boxes [G, K, 4] and which of them count [G, K], best first; threshold and eta; to
those that are kept [G, K]."""


class TraceableDetection(nn.Module):
    """See the module's docstring.

    Args:
        layer: what it does.
        suppress: the loop, as the format can say it.
    """

    def __init__(self, layer: DetectionOutput, suppress: Suppress) -> None:
        super().__init__()
        background = layer.rule.background_label_id
        labels = [label for label in range(layer.num_classes) if label != background]
        self.register_buffer("labels", torch.tensor(labels))
        self.layer = layer
        self.suppress = suppress

    labels: Tensor

    def forward(self, loc: Tensor, conf: Tensor, prior_blob: Tensor, *_image: Tensor) -> Tensor:
        layer, rule = self.layer, self.layer.rule
        priors, variances = prior_blob.reshape(2, -1, 4)
        num_images, num_priors, num_labels = loc.shape[0], len(priors), len(self.labels)
        scores = conf.reshape(-1, num_priors, layer.num_classes)[:, :, self.labels].transpose(1, 2)
        limit = num_priors if rule.top_k < 0 else min(rule.top_k, num_priors)
        scores, index = scores.sort(dim=2, descending=True, stable=True)
        scores, index = scores[:, :, :limit], index[:, :, :limit]
        boxes = decode(
            self._codes(loc, index, num_priors),
            priors[index],
            None if layer.variance_encoded else variances[index],
            layer.code_type,
        )  # [N, C, K, 4]
        boxes = boxes.clamp(0, 1) if rule.clip else boxes
        counts = scores > rule.confidence_threshold
        kept = self.suppress(
            boxes.reshape(-1, limit, 4), counts.reshape(-1, limit), rule.nms_threshold, rule.eta
        )
        kept = _best(kept.reshape(-1, num_labels * limit), scores.flatten(1), rule.keep_top_k)
        images = torch.arange(num_images, device=loc.device)[:, None, None]
        columns = [images, self.labels[:, None], scores]
        rows = torch.stack([x.to(boxes.dtype).expand_as(scores) for x in columns], 3)
        return _chosen(torch.cat([rows, boxes], 3).flatten(1, 2), kept)

    def _codes(self, loc: Tensor, index: Tensor, num_priors: int) -> Tensor:
        """The candidates' location codes, [N, C, K, 4]."""
        codes = loc.reshape(-1, num_priors, self.layer.num_loc_classes, 4).transpose(1, 2)
        if self.layer.num_loc_classes > 1:
            codes = codes[:, self.labels]
        codes = codes.expand(-1, len(self.labels), -1, -1)
        return codes.gather(2, index[..., None].expand(-1, -1, -1, 4))


def _best(kept: Tensor, scores: Tensor, most: int) -> Tensor:
    """Those of [N, C * K] that are among the `most` best of their image; -1: all."""
    if most < 0 or most >= kept.shape[1]:
        return kept
    ranks = torch.where(kept, scores, -torch.inf)
    best = ranks.sort(dim=1, descending=True, stable=True).indices[:, :most]
    return kept & torch.zeros_like(kept).scatter(1, best, torch.ones_like(best, dtype=torch.bool))


def _chosen(rows: Tensor, kept: Tensor) -> Tensor:
    """The kept of [N, C * K, 7], or a row of -1 for each image where there is none."""
    nothing = torch.full_like(rows[:, 0], -1)
    nothing = torch.cat(
        [torch.arange(rows.shape[0], device=rows.device)[:, None], nothing[:, 1:]], 1
    )
    is_empty = (~kept.any()).expand(rows.shape[0])
    every = torch.cat([rows.reshape(-1, ROW_WIDTH), nothing.to(rows.dtype)])
    chosen = torch.cat([kept.reshape(-1), is_empty]).nonzero()[:, 0]
    return every[chosen][None, None]


def settle(
    i: Tensor,
    boxes: Tensor,
    kept: Tensor,
    worst: Tensor,
    limit: Tensor,
    eta: float,
    above: float = ADAPTIVE_ABOVE,
) -> tuple[Tensor, Tensor, Tensor]:
    """Decide over the boxes at place `i` of all lists; those before it have been decided over.

    Args:
        i: a number, (1,).
        boxes: [G, K, 4].
        kept: [G, K]; from place `i` on, which boxes count.
        worst: [G, K], the largest overlap with a box that is kept.
        limit: [G, 1], the largest overlap of a box that is kept.
        eta, above: what the limit is multiplied by after a box that is kept, as long as it is
            above `above`.

    Returns:
        `kept`, `worst` and `limit` behind place `i`.
    """
    place = torch.arange(boxes.shape[1], device=boxes.device)[None]
    is_kept = kept.index_select(1, i) & (worst.index_select(1, i) <= limit)  # [G, 1]
    kept = kept & (is_kept | (place != i))
    one = boxes.index_select(1, i)  # [G, 1, 4]
    low = torch.maximum(one[:, :, :2], boxes[:, :, :2])
    high = torch.minimum(one[:, :, 2:], boxes[:, :, 2:])
    sides = (high - low).clamp(min=0.0)
    inter = sides[:, :, 0] * sides[:, :, 1]
    overlap = inter / (_area(one) + _area(boxes) - inter)
    worst = torch.where(is_kept & (overlap > worst), overlap, worst)
    return kept, worst, torch.where(is_kept & (limit > above), limit * eta, limit)


def _area(boxes: Tensor) -> Tensor:
    """[G, K, 4] -> [G, K]; next to nothing where a box is turned inside out, but never 0."""
    size = (boxes[:, :, 2:] - boxes[:, :, :2]).clamp(min=0.0)
    return (size[:, :, 0] * size[:, :, 1]).clamp(min=1e-38)


def last_place(counts: Tensor) -> Tensor:
    """The number of places that the loop looks at: the longest list's length, (1,)."""
    return counts.sum(1).max().reshape(1)
