"""Pooling's windows: where they lie, how many there are, and the two fixed ways to pool them.

Spec: caffe-layers.md section B; other-forks.md sections 9.1 (rounding down) and 9.2 (a pad per
side). Pooling and SPP use it.
Quirk: with padding, a last window that would start in the far padding is dropped; without padding
nothing is dropped, so a stride above the kernel can leave empty windows.
Quirk: NaN never wins a maximum; a window without a winner gives the most negative finite number.
Quirk: an average divides by the cells up to the far padding, not by those beyond it.

Shapes: N images, C channels, H rows, W columns; pairs are (rows, columns).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Window:
    """A pooling window; window i starts at i * stride - pad.

    Args:
        kernel, stride, pad: (rows, columns); pad is below kernel.
        pad_behind: padding behind the last cell where it is not `pad`; None: it is.
        rounds_up: whether a last window may stick out of the padded plane.
    """

    kernel: Pair
    stride: Pair = (1, 1)
    pad: Pair = (0, 0)
    pad_behind: Pair | None = None
    rounds_up: bool = True

    @property
    def far_pads(self) -> Pair:
        """Padding behind the last cell."""
        return self.pad if self.pad_behind is None else self.pad_behind

    def counts(self, sizes: Pair) -> Pair:
        """Numbers of windows over a plane of these sizes; not positive if it is too small."""
        clip = self.pad != (0, 0) or self.far_pads != (0, 0)
        rows, columns = (self._count(sizes[i], i, clip) for i in (0, 1))
        return rows, columns

    def is_native(self, sizes: Pair) -> bool:
        """Whether the framework makes the same windows."""
        if self.pad_behind is not None:
            return False
        if any(2 * pad > kernel for pad, kernel in zip(self.pad, self.kernel, strict=True)):
            return False
        return all(
            self._count(sizes[i], i, False) == self._count(sizes[i], i, True) for i in (0, 1)
        ) or self.pad != (0, 0)

    def far_pad(self, sizes: Pair) -> Pair:
        """Cells to add behind the plane so that the last window just fits; negative to cut."""
        counts = self.counts(sizes)
        rows, columns = (
            (counts[i] - 1) * self.stride[i] + self.kernel[i] - sizes[i] - self.pad[i]
            for i in (0, 1)
        )
        return rows, columns

    def _count(self, size: int, axis: int, clip: bool) -> int:
        kernel, stride, pad = self.kernel[axis], self.stride[axis], self.pad[axis]
        room = size + pad + self.far_pads[axis] - kernel
        count = (-(-room // stride) if self.rounds_up else room // stride) + 1
        if clip and (count - 1) * stride >= size + pad:
            count -= 1
        return count


def max_pool(x: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    """The maximum of each window, and where it lies.

    Args:
        x: (N, C, H, W).
        window: see `Window`.

    Returns:
        The maxima (N, C, h, w), and their flat indices in the H x W plane as int64, -1 where a
        window has no winner; the first of equal maxima counts.
    """
    sizes = (x.shape[2], x.shape[3])
    native = window.is_native(sizes)
    if native and not x.is_cuda and not _is_followed():
        y, index = _native_max(x, window)
        # Any window with a NaN or without a finite winner fails this test. On a GPU it would make
        # the caller wait for the device, so there the input is cleaned beforehand instead.
        if bool((y > -torch.inf).all()):
            return y, index
    lowest = torch.finfo(x.dtype).min
    x = torch.where(x > lowest, x, lowest)
    if native:
        y, index = _native_max(x, window)
    else:
        y, index = _padded_max(x, window)
    return y, torch.where(y == lowest, -1, index)


def _is_followed() -> bool:
    """Whether PyTorch writes down what is computed; no number may decide then what comes next."""
    return torch.compiler.is_compiling()


def average_pool(x: Tensor, window: Window) -> Tensor:
    """The average of each window.

    Args:
        x: (N, C, H, W).
        window: see `Window`.

    Returns:
        (N, C, h, w); NaN for an empty window.
    """
    sizes = (x.shape[2], x.shape[3])
    if window.is_native(sizes):
        return F.avg_pool2d(x, window.kernel, window.stride, window.pad, ceil_mode=window.rounds_up)
    sums = F.avg_pool2d(_pad(x, window, 0.0), window.kernel, window.stride, divisor_override=1)
    rows, columns = (_cells(x, window, axis) for axis in (0, 1))
    return sums / (rows[:, None] * columns)


def _native_max(x: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    return F.max_pool2d_with_indices(
        x, window.kernel, window.stride, window.pad, ceil_mode=window.rounds_up
    )


def _padded_max(x: Tensor, window: Window) -> tuple[Tensor, Tensor]:
    padded = _pad(x, window, torch.finfo(x.dtype).min)
    y, index = F.max_pool2d_with_indices(padded, window.kernel, window.stride)
    row, column = index // padded.shape[3], index % padded.shape[3]
    return y, (row - window.pad[0]) * x.shape[3] + column - window.pad[1]


def _pad(x: Tensor, window: Window, value: float) -> Tensor:
    below, right = window.far_pad((x.shape[2], x.shape[3]))
    return F.pad(x, (window.pad[1], right, window.pad[0], below), value=value)


def _cells(x: Tensor, window: Window, axis: int) -> Tensor:
    """Cells that each window along one axis is divided by."""
    size, pad = x.shape[2 + axis], window.pad[axis]
    count = window.counts((x.shape[2], x.shape[3]))[axis]
    start = torch.arange(count, device=x.device) * window.stride[axis] - pad
    return (start + window.kernel[axis]).clamp(max=size + pad) - start
