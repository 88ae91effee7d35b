"""Examines a data set before it is trained on: `check`.

What reading showed (unreadable pictures, damaged annotations, ...) comes first in the code, then

    pictures   picture_checks    damage, gray, sizes, names, copies, leaks from train to test
    boxes      box_checks        outside, empty, swapped corners, twice, tiny
    classes    class_checks      misspelt, missing, few, swapped
    priors     prior_checks      objects that no prior of a net reaches
"""

from __future__ import annotations

from caffe_ssd.datasets.box_checks import check_boxes
from caffe_ssd.datasets.class_checks import check_classes
from caffe_ssd.datasets.dataset import SEVERITIES, Dataset, Finding, Notes
from caffe_ssd.datasets.net_priors import NetPriors
from caffe_ssd.datasets.picture_checks import check_pictures
from caffe_ssd.datasets.prior_checks import check_priors

ASSUMED_INPUT = (300, 300)
"""(height, width) in pixels of the net's input where no net is given."""


def check(dataset: Dataset, priors: NetPriors | None = None) -> list[Finding]:
    """Everything that its owner should know of a data set, errors first.

    Args:
        dataset: as it was read; what `repaired` would change is a finding here.
        priors: of the net that is to be trained; None leaves the priors aside and takes its input
            to be 300 x 300 pixels.
    """
    notes = Notes()
    check_pictures(dataset, notes)
    check_boxes(dataset, notes, ASSUMED_INPUT if priors is None else priors.input_size)
    check_classes(dataset, notes)
    if priors is not None:
        check_priors(dataset, priors, notes)
    found = [*dataset.findings, *notes.findings()]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding.severity))
