"""LSTM: long short-term memory without peepholes, unrolled over the time axis.

Spec: caffe-layers.md section F; see `recurrent` for bottoms, tops and states.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.layers.lstm_unit import lstm_step
from caffe_ssd.layers.recurrent import Recurrent, build_recurrent, project
from caffe_ssd.layers.registry import LayerSpec, Shape, register_layer


class LSTM(Recurrent):
    """The layer.

    Blobs: input weight (4D, I), bias (4D,), [static weight (4D, S),] hidden weight (4D, D). The
    states are the output and the cell.
    """

    num_states = 2

    def blob_shapes(self, num_features: int, num_static: int) -> list[Shape]:
        rows, width = 4 * self.num_output, self.num_output
        static: list[Shape] = [(rows, num_static)] if self.has_static else []
        return [(rows, num_features), (rows,), *static, (rows, width)]

    def run_steps(
        self, x: Tensor, static: Tensor | None, cont: Tensor, states: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor]]:
        blobs = list(self.blobs)
        projected, used = project(x, static, blobs)
        hidden, cell = states
        outputs = []
        for z, going_on in zip(projected, cont, strict=True):
            gates = z + F.linear(going_on * hidden, blobs[used])
            cell, hidden = lstm_step(cell, gates, going_on)
            outputs.append(hidden)
        return torch.stack(outputs), (hidden, cell)


@register_layer("LSTM", bottoms=range(2, 6), tops=range(1, 4), not_forced=(1,))
def _build(spec: LayerSpec) -> Recurrent:
    return build_recurrent(LSTM, spec)
