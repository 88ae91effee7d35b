"""A small net around one layer, and values that suit its bottoms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.layers.build import draw

N = -1
SHAPE = (N, 3, 5, 4)

Shape = tuple[int, ...]
Values = Callable[[Shape], Tensor]


def positive(shape: Shape) -> Tensor:
    """Away from zero."""
    return draw(*shape).abs() + 0.5


def counting(below: int) -> Values:
    """Labels or indices 0, 1, ..., again and again."""
    return lambda shape: (torch.arange(int(np.prod(shape))) % below).float().reshape(shape)


def continues(shape: Shape) -> Tensor:
    """Sequence indicators (T, N): every sequence begins at the first step."""
    values = torch.ones(shape)
    values[0] = 0
    return values


def priors(shape: Shape) -> Tensor:
    """A PriorBox blob (1, 2, 4 P): boxes on a diagonal and their variances."""
    count = shape[2] // 4
    low = torch.linspace(0.05, 0.55, count)
    boxes = torch.stack([low, low + 0.02, low + 0.3, low + 0.35], 1)
    variances = torch.tensor([0.1, 0.1, 0.2, 0.2]).expand(count, 4)
    return torch.stack([boxes, variances]).reshape(shape)


def ground_truth(shape: Shape) -> Tensor:
    """Rows (image, label, instance, box, difficult) of images 0 and 1."""
    rows = [
        [0, 1, 0, 0.1, 0.1, 0.4, 0.45, 0],
        [0, 2, 0, 0.5, 0.5, 0.8, 0.9, 0],
        [1, 1, 0, 0.3, 0.3, 0.6, 0.65, 0],
    ]
    return torch.tensor(rows).reshape(shape)


def detections(shape: Shape) -> Tensor:
    """Rows (image, label, score, box) of images 0 and 1."""
    rows = [[0, 1, 0.9, 0.1, 0.12, 0.4, 0.4], [1, 2, 0.4, 0.2, 0.2, 0.5, 0.6]]
    return torch.tensor(rows).reshape(shape)


def regions(shape: Shape) -> Tensor:
    """Rows (image, x1, y1, x2, y2), one per image, on axis 1."""
    rows = torch.tensor([[0, 1, 2, 7, 6], [1, 0, 3, 9, 8], [0, 4, 1, 6, 5]])[: shape[0]].float()
    return rows.reshape(*rows.shape, *(1,) * (len(shape) - 2)).expand(shape).clone()


@dataclass(frozen=True)
class Config:
    """One layer between inputs.

    Args:
        settings: what stands in the layer's message; `@DIR@` is the folder of `write_files`.
        bottoms: shapes of its bottoms.
        tops: how many it has.
        phase: TRAIN or TEST.
        values: how to fill a bottom, by its index; normal values otherwise.
        fixed: bottoms that have no gradient in any implementation, such as labels.
        untrue: why its gradient is not the true one; empty if it is.
    """

    settings: str = ""
    bottoms: tuple[Shape, ...] = (SHAPE,)
    tops: int = 1
    phase: str = "TRAIN"
    values: Mapping[int, Values] = field(default_factory=dict)
    fixed: Sequence[int] = ()
    untrue: str = ""

    def shapes(self, batch: int) -> list[Shape]:
        """The bottoms' shapes for this batch size."""
        return [tuple(batch if size == N else size for size in shape) for shape in self.bottoms]

    def inputs(self, batch: int) -> dict[str, Tensor]:
        """Values for the bottoms b0, b1, ..."""
        return {
            f"b{i}": self.values[i](shape) if i in self.values else draw(*shape, seed=i)
            for i, shape in enumerate(self.shapes(batch))
        }

    def text(self, layer_type: str, folder: Path, batch: int = 2) -> str:
        """The net's prototxt: inputs b0, b1, ... and the layer `layer` with tops t0, t1, ..."""
        if layer_type == "Input":
            return self._layer(layer_type, folder).replace("@N@", str(batch))
        inputs = "".join(
            f'layer {{ name: "b{i}" type: "Input" top: "b{i}" '
            f"input_param {{ shape {{ {' '.join(f'dim: {size}' for size in shape)} }} }} }}\n"
            for i, shape in enumerate(self.shapes(batch))
        )
        return inputs + self._layer(layer_type, folder)

    def _layer(self, layer_type: str, folder: Path) -> str:
        blobs = [f'bottom: "b{i}"' for i in range(len(self.bottoms))]
        blobs += [f'top: "t{i}"' for i in range(self.tops)]
        settings = self.settings.replace("@DIR@", str(folder))
        return f'layer {{ name: "layer" type: "{layer_type}" {" ".join(blobs)} {settings} }}\n'
