"""What a net's outputs amount to over several passes: means, or mAP where they are detections.

Spec: caffe-solver.md section 6; ssd-data.md section 5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd import log
from caffe_ssd.errors import NetError
from caffe_ssd.evaluate.mean_ap import MeanAP, MeanAPAccumulator
from caffe_ssd.net import Net, NetResult

_ROW_LENGTH = 5  # item, label, score, tp, fp


class Tally:
    """Takes the results of all passes, then says what they amount to.

    Args:
        averaged: outputs of which every element is averaged.
        judged: outputs that are rows of DetectionEvaluate.
        versions: the versions of AP to count for each of those.

    Attributes:
        accumulators: of mAP, one per version, by output.
    """

    def __init__(
        self, *, averaged: Sequence[str], judged: Sequence[str], versions: Sequence[str]
    ) -> None:
        self.averaged = averaged
        self.accumulators = {name: [MeanAPAccumulator(v) for v in versions] for name in judged}
        self._sums: dict[str, Tensor] = {}
        self._losses: list[Tensor] = []

    def add(self, result: NetResult) -> None:
        """Take one pass.

        Raises:
            NetError: an output has another size than before, or does not consist of rows of 5.
        """
        for name in self.averaged:
            blob = result.blobs[name].flatten()
            if name not in self._sums:
                self._sums[name] = blob.clone()
                continue
            if len(blob) != len(self._sums[name]):
                raise NetError(
                    f"output {name!r} cannot be averaged: it had {len(self._sums[name])} elements "
                    f"and now has {len(blob)}"
                )
            self._sums[name] += blob
        for name, accumulators in self.accumulators.items():
            rows = _rows(name, result.blobs[name])
            for accumulator in accumulators:
                accumulator.update(rows)
        self._losses.append(result.loss)

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(torch.stack(self._losses).mean()) if self._losses else 0.0

    def means(self) -> dict[str, list[float]]:
        """The mean of every element by output."""
        passes = len(self._losses)
        return {name: (total / passes).tolist() for name, total in self._sums.items()}


def judged_outputs(net: Net) -> list[str]:
    """The outputs of a net that come from its DetectionEvaluate layers."""
    tops = {
        net.blob_names[value.blob]
        for step in net.steps
        if step.param.type == "DetectionEvaluate"
        for value in step.tops
    }
    return [name for name in net.outputs if name in tops]


def log_class_ap(score: MeanAP, *, show: bool = True) -> None:
    """Log a warning per class without detections and, if wanted, the AP of the others."""
    for label, value in score.per_class.items():
        if label in score.without_detections:
            log.MISSING_DETECTIONS.write(label=label)
        elif show:
            log.CLASS_AP.write(label=label, value=value)


def _rows(name: str, blob: Tensor) -> NDArray[np.float32]:
    """The rows of one DetectionEvaluate top, shape (rows, 5)."""
    if blob.dim() != 4 or blob.shape[3] != _ROW_LENGTH:
        raise NetError(
            f"outputs that count as detections have the shape 1 x 1 x rows x {_ROW_LENGTH}, as "
            f"DetectionEvaluate gives them; output {name!r} is {' x '.join(map(str, blob.shape))}. "
            "Consume other outputs with a Silence layer"
        )
    rows: NDArray[np.float32] = blob.detach().cpu().numpy().reshape(-1, _ROW_LENGTH)
    return rows
