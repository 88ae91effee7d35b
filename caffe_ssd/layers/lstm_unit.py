"""LSTMUnit: one step of an LSTM, from gates that are computed already.

Spec: caffe-layers.md section F.

Shapes: N sequences, D outputs.
"""

from __future__ import annotations

from torch import Tensor

from caffe_ssd.errors import ShapeError
from caffe_ssd.layers.common import forbid_gradient
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer


def lstm_step(cell: Tensor, gates: Tensor, going_on: Tensor) -> tuple[Tensor, Tensor]:
    """The next cell and output.

    Args:
        cell: (..., N, D).
        gates: (..., N, 4D), before their nonlinearity: input, forget, output, candidate.
        going_on: (..., N, 1), 0 where a sequence starts, else 1.
    """
    enter, forget, leave, candidate = gates.chunk(4, -1)
    cell = going_on * forget.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
    return cell, leave.sigmoid() * cell.tanh()


class LSTMUnit(Layer):
    """The layer; bottoms are cell (1, N, D), gates (1, N, 4D) and cont (1, N)."""

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        cell, gates, cont = bottoms
        if len(cell) != 3 or cell[0] != 1 or gates != (*cell[:2], 4 * cell[2]) or cont != cell[:2]:
            raise ShapeError(
                f"bottoms must have shapes (1, N, D), (1, N, 4D) and (1, N), "
                f"got {list(cell)}, {list(gates)} and {list(cont)}"
            )
        return (cell, cell)

    def forward(self, cell: Tensor, gates: Tensor, cont: Tensor) -> tuple[Tensor, Tensor]:
        next_cell, hidden = lstm_step(cell, gates, cont.detach().unsqueeze(-1))
        what = "sequence indicators"
        return forbid_gradient(next_cell, cont, what), forbid_gradient(hidden, cont, what)


@register_layer("LSTMUnit", bottoms=3, tops=2, not_forced=(2,))
def _build(spec: LayerSpec) -> LSTMUnit:
    layer = LSTMUnit()
    layer.top_shapes(*spec.bottoms)
    return layer
