"""The layers between two blobs of a net, run as the net itself runs them.

A detector is such a part, from the picture to DetectionOutput, whether its net has an Input layer
or reads a database. Pictures may have any size that the layers take.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_ssd.errors import LayerError, NetError
from caffe_ssd.layers.dummy_data import DummyData
from caffe_ssd.layers.parameter import Parameter
from caffe_ssd.layers.prior_box import PriorBox
from caffe_ssd.layers.registry import Layer, Shape
from caffe_ssd.net.instruction import Instruction, with_last_uses
from caffe_ssd.net.net import Net
from caffe_ssd.net.plan import Step, Value, naming
from caffe_ssd.net.runner import Runner

_log = logging.getLogger(__name__)

_CONSTANT = (DummyData, Parameter)  # layers without bottoms that may run once more per picture


class NetPart:
    """See the module's docstring.

    Args:
        net: the net; it stays the owner of all layers.
        fed: what the caller feeds, in the place of the layer that makes it.
        wanted: what the caller gets.

    Raises:
        NetError: the wanted value does not come from the fed one alone.
    """

    def __init__(self, net: Net, *, fed: Value, wanted: Value) -> None:
        self.net = net
        self._fed, self._wanted = fed, wanted
        self._layers = _between(net, fed, wanted)
        self._made = {value for step, _ in self._layers for value in step.tops}
        self._whole: Sequence[Instruction] = ()
        self._program: Sequence[Instruction] = ()

    def __call__(self, data: Tensor) -> Tensor:
        """Run the part without gradients.

        Raises:
            LayerError: a layer cannot take the shapes it meets.
        """
        context = self.net.context()
        (fed,) = context.received([data])
        values = {self._fed: fed}
        with torch.inference_mode():
            Runner(context).run(self._own_program(), values, wanted=(self._wanted,))
        return values[self._wanted]

    def _own_program(self) -> Sequence[Instruction]:
        """What the net's program does for this part; the net may have been given a new one."""
        if self._whole is not self.net.program:
            self._whole = self.net.program
            mine = [op for op in self._whole if self._made.intersection(op.tops)]
            self._program = with_last_uses(mine)
        return self._program

    def check_size(self, shape: Shape) -> None:
        """Make sure that all layers take inputs of this shape, without running them.

        Priors with a `step` keep it, as after a reshape in the reference; a warning is logged where
        they then cover far more or less than the picture.

        Args:
            shape: (N, C, H, W) of the fed value.

        Raises:
            NetError: a layer does not; names it and the size.
        """
        size = f"{shape[2]} x {shape[3]}"
        shapes = {self._fed: shape}
        for step, layer in self._layers:
            bottoms = [shapes[value] for value in step.bottoms]
            try:
                with naming(step):
                    tops = layer.top_shapes(*bottoms)
            except LayerError as error:
                raise NetError(
                    f"the net does not take pictures of {size} (height x width): {error}"
                ) from error
            shapes.update(zip(step.tops, tops, strict=True))
            if isinstance(layer, PriorBox):
                _check_priors(step, layer, bottoms[0][2:], shape[2:])


def _between(net: Net, fed: Value, wanted: Value) -> list[tuple[Step, Layer]]:
    """The layers that lead from one value to the other, in order."""
    reached = {wanted}
    layers = []
    for step, layer in reversed(list(zip(net.steps, net.layers, strict=True))):
        is_source = fed in step.tops or not (step.bottoms or isinstance(layer, _CONSTANT))
        if reached & set(step.tops) and not is_source:
            reached.update(step.bottoms)
            layers.append((step, layer))
    layers.reverse()
    made = {fed}
    for step, _ in layers:
        missing = [value for value in step.bottoms if value not in made]
        if not missing:
            made.update(step.tops)
        elif step.param.type != "Split":  # which no file has: its reader says more
            raise NetError(
                f"layer {step.param.name!r} ({step.param.type}) reads "
                f"{net.blob_names[missing[0].blob]!r}, which does not come from "
                f"{net.blob_names[fed.blob]!r}"
            )
    return layers


def _check_priors(step: Step, layer: PriorBox, cells: Shape, size: Shape) -> None:
    """Refuse priors of a fixed picture size; warn where cells of a fixed size miss the picture."""
    where = f"layer {step.param.name!r} (PriorBox)"
    if layer.image_size is not None and layer.image_size != size:
        raise NetError(
            f"{where} makes priors for pictures of {' x '.join(map(str, layer.image_size))} "
            f"(img_size), not of {' x '.join(map(str, size))}; without that field they follow the "
            "picture"
        )
    for count, width, length in zip(cells, layer.step or (), size, strict=False):
        if abs(count * width - length) > width:
            _log.warning(
                "%s: %d cells of %g pixels (step) cover %g pixels, but the picture has %d",
                where,
                count,
                width,
                count * width,
                length,
            )
            return
