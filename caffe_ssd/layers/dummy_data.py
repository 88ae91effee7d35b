"""DummyData: tops made by fillers.

Spec: caffe-layers.md section H.
Quirk: constant tops are filled once, so what is written into them stays; others at every forward.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.fillers import fill
from caffe_ssd.layers.common import constant
from caffe_ssd.layers.registry import AT_LEAST_ONE, LayerSpec, Shape, SourceLayer, register_layer
from caffe_ssd.proto.caffe_pb2 import DummyDataParameter, FillerParameter
from caffe_ssd.random import CaffeRandom

_log = logging.getLogger(__name__)


class DummyData(SourceLayer):
    """The layer.

    Args:
        name: the layer's, for a warning.
        shapes: of the tops.
        fillers: one per top.
        rng: where random values come from.
    """

    def __init__(
        self,
        *,
        name: str,
        shapes: tuple[Shape, ...],
        fillers: tuple[FillerParameter, ...],
        rng: CaffeRandom,
    ) -> None:
        super().__init__()
        self.name = name
        self.shapes = shapes
        self.fillers = fillers
        self.rng = rng
        for i, (shape, filler) in enumerate(zip(shapes, fillers, strict=True)):
            # A stream of its own: random tops draw nothing from the shared one before a forward.
            top = fill(shape, filler, CaffeRandom(0))
            self.register_buffer(f"top_{i}", top, persistent=False)

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return self.shapes

    def forward(self) -> Tensor | tuple[Tensor, ...]:
        tops = tuple(self._top(i, filler) for i, filler in enumerate(self.fillers))
        return tops if len(tops) > 1 else tops[0]

    def made_once(self) -> Mapping[int, Tensor]:
        return {
            i: self.get_buffer(f"top_{i}")
            for i, filler in enumerate(self.fillers)
            if filler.type == "constant"
        }

    def seek(self, batch: int) -> None:
        if batch > 0 and any(filler.type != "constant" for filler in self.fillers):
            _log.warning(
                "layer %r (DummyData): random tops are drawn anew after this resume, other than "
                "in an uninterrupted run",
                self.name,
            )

    def _top(self, i: int, filler: FillerParameter) -> Tensor:
        top = self.get_buffer(f"top_{i}")
        if filler.type == "constant":
            return top
        return fill(self.shapes[i], filler, self.rng).to(top)


@register_layer("DummyData", bottoms=0, tops=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> DummyData:
    param = spec.param.dummy_data_param
    fillers = tuple(param.data_filler)
    if len(fillers) not in (0, 1, spec.num_tops):
        raise LayerParamError(
            f"data_filler takes no value, one, or one per top ({spec.num_tops}), got {len(fillers)}"
        )
    if len(fillers) != spec.num_tops:
        fillers = (fillers[0] if fillers else constant(0),) * spec.num_tops
    shapes = _read_shapes(param, spec.num_tops)
    return DummyData(name=spec.param.name, shapes=shapes, fillers=fillers, rng=spec.runtime.rng)


def _read_shapes(param: DummyDataParameter, num_tops: int) -> tuple[Shape, ...]:
    legacy = (param.num, param.channels, param.height, param.width)
    if not param.shape:
        sizes = [
            _per_top(name, values, num_tops)
            for name, values in zip(("num", "channels", "height", "width"), legacy, strict=True)
        ]
        return tuple(zip(*sizes, strict=True))
    if any(legacy):
        raise LayerParamError("give either shape or num, channels, height and width, not both")
    if len(param.shape) not in (1, num_tops):
        raise LayerParamError(
            f"shape takes one value or one per top ({num_tops}), got {len(param.shape)}"
        )
    shapes = tuple(tuple(shape.dim) for shape in param.shape)
    return shapes if len(shapes) == num_tops else shapes * num_tops


def _per_top(name: str, values: Sequence[int], num_tops: int) -> tuple[int, ...]:
    if len(values) not in (1, num_tops):
        raise LayerParamError(
            f"{name} takes one value or one per top ({num_tops}), got {list(values)}"
        )
    return tuple(values) if len(values) == num_tops else tuple(values) * num_tops
