"""What one says to look at pictures several times: scales, mirrored or not, and how to merge.

The same settings serve `Detector`, `score` and the command line. They become a rule once the net
and the size of its input are known.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net
from caffe_ssd.scoring.multi_scale import MERGES, MultiScaleRule, merge_rule

logger = logging.getLogger(__name__)

# Nobody feeds a net pictures of fewer pixels, and nobody enlarges them that much.
_FEWEST_PX = 16
# The coarsest maps of detectors have cells of 64 pixels before they shrink without stride.
_COARSEST_CELL_PX = 64

Size = tuple[int, int]
Scale = float | Size


@dataclass(frozen=True, kw_only=True)
class MultiScale:
    """Several looks at each picture.

    Args:
        scales: factors of the net's own size (below 16), pixels of the shorter side, or
            (height, width).
        flip: look at the mirrored pictures, too.
        merge: how the detections of all looks become one list: "vote" is NMS, then box voting;
            "nms" is NMS alone.
        vote_threshold: overlap from 0 to 1 above which a box has a vote.
        object_sizes: per scale, the smallest and largest side of the objects that are believed, as
            parts of the picture's sides; None believes all.

    Raises:
        UsageError: a value makes no sense.
    """

    scales: tuple[Scale, ...] = (1.0,)
    flip: bool = False
    merge: str = "vote"
    vote_threshold: float = 0.5
    object_sizes: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        for scale in self.scales:
            _check_scale(scale)
        if self.merge not in MERGES:
            raise UsageError(f"unknown merge {self.merge!r}; known: {', '.join(MERGES)}")
        if not 0 <= self.vote_threshold <= 1:
            raise UsageError(f"vote_threshold must be from 0 to 1, got {self.vote_threshold:g}")
        if self.object_sizes is None:
            return
        if len(self.object_sizes) != len(self.scales):
            raise UsageError(
                f"object_sizes needs one range per scale ({len(self.scales)}), "
                f"got {len(self.object_sizes)}"
            )
        for low, high in self.object_sizes:
            if not 0 <= low < high:
                raise UsageError(f"object_sizes takes ranges like 0.1 to 0.5, got {low:g}:{high:g}")

    @property
    def num_looks(self) -> int:
        """How many looks there are at a picture."""
        return len(self.scales) * (1 + self.flip)

    def rule(self, net: Net, size: Size) -> MultiScaleRule:
        """The rule for a net.

        Args:
            net: a detector.
            size: (height, width) of the net's input, which is scale 1.

        Raises:
            UsageError: two scales are the same size.
        """
        sizes = tuple(scaled(scale, size) for scale in self.scales)
        if len(set(sizes)) < len(sizes):
            raise UsageError(f"scales: a size is there twice ({_shown(sizes)})")
        logger.info(
            "Looking at %s (height x width)%s; merged by %s",
            _shown(sizes),
            ", mirrored too" if self.flip else "",
            self.merge,
        )
        return MultiScaleRule(
            sizes=sizes,
            flip=self.flip,
            merge=merge_rule(net, self.merge, self.vote_threshold),
            object_sizes=self.object_sizes,
        )


def scaled(scale: Scale, size: Size) -> Size:
    """The (height, width) that one scale stands for.

    A factor gives the nearest size whose sides are as often divisible by 2 as the net's own sides
    both are, up to 64: priors without a `step` spread evenly over the picture, and lie beside what
    their cells see where a map ends in half a cell.

    Args:
        scale: a factor (below 16), the pixels of the shorter side, or (height, width).
        size: (height, width) at factor 1; a side keeps this shape.
    """
    if isinstance(scale, tuple):
        return scale
    if scale >= _FEWEST_PX:
        unit, factor = 1, scale / min(size)
    else:
        unit, factor = math.gcd(*size, _COARSEST_CELL_PX), scale
    height, width = (max(1, round(side * factor / unit)) * unit for side in size)
    return height, width


def _check_scale(scale: Scale) -> None:
    if isinstance(scale, tuple):
        is_fine = len(scale) == 2 and min(scale) >= 1
    else:
        is_fine = 0 < scale < math.inf and (scale < _FEWEST_PX or scale == int(scale))
    if not is_fine:
        raise UsageError(
            "scales takes factors like 0.8, pixels of the shorter side like 400, or heights x "
            f"widths like 300 x 416; got {scale}"
        )


def _shown(sizes: Iterable[Size]) -> str:
    return ", ".join(f"{height}x{width}" for height, width in sizes)
