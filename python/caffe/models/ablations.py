"""The ablation study of DSOD: each design choice alone, as bodies that can be trained.

Source: Shen et al., "DSOD: Learning Deeply Supervised Object Detectors from Scratch", table 3
(VOC07+12, tested on VOC2007). The paper does not give its bodies layer by layer. What stands here
agrees with its numbers of parameters as far as `AblationRow.reason` says.
"""

from typing import NamedTuple

from caffe.models.dsod import DSOD300, DSOD300_PLAIN, DSOD300_SMALLEST, DenseBody, dense_body

EQUAL = "equal in the digits published"
ONE_UNIT = "one unit of the last digit published"
UNKNOWN = "the paper does not say what its plain front end is like behind a stem"


class AblationRow(NamedTuple):
    """One row of the table.

    number: of the row.
    body: what is trained.
    parameters_million: published.
    map_percent: published, on VOC2007.
    reason: why our number of parameters is the published one, or is not.
    """

    number: int
    body: DenseBody
    parameters_million: float
    map_percent: float
    reason: str = EQUAL

    @property
    def has_stem(self) -> bool:
        """Three 3x3 convolutions rather than one of 7x7."""
        return len(self.body.stem) > 1

    @property
    def has_transition_without_pooling(self) -> bool:
        """A fourth block, which pooling would have left no map to work on."""
        return len(self.body.blocks) > 3


def _plain(notation: str, blocks: "tuple[int, ...]" = (6, 8, 8, 8)) -> DenseBody:
    """Return a body with a plain front end and no stem."""
    body = _plain_with_stem(notation)
    return body._replace(stem=body.stem[:1], stem_kernel=7, blocks=blocks)


def _plain_with_stem(notation: str) -> DenseBody:
    return dense_body(notation, last_transition=None, dense_front=False)


ABLATIONS = (
    AblationRow(1, _plain("DS/32-12-16-0.5", blocks=(6, 8, 8)), 4.1, 59.9),
    AblationRow(2, _plain("DS/32-12-16-0.5"), 4.2, 61.6),
    AblationRow(3, _plain("DS/32-12-16-1"), 5.5, 64.5, ONE_UNIT),
    AblationRow(4, _plain("DS/32-64-16-1"), 6.1, 68.6),
    AblationRow(5, _plain("DS/64-64-16-1"), 6.3, 69.7),
    AblationRow(6, _plain("DS/64-192-48-1"), 18.0, 74.5),
    AblationRow(7, _plain_with_stem("DS/64-12-16-1"), 5.2, 70.7, UNKNOWN),
    AblationRow(8, _plain_with_stem("DS/64-36-48-1"), 12.5, 76.0, UNKNOWN),
    AblationRow(9, DSOD300_PLAIN, 18.2, 77.3, UNKNOWN),
    AblationRow(10, DSOD300_SMALLEST, 5.9, 73.6),
    AblationRow(11, DSOD300, 14.8, 77.7),
)
