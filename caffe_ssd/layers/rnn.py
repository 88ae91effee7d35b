"""RNN: a recurrent layer with tanh for the hidden state and for the output.

Spec: caffe-layers.md section F; see `recurrent` for bottoms, tops and states.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.layers.recurrent import Recurrent, build_recurrent, project
from caffe_ssd.layers.registry import LayerSpec, Shape, register_layer


class RNN(Recurrent):
    """The layer.

    Blobs: input weight (D, I), bias (D,), [static weight (D, S),] hidden weight (D, D), output
    weight (D, D), output bias (D,).
    """

    def blob_shapes(self, num_features: int, num_static: int) -> list[Shape]:
        width = self.num_output
        static: list[Shape] = [(width, num_static)] if self.has_static else []
        square: Shape = (width, width)
        return [(width, num_features), (width,), *static, square, square, (width,)]

    def run_steps(
        self, x: Tensor, static: Tensor | None, cont: Tensor, states: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor]]:
        blobs = list(self.blobs)
        projected, used = project(x, static, blobs)
        hidden_weight, output_weight, output_bias = blobs[used:]
        (hidden,) = states
        steps = []
        for z, going_on in zip(projected, cont, strict=True):
            hidden = (z + F.linear(going_on * hidden, hidden_weight)).tanh()
            steps.append(hidden)
        return F.linear(torch.stack(steps), output_weight, output_bias).tanh(), (hidden,)


@register_layer("RNN", bottoms=range(2, 5), tops=range(1, 3), not_forced=(1,))
def _build(spec: LayerSpec) -> Recurrent:
    return build_recurrent(RNN, spec)
