"""What LSTM and RNN share: bottoms, tops, and the state between calls.

Spec: caffe-layers.md section F.
Quirk: without expose_hidden the final state of one forward starts the next, without gradient.
Quirk: exposed states are one-way: neither the initial nor the final ones carry a gradient.

Shapes: T time steps, N sequences, I features, S features of the static input, D outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import forbid_gradient, learnt_blobs
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape
from caffe_ssd.proto.caffe_pb2 import FillerParameter


class Recurrent(Layer):
    """Base of the layers; a derived class has the blobs' shapes and the steps.

    Bottoms are x (T, N, ...), cont (T, N), the static input (N, ...) if there is one, and the
    initial states (1, N, D) if exposed. Tops are the output (T, N, D), and the final states
    (1, N, D) if exposed. `cont` is 0 where a sequence starts, else 1.

    Args:
        num_output: D.
        num_steps: T.
        has_static: whether there is a static input.
        expose_hidden: whether the states are bottoms and tops rather than kept.
    """

    num_states = 1

    def __init__(
        self, *, num_output: int, num_steps: int, has_static: bool, expose_hidden: bool
    ) -> None:
        super().__init__()
        self.num_output = num_output
        self.num_steps = num_steps
        self.has_static = has_static
        self.expose_hidden = expose_hidden
        self.can_repeat = expose_hidden  # else it goes on where it stopped
        self._kept: tuple[Tensor, ...] = ()

    def blob_shapes(self, num_features: int, num_static: int) -> list[Shape]:
        """Shapes of the blobs for I and S, in blob order; those with one axis are biases."""
        raise NotImplementedError

    def run_steps(
        self, x: Tensor, static: Tensor | None, cont: Tensor, states: Sequence[Tensor]
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """Output (T, N, D) and final states (N, D).

        Args:
            x: (T, N, I).
            static: (N, S) or None.
            cont: (T, N, 1).
            states: initial states, (N, D) each.
        """
        raise NotImplementedError

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        x, cont = bottoms[:2]
        if len(x) < 3 or x[0] != self.num_steps:
            raise ShapeError(
                f"bottom 0 must have shape ({self.num_steps}, N, I, ...), time steps first, "
                f"got {list(x)}"
            )
        if cont != x[:2]:
            raise ShapeError(
                f"bottom 1, the sequence indicators, must have shape {list(x[:2])}, "
                f"got {list(cont)}"
            )
        if self.has_static and bottoms[2][:1] != x[1:2]:
            raise ShapeError(
                f"bottom 2, the static input, must have {x[1]} items, got shape {list(bottoms[2])}"
            )
        state = (1, x[1], self.num_output)
        for i in range(2 + self.has_static, len(bottoms)):
            if bottoms[i] != state:
                raise ShapeError(
                    f"bottom {i}, an initial state, must have shape {list(state)}, "
                    f"got {list(bottoms[i])}"
                )
        finals = (state,) * self.num_states if self.expose_hidden else ()
        return ((*x[:2], self.num_output), *finals)

    def forward(self, x: Tensor, cont: Tensor, *rest: Tensor) -> Tensor | tuple[Tensor, ...]:
        static = rest[0].flatten(1) if self.has_static else None
        given = tuple(state.detach()[0] for state in rest[int(self.has_static) :])
        initial = given if self.expose_hidden else self._initial(x)
        top, states = self.run_steps(x.flatten(2), static, cont.detach().unsqueeze(2), initial)
        finals = tuple(state.detach() for state in states)
        top = forbid_gradient(top, cont, "sequence indicators")
        if self.expose_hidden:
            return (top, *(state.unsqueeze(0) for state in finals))
        self._kept = finals
        return top

    def _initial(self, x: Tensor) -> tuple[Tensor, ...]:
        shape = (x.shape[1], self.num_output)
        if self._kept and self._kept[0].shape == shape:
            return tuple(state.to(x) for state in self._kept)
        return (x.new_zeros(shape),) * self.num_states


def project(x: Tensor, static: Tensor | None, blobs: Sequence[Tensor]) -> tuple[Tensor, int]:
    """The part of a pre-activation that does not depend on the state.

    Args:
        x: (T, N, I).
        static: (N, S) or None.
        blobs: weight, bias, and the static input's weight if there is one.

    Returns:
        (T, N, rows of the weight), and how many blobs were used.
    """
    z = F.linear(x, blobs[0], blobs[1])
    if static is None:
        return z, 2
    return z + F.linear(static, blobs[2]), 3


def build_recurrent(kind: type[Recurrent], spec: LayerSpec) -> Recurrent:
    """Build a recurrent layer of this class.

    Raises:
        LayerParamError: num_output is missing.
        ShapeError: the bottoms' or tops' number or shape is wrong.
    """
    param = spec.param.recurrent_param
    if param.num_output < 1:
        raise LayerParamError(f"num_output must be positive, got {param.num_output}")
    exposed = kind.num_states if param.expose_hidden else 0
    extra = len(spec.bottoms) - 2 - exposed
    if extra not in (0, 1):
        states = f" (with expose_hidden, {exposed} of them initial states)" if exposed else ""
        raise ShapeError(
            f"takes {2 + exposed} bottoms{states}, and one more for a static input, "
            f"got {len(spec.bottoms)}"
        )
    if spec.num_tops != 1 + exposed:
        raise ShapeError(f"makes {1 + exposed} tops, got {spec.num_tops}")
    x = spec.bottoms[0]
    layer = kind(
        num_output=param.num_output,
        num_steps=x[0] if x else 0,
        has_static=extra == 1,
        expose_hidden=param.expose_hidden,
    )
    layer.top_shapes(*spec.bottoms)
    num_static = math.prod(spec.bottoms[2][1:]) if extra else 0
    blobs: list[tuple[Shape, FillerParameter]] = [
        (shape, param.bias_filler if len(shape) == 1 else param.weight_filler)
        for shape in layer.blob_shapes(math.prod(x[2:]), num_static)
    ]
    layer.blobs.extend(learnt_blobs(spec, *blobs))
    return layer
