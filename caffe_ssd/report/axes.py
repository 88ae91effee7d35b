"""Axes of a chart: scales, round tick marks, and the frame that they are drawn in."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from caffe_ssd.drawing.svg import text_width
from caffe_ssd.report.markup import Html, element

FONT_PX = 12.0
WIDTH, HEIGHT = 440.0, 270.0
"""Pixels of a chart's own coordinates; a page scales it to the room there is."""

_TOP, _RIGHT, _BOTTOM = 12.0, 14.0, 44.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)

Range = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Scale:
    """From data to pixels.

    Args:
        low, high: the data's range, low < high; positive if logarithmic.
        start, end: pixels of low and high.
        is_log: whether steps multiply.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a value; those outside of the range lie at its ends."""
        low, high, value = self.low, self.high, min(max(value, self.low), self.high)
        if self.is_log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return self.start + (self.end - self.start) * (value - low) / (high - low)

    def ticks(self, most: int = 6) -> list[float]:
        """Round values inside the range, ascending."""
        return _log_ticks(self.low, self.high) if self.is_log else _ticks(self.low, self.high, most)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The inside of a chart, and what surrounds it."""

    x: Scale
    y: Scale
    marks: tuple[Html, ...]


def frame(
    *,
    x_range: Range,
    y_range: Range,
    x_label: str,
    y_label: str,
    x_ticks: Sequence[tuple[float, str]] | None = None,
    log_y: bool = False,
) -> Frame:
    """Axes with grid lines, tick marks and labels.

    Args:
        x_range, y_range: what is shown.
        x_label, y_label: what it is, with its unit.
        x_ticks: values and their texts; None for round numbers.
        log_y: whether the vertical axis is logarithmic.
    """
    bottom = HEIGHT - _BOTTOM
    y = Scale(low=y_range[0], high=y_range[1], start=bottom, end=_TOP, is_log=log_y)
    y_ticks = _with_text(y.ticks())
    left = 26.0 + max((text_width(text, FONT_PX) for _, text in y_ticks), default=0)
    x = Scale(low=x_range[0], high=x_range[1], start=left, end=WIDTH - _RIGHT)
    marks = []
    for value, text in y_ticks:
        marks.append(element("path", d=f"M{left:.1f} {y(value):.1f}H{x.end:.1f}", class_="grid"))
        marks.append(_text(left - 6, y(value) + 4, text, "end"))
    for value, text in _with_text(x.ticks()) if x_ticks is None else x_ticks:
        marks.append(element("path", d=f"M{x(value):.1f} {bottom:.1f}v4", class_="axis"))
        marks.append(_text(x(value), bottom + 17, text, "middle"))
    marks.append(element("path", d=f"M{left:.1f} {bottom:.1f}H{x.end:.1f}", class_="axis"))
    marks.append(_text((left + x.end) / 2, HEIGHT - 6, x_label, "middle", "label"))
    middle = (_TOP + bottom) / 2
    turn = f"rotate(-90 12 {middle:.1f})"
    marks.append(_text(12, middle, y_label, "middle", "label", transform=turn))
    return Frame(x=x, y=y, marks=tuple(marks))


def range_of(values: Iterable[float], *, is_log: bool = False, with_zero: bool = False) -> Range:
    """A range around the values that are finite (and, for a logarithmic axis, positive)."""
    known = [v for v in values if math.isfinite(v) and (v > 0 or not is_log)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    if is_log:
        low, high = (low, high) if known else (1.0, 10.0)
        return (low / 1.3, high * 1.3)
    if with_zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    pad = 0.04 * (high - low)
    return (low if low == 0 else low - pad, high + pad)


def tick_text(value: float) -> str:
    """A short number: 0.25, 300, 20k, 1e-05."""
    if abs(value) >= 10000 and abs(value) < 1e9:
        return f"{value / 1000:g}k" if abs(value) < 1e6 else f"{value / 1e6:g}M"
    return f"{value:.6g}"


def _with_text(values: Iterable[float]) -> list[tuple[float, str]]:
    return [(value, tick_text(value)) for value in values]


def _ticks(low: float, high: float, most: int) -> list[float]:
    step = (high - low) / most
    power = 10.0 ** math.floor(math.log10(step))
    step = next(s * power for s in _STEPS if s * power >= step * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(k * step, 12) for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if math.log10(high / low) > 2.5 else (1, 2, 5)
    skip = math.ceil(len(decades) / 7)
    ticks = [f * 10.0**d for d in decades[::skip] for f in factors]
    return [tick for tick in ticks if low <= tick <= high]


def _text(
    x: float, y: float, text: str, anchor: str, class_: str = "tick", transform: str | None = None
) -> Html:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_=class_, transform=transform)
