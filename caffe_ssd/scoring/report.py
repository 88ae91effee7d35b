"""What `score` found out about a net."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass

from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.score import ProtocolScore
from caffe_ssd.evaluate.test_set import TestSet
from caffe_ssd.scoring.tables import format_cost, format_scores, scores_to_dict


@dataclass(frozen=True, kw_only=True, repr=False)
class Report:
    """The scores of a net on its test set; every number is a fraction.

    Args:
        protocols: scores by the protocol's name, in the order asked for; none where the net does
            not judge detections.
        categories: name of a class in result files -> name to show.
        test_set: the truth; None where no official protocol was asked for.
        means: the mean of every element of the net's other outputs.
        loss: the mean loss.
        values: all of the reference's scores by name: mAP by version, and means.
        exact: the same of the net in float32; None where `precision` is that.
        precision: how the net calculated.
    """

    protocols: Mapping[str, ProtocolScore]
    categories: Mapping[str, str]
    test_set: TestSet | None
    means: Mapping[str, list[float]]
    loss: float
    values: Mapping[str, float]
    exact: Mapping[str, float] | None = None
    precision: str = "fp32"

    @property
    def map(self) -> float:
        """The headline mAP of the first protocol that was asked for.

        Raises:
            UsageError: the net judges no detections.
        """
        return next(iter(self._first().numbers.values()))

    @property
    def class_ap(self) -> dict[str, float]:
        """AP by the class's name for people, by the first protocol that was asked for.

        Raises:
            UsageError: the net judges no detections.
        """
        values = next(iter(self._first().per_class.values()))
        return {self.categories.get(name, name): value for name, value in values.items()}

    def table(self) -> str:
        """A line per class and one per headline number; without detections the means."""
        if not self.protocols:
            return "\n".join(f"{name}  {value:.6g}" for name, value in self.values.items())
        num_objects = None if self.test_set is None else self.test_set.num_objects()
        return format_scores(self.categories, list(self.protocols.values()), num_objects)

    def cost_table(self) -> str:
        """What the precision costs; nothing for float32."""
        return "" if self.exact is None else format_cost(self.exact, self.values, self.precision)

    def to_dict(self) -> dict[str, object]:
        """All scores as plain numbers and texts, for JSON; what is not defined is None."""
        return scores_to_dict(self.categories, list(self.protocols.values()), self.test_set)

    def __repr__(self) -> str:
        cost = self.cost_table()
        return f"{self.table()}\n\n{cost}" if cost else self.table()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"

    def _first(self) -> ProtocolScore:
        if not self.protocols:
            raise UsageError(
                "there is no mAP: the net has no DetectionEvaluate layer, or no protocol was asked "
                "for; see means and values"
            )
        return next(iter(self.protocols.values()))
