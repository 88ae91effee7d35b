"""The definitions of the spec, one number at a time, to compare with."""

from __future__ import annotations

import numpy as np
import torch


def random_boxes(*shape, seed, decimals=None):
    """Boxes inside the image; rounding makes ties."""
    rng = np.random.RandomState(seed)
    low, size = rng.rand(*shape, 2) * 0.7, rng.rand(*shape, 2) * 0.3
    boxes = np.concatenate([low, low + size], -1)
    return torch.from_numpy(boxes.round(decimals) if decimals else boxes).float()


def naive_iou(a, b):
    """float32 throughout, as the reference computes."""
    a, b = (np.asarray(box, np.float32) for box in (a, b))
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    area_a, area_b = ((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return float(width * height / (area_a + area_b - width * height))


def naive_match(boxes, gts, *, per_prediction, threshold, ignore_cross=False):
    """Spec ssd-layers.md 2.2 for one image; lists of match and overlap."""
    match, overlap = [-1] * len(boxes), [0.0] * len(boxes)
    stored = [{} for _ in boxes]
    for i, box in enumerate(boxes):
        if ignore_cross and any(not 0 <= v <= 1 for v in box.tolist()):
            match[i] = -2
            continue
        for j, gt in enumerate(gts):
            if (iou := naive_iou(box, gt)) > 1e-6:
                stored[i][j] = iou
                overlap[i] = max(overlap[i], iou)
    pool = set(range(len(gts)))
    while pool:
        best = (0.0, -1, -1)
        for i in range(len(boxes)):
            for j in sorted(pool):
                if match[i] == -1 and stored[i].get(j, 0) > best[0]:
                    best = (stored[i][j], i, j)
        if best[1] < 0:
            break
        overlap[best[1]], match[best[1]] = best[0], best[2]
        pool.remove(best[2])
    for i, pairs in enumerate(stored):
        if per_prediction and match[i] == -1:
            best_iou = -1.0
            for j in sorted(pairs):
                if pairs[j] >= threshold and pairs[j] > best_iou:
                    best_iou, match[i], overlap[i] = pairs[j], j, pairs[j]
    return match, overlap


def naive_nms(boxes, threshold, eta=1.0):
    """Indices kept of boxes ordered by falling score."""
    kept, limit = [], np.float32(threshold)
    for i in range(len(boxes)):
        if all(naive_iou(boxes[i], boxes[j]) <= limit for j in kept):
            kept.append(i)
            if eta < 1 and limit > 0.5:
                limit *= np.float32(eta)
    return kept
