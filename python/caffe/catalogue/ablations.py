"""The numbers of DSOD's ablation table, beside those of our bodies.

Source: Shen et al., "DSOD: Learning Deeply Supervised Object Detectors from Scratch", table 3
(VOC07+12, tested on VOC2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from caffe.models.ablations import ABLATION_BODIES

EQUAL = "equal in the digits published"
ONE_UNIT = "one unit of the last digit published"
UNKNOWN = "the paper does not say what its plain front end is like behind a stem"


@dataclass(frozen=True, kw_only=True)
class AblationRow:
    """One row of the table.

    Args:
        number: of the row.
        parameters_million: published.
        map_percent: published, on VOC2007.
        reason: why our number of parameters is the published one, or is not.
    """

    number: int
    parameters_million: float
    map_percent: float
    reason: str

    @property
    def variant(self) -> str:
        """What `--variant` calls it."""
        return f"ablation{self.number}"

    @property
    def body(self) -> Any:
        """What is trained, a `caffe.models.dsod.DenseBody`."""
        return ABLATION_BODIES[self.number - 1]

    @property
    def has_stem(self) -> bool:
        """Three 3x3 convolutions rather than one of 7x7."""
        return len(self.body.stem) > 1

    @property
    def has_transition_without_pooling(self) -> bool:
        """A fourth block, which pooling would have left no map to work on."""
        return len(self.body.blocks) > 3


_PUBLISHED = (
    (4.1, 59.9, EQUAL),
    (4.2, 61.6, EQUAL),
    (5.5, 64.5, ONE_UNIT),
    (6.1, 68.6, EQUAL),
    (6.3, 69.7, EQUAL),
    (18.0, 74.5, EQUAL),
    (5.2, 70.7, UNKNOWN),
    (12.5, 76.0, UNKNOWN),
    (18.2, 77.3, UNKNOWN),
    (5.9, 73.6, EQUAL),
    (14.8, 77.7, EQUAL),
)
ABLATIONS = tuple(
    AblationRow(number=number, parameters_million=size, map_percent=score, reason=reason)
    for number, (size, score, reason) in enumerate(_PUBLISHED, 1)
)
