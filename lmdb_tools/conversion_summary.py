"""What a conversion wrote, repaired and dropped, and what it must not pass over in silence."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from caffe_ssd.data.samples import Annotations
from caffe_ssd.errors import DataError

logger = logging.getLogger(__name__)

_MOST_SHOWN = 10
_ADVICE = "-lenient takes the data as they are"


@dataclass(kw_only=True)
class ConversionSummary:
    """Counts over a whole conversion.

    Args:
        is_detection: whether records carry boxes.
        num_images: records written.
        num_skipped: images that could not be read.
        num_without_box: images without a box.
        num_difficult: boxes marked as difficult.
        boxes_of: label -> boxes.
        counts: how often a value was repaired or dropped, by a description.
        faults: what cannot be right, a sentence each.
    """

    is_detection: bool
    num_images: int = 0
    num_skipped: int = 0
    num_without_box: int = 0
    num_difficult: int = 0
    boxes_of: Counter[int] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    @property
    def num_boxes(self) -> int:
        return self.boxes_of.total()

    def add(self, annotations: Annotations) -> None:
        """Count the boxes of a written image."""
        self.num_images += 1
        self.num_without_box += len(annotations) == 0
        self.num_difficult += int(annotations.difficult.sum())
        self.boxes_of.update(annotations.labels.tolist())

    def check(self, source: str, *, lenient: bool) -> None:
        """Refuse what has faults, or no box at all.

        Args:
            source: what is converted, for errors.
            lenient: warn instead.

        Raises:
            DataError: names the first faults and how many there are.
        """
        faults = self.faults[:_MOST_SHOWN]
        if len(self.faults) > _MOST_SHOWN:
            faults.append(f"... and {len(self.faults) - _MOST_SHOWN} more faults")
        if self.is_detection and self.num_images and not self.num_boxes:
            faults.append(f"{source}: not one of {self.num_images} images has a box")
        if lenient:
            for fault in faults:
                logger.warning("%s", fault)
        elif faults:
            raise DataError("\n  ".join([*faults, f"nothing was written; {_ADVICE}"]))

    def log(self, name_to_label: Mapping[str, int]) -> None:
        """Write the summary to the log."""
        skipped = f", {self.num_skipped} skipped" if self.num_skipped else ""
        if not self.is_detection:
            logger.info("Summary: %d images%s.", self.num_images, skipped)
            return
        logger.info(
            "Summary: %d images%s; %d boxes, %d of them difficult; %d images without a box.",
            self.num_images,
            skipped,
            self.num_boxes,
            self.num_difficult,
            self.num_without_box,
        )
        names = {label: name for name, label in name_to_label.items()}
        for label, count in sorted(self.boxes_of.items()):
            logger.info("  class %d (%s): %d boxes", label, names.get(label, "not in map"), count)
        missing = [n for label, n in sorted(names.items()) if label and label not in self.boxes_of]
        if missing:
            logger.warning("  classes without a box: %s", ", ".join(missing))
        for what, count in sorted(self.counts.items()):
            if count:
                logger.warning("  %d %s", count, what)
