"""Zooming out: the image is pasted somewhere on a larger canvas.

Spec: ssd-data.md section 4.3.
Quirk: the canvas is the mean of the data, rounded to 8 bits, so that it is near 0 later on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.box_projection import normalised
from caffe_ssd.data.draws import Draws
from caffe_ssd.data.pictures import Pasted, Picture
from caffe_ssd.data.samples import Boxes
from caffe_ssd.errors import LayerParamError
from caffe_ssd.proto.caffe_pb2 import ExpansionParameter


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """Where the image lies on which canvas.

    Args:
        height: of the canvas, in pixels.
        width: of the canvas.
        y_off: row of the image's upper edge.
        x_off: column of its left edge.
    """

    height: int
    width: int
    y_off: int
    x_off: int

    def paste(self, picture: Picture, mean: NDArray[np.float32]) -> Picture:
        """The canvas with the picture on it.

        Args:
            picture: the image.
            mean: colour of the canvas, [C].
        """
        fill = np.clip(np.rint(mean), 0, 255)
        return Pasted(
            picture,
            height=self.height,
            width=self.width,
            y_off=self.y_off,
            x_off=self.x_off,
            fill=fill,
        )

    def crop_box(self, picture: Picture) -> Boxes:
        """The canvas in normalised coordinates of the picture, [4]."""
        edges = (-self.x_off, -self.y_off, self.width - self.x_off, self.height - self.y_off)
        return normalised(edges, height=picture.height, width=picture.width)


@dataclass(frozen=True, kw_only=True)
class ExpandPolicy:
    """Draws expansions.

    Args:
        prob: the probability of an expansion.
        max_ratio: largest side of the canvas in sides of the image.
    """

    prob: float
    max_ratio: float

    @staticmethod
    def from_param(param: ExpansionParameter) -> ExpandPolicy:
        """Read the message.

        Raises:
            LayerParamError: max_expand_ratio is not greater than 1.
        """
        if not param.max_expand_ratio > 1:
            raise LayerParamError(
                f"expand_param.max_expand_ratio must be > 1, got {param.max_expand_ratio:g}"
            )
        return ExpandPolicy(prob=param.prob, max_ratio=param.max_expand_ratio)

    def draw(self, draws: Draws, *, height: int, width: int) -> Expansion | None:
        """An expansion of an image of this size in pixels, or None: not this time."""
        if draws.uniform(0, 1) > self.prob or abs(self.max_ratio - 1) < 1e-2:
            return None
        ratio = draws.uniform(1, self.max_ratio)
        canvas_height, canvas_width = int(height * ratio), int(width * ratio)
        return Expansion(
            height=canvas_height,
            width=canvas_width,
            y_off=int(draws.uniform(0, canvas_height - height)),
            x_off=int(draws.uniform(0, canvas_width - width)),
        )
