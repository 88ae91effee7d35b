"""The shape of a blob as scripts and Python layers see it.

Spec: caffe-net.md section 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod


class BlobShape:
    """A shape with the names that its first four axes had in old Caffe.

    Args:
        shape: any number of axes.
    """

    def __init__(self, shape: Sequence[int] = ()) -> None:
        self._shape = tuple(int(n) for n in shape)

    @property
    def shape(self) -> list[int]:
        """The length of each axis."""
        return list(self._shape)

    @property
    def count(self) -> int:
        """The number of elements."""
        return prod(self._shape)

    @property
    def num(self) -> int:
        """Axis 0, 1 if there is none; like the three below only for up to 4 axes."""
        return self._legacy_axis(0)

    @property
    def channels(self) -> int:
        """Axis 1, 1 if there is none."""
        return self._legacy_axis(1)

    @property
    def height(self) -> int:
        """Axis 2, 1 if there is none."""
        return self._legacy_axis(2)

    @property
    def width(self) -> int:
        """Axis 3, 1 if there is none."""
        return self._legacy_axis(3)

    def reshape(self, *shape: int) -> None:
        """Change the shape; content stays as a flat prefix, new elements are zero."""
        self._shape = tuple(int(n) for n in shape)

    def _legacy_axis(self, axis: int) -> int:
        if len(self._shape) > 4:
            raise ValueError(f"num, channels, height, width need <= 4 axes, not {self.shape}")
        return self._shape[axis] if axis < len(self._shape) else 1
