"""Multi-scale testing: one detector looks at the same pictures at several sizes, also mirrored.

An addition to the reference, whose authors' published "multi-scale" results were made outside of
it. The net is run at every size; its priors follow the shapes of its blobs, except for a `step`,
which is given in pixels and stays. What all looks found is merged (`boxes.merging`).

A single look is never merged: its detections are exactly those of the plain net.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.boxes.merging import MergeRule, merge_detections, mirrored, of_size
from caffe_ssd.layers.detection_output import DetectionOutput
from caffe_ssd.net import Net
from caffe_ssd.scoring.picture_detector import PictureDetector, Run, found_rows

MERGES = ("vote", "nms")


@dataclass(frozen=True, kw_only=True)
class MultiScaleRule:
    """How often one looks, and what becomes of what is seen.

    Args:
        sizes: (height, width) of the net's input in pixels, one per scale.
        flip: look at the mirrored pictures, too.
        merge: how detections become one list.
        object_sizes: per scale, the smallest and largest side of the objects that are believed, as
            a part of the picture's side (see `of_size`); None: all are.
    """

    sizes: tuple[tuple[int, int], ...]
    flip: bool = False
    merge: MergeRule
    object_sizes: tuple[tuple[float, float], ...] | None = None

    def detections(self, run: Run, batches: Iterable[Tensor]) -> Tensor:
        """Look at one batch of pictures.

        Args:
            run: the detector.
            batches: the pictures at each size, (N, C, H, W), in the order of `sizes`.

        Returns:
            [D, 7] rows (image, label, score, xmin, ymin, xmax, ymax); ordered by image and class.
        """
        ranges = self.object_sizes or ((0.0, float("inf")),) * len(self.sizes)
        looks = []
        for data, (low, high) in zip(batches, ranges, strict=True):
            seen = [found_rows(run(data))]
            if self.flip:
                seen.append(mirrored(found_rows(run(data.flip(3)))))
            looks += seen if self.object_sizes is None else [of_size(x, low, high) for x in seen]
        return looks[0] if len(looks) == 1 else merge_detections(looks, self.merge)


def merge_rule(net: Net, merge: str = "vote", vote_threshold: float = 0.5) -> MergeRule:
    """The rule that fits a net: with the thresholds of its DetectionOutput layer.

    Args:
        net: a detector.
        merge: one of `MERGES`.
        vote_threshold: see `MergeRule`.
    """
    rule = next(layer.rule for layer in net.layers if isinstance(layer, DetectionOutput))
    return MergeRule(
        nms_threshold=rule.nms_threshold,
        vote_threshold=vote_threshold if merge == "vote" else None,
        keep_top_k=rule.keep_top_k,
    )


class MultiScaleDetector(PictureDetector):
    """A detector that looks at every picture several times.

    Args:
        net: see `PictureDetector`.
        rule: the looks; the detector's own size is not among them unless named.
        mean: see `PictureDetector`.
        scale: see `PictureDetector`.
        run: see `PictureDetector`; it must take every size.

    Raises:
        NetError: the net is no detector for pictures, or does not take one of the sizes.
    """

    def __init__(
        self,
        net: Net,
        rule: MultiScaleRule,
        *,
        mean: tuple[float, ...] | None = None,
        scale: float = 1.0,
        run: Run | None = None,
    ) -> None:
        super().__init__(net, mean=mean, scale=scale, run=run)
        self.rule = rule
        for size in rule.sizes:
            self.part.check_size((1, self.channels, *size))

    def rows(self, pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
        """The merged rows of all looks, [D, 7]; see `MultiScaleRule.detections`."""
        batches = (self.batch(pictures, size) for size in self.rule.sizes)
        return self.rule.detections(self.run, batches)
