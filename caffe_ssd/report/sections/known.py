"""Everything that the sections of a report are made of."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from caffe_ssd.boxes.average_precision import AP_VERSIONS
from caffe_ssd.datasets.summary import Summary
from caffe_ssd.report.evaluation import Evaluation
from caffe_ssd.report.history import History
from caffe_ssd.report.run_files import RunFiles
from caffe_ssd.report.speed import Speed
from caffe_ssd.report.verdicts import Verdicts, judge

MANY_CLASSES = 12
"""More classes than this are not all shown at once."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a training.

    Args:
        files: where everything lies.
        evaluation: what the net found in its test set; None without a test net or weights.
        why_not: why there is no evaluation.
        history: the course of the training; None where nobody wrote it down.
        data: what the databases hold, by "training" and "test".
        speeds: of the deploy net; none where they were not measured.
        notes: fit.json; empty without one.
        class_names: names for people by label.
    """

    files: RunFiles
    evaluation: Evaluation | None = None
    why_not: str = ""
    history: History | None = None
    data: Mapping[str, Summary] = field(default_factory=dict)
    speeds: tuple[Speed, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    class_names: Mapping[int, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The version of AP that counts: the solver's, else that of VOC2007."""
        version = self.files.param.ap_version if self.files.solver is not None else ""
        return version if version in AP_VERSIONS else next(iter(AP_VERSIONS))

    @cached_property
    def verdicts(self) -> Verdicts | None:
        """The detections above the threshold of their class."""
        if self.evaluation is None:
            return None
        return judge(self.evaluation, [each.threshold for each in self.evaluation.best_points])

    def name_of(self, label: int) -> str:
        """A class's name, or its number as text."""
        return self.class_names.get(label, str(label))


def number(value: float, digits: int = 3) -> str:
    """A score as text; what is not defined is a dash."""
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def percent(value: float) -> str:
    """A share as text."""
    return f"{100 * value:.0f} %" if math.isfinite(value) else "–"


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
