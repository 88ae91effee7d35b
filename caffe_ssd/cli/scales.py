"""The flags of multi-scale testing, for `caffe test` and `caffe detect`."""

from __future__ import annotations

import argparse
import logging
import math
import re

from caffe_ssd.cli.flags import FlagParser
from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net
from caffe_ssd.net.multi_scale import MERGES, MultiScaleRule, merge_rule

logger = logging.getLogger(__name__)

# Nobody feeds a net pictures of fewer pixels, and nobody enlarges them that much.
_FEWEST_PX = 16
# The coarsest maps of detectors have cells of 64 pixels before they shrink without stride.
_COARSEST_CELL_PX = 64
_SIZE = re.compile(r"([1-9]\d*)[xX]([1-9]\d*)")

Size = tuple[int, int]


def add_scale_flags(parser: FlagParser) -> None:
    """Add the flags."""
    parser.add_flag(
        "scales",
        metavar="S,...",
        help="run the net at several sizes: factors (0.8,1,1.2), pixels of the shorter side "
        "(300,400) or HxW",
    )
    parser.add_flag("flip", action="store_true", help="look at the mirrored pictures, too")
    parser.add_flag(
        "merge",
        choices=MERGES,
        default=None,
        help="how the detections of all runs become one list: NMS, then box voting (vote, the "
        "default), or NMS alone (nms)",
    )
    parser.add_flag(
        "vote_threshold",
        type=float,
        default=None,
        help="overlap above which a box has a vote (0.5)",
    )
    parser.add_flag(
        "object_sizes",
        metavar="LOW:HIGH,...",
        help="per scale, the sides of objects to believe, as parts of the picture's; all if absent",
    )


def is_multi_scale(args: argparse.Namespace) -> bool:
    """Whether the flags ask for more than the plain net.

    Raises:
        UsageError: a flag is given that needs others, or its value makes no sense.
    """
    asked = args.scales is not None or args.flip
    for name in ("merge", "vote_threshold", "object_sizes"):
        if getattr(args, name) is not None and not asked:
            raise UsageError(f"-{name} belongs to -scales or -flip; neither is given")
    if args.vote_threshold is not None and args.merge == "nms":
        raise UsageError("-vote_threshold belongs to -merge vote")
    if args.vote_threshold is not None and not 0 <= args.vote_threshold <= 1:
        raise UsageError(f"-vote_threshold must be from 0 to 1, got {args.vote_threshold:g}")
    return asked


def num_scales(args: argparse.Namespace) -> int:
    """At how many sizes the net is run."""
    return 1 if args.scales is None else len(args.scales.split(","))


def read_rule(args: argparse.Namespace, net: Net, size: Size) -> MultiScaleRule:
    """The rule that the flags ask for.

    Args:
        args: the flags of `add_scale_flags`.
        net: a detector.
        size: (height, width) of the net's input, which is scale 1.

    Raises:
        UsageError: a scale or range cannot be read.
    """
    words = ["1"] if args.scales is None else args.scales.split(",")
    sizes = tuple(read_scale(word, size) for word in words)
    if len(set(sizes)) < len(sizes):
        shown = ", ".join(f"{height}x{width}" for height, width in sizes)
        raise UsageError(f"-scales {args.scales}: a size is there twice ({shown})")
    ranges = None
    if args.object_sizes is not None:
        ranges = tuple(_read_range(word) for word in args.object_sizes.split(","))
        if len(ranges) != len(sizes):
            raise UsageError(
                f"-object_sizes needs one range per scale ({len(sizes)}), got {len(ranges)}"
            )
    merge = "vote" if args.merge is None else args.merge
    vote_threshold = 0.5 if args.vote_threshold is None else args.vote_threshold
    logger.info(
        "Looking at %s (height x width)%s; merged by %s",
        ", ".join(f"{height}x{width}" for height, width in sizes),
        ", mirrored too" if args.flip else "",
        merge,
    )
    return MultiScaleRule(
        sizes=sizes,
        flip=args.flip,
        merge=merge_rule(net, merge, vote_threshold),
        object_sizes=ranges,
    )


def read_scale(word: str, size: Size) -> Size:
    """The (height, width) that one scale stands for.

    A factor gives the nearest size whose sides are as often divisible by 2 as the net's own sides
    both are, up to 64: priors without a `step` spread evenly over the picture, and lie beside what
    their cells see where a map ends in half a cell.

    Args:
        word: a factor (below 16), the pixels of the shorter side, or HEIGHTxWIDTH.
        size: (height, width) at factor 1; a side keeps this shape.

    Raises:
        UsageError: it is none of them.
    """
    if match := _SIZE.fullmatch(word.strip()):
        return int(match[1]), int(match[2])
    try:
        number = float(word)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf") or (number >= _FEWEST_PX and number != int(number)):
        raise UsageError(
            f"-scales takes factors like 0.8, pixels of the shorter side like 400, or HxW like "
            f"300x416; got {word!r}"
        )
    if number >= _FEWEST_PX:
        unit, factor = 1, number / min(size)
    else:
        unit, factor = math.gcd(*size, _COARSEST_CELL_PX), number
    height, width = (max(1, round(side * factor / unit)) * unit for side in size)
    return height, width


def _read_range(word: str) -> tuple[float, float]:
    low, colon, high = word.partition(":")
    try:
        numbers = float(low), float(high)
    except ValueError:
        numbers = 1.0, 0.0
    if not colon or not 0 <= numbers[0] < numbers[1]:
        raise UsageError(f"-object_sizes takes ranges like 0.1:0.5, got {word!r}")
    return numbers
