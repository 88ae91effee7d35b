"""Draws one picture of the synthetic data set: a cluttered background and one to four shapes.

Every random choice comes from the generator passed in, so a picture depends on its seed alone.
Colours are BGR in [0, 1], float32; positions are pixels (x right, y down).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("circle", "square", "triangle", "star", "ring")

Array = NDArray[np.float32]
Random = np.random.RandomState  # its streams never change, unlike those of numpy's Generator

_SUPERSAMPLING = 4
_SMALLEST, _LARGEST = 0.16, 0.60  # longer side of a shape's box over the shorter image side
_MIN_VISIBLE = 0.45
_DIFFICULT_BELOW = 0.6
_MIN_CONTRAST = 0.32


@dataclass(frozen=True, kw_only=True)
class Shape:
    """One drawn shape.

    Args:
        name: its class.
        box_px: [xmin, ymin, xmax, ymax], edges of pixels: the shape covers columns xmin..xmax-1.
        difficult: most of it is covered by other shapes.
        truncated: it leaves the image; the box is of the part inside.
    """

    name: str
    box_px: tuple[int, int, int, int]
    difficult: bool
    truncated: bool


@dataclass(kw_only=True)
class _Placed:
    """A shape that has found its place: `mask` is its coverage of each pixel, 0 to 1."""

    name: str
    mask: Array
    truncated: bool
    visible: float = 1.0


def draw_picture(random: Random, size: int) -> tuple[NDArray[np.uint8], list[Shape]]:
    """Draw a picture.

    Args:
        random: makes every choice.
        size: the longer side, in pixels.

    Returns:
        The image (H, W, 3), BGR, and its shapes from the rearmost to the foremost.
    """
    height, width = _picture_size(random, size)
    light = random.uniform(0, 2 * math.pi)
    canvas = _background(random, height, width)
    placed = _place_shapes(random, height, width)
    for shape in placed:
        _paint(random, canvas, shape.mask, light)
    shapes = [
        Shape(
            name=shape.name,
            box_px=_box_px(shape.mask),
            difficult=shape.visible < _DIFFICULT_BELOW,
            truncated=shape.truncated,
        )
        for shape in placed
    ]
    return _develop(random, canvas), shapes


def outline(name: str) -> list[Array]:
    """The polygons of a class around the origin; the second one, if any, is a hole."""
    circle = _regular(72)
    if name == "circle":
        return [circle]
    if name == "square":
        return [_regular(4)]
    if name == "triangle":
        return [_regular(3)]
    if name == "star":
        radius = np.where(np.arange(10) % 2 == 0, 1.0, 0.45)[:, None]
        return [(_regular(10) * radius).astype(np.float32)]
    if name == "ring":
        return [circle, circle * np.float32(0.55)]
    raise ValueError(f"no shape {name!r}; there are: {', '.join(CLASSES)}")


def _regular(corners: int) -> Array:
    angles = np.arange(corners) * (2 * math.pi / corners)
    return np.stack([np.sin(angles), -np.cos(angles)], 1).astype(np.float32)


def _picture_size(random: Random, size: int) -> tuple[int, int]:
    shorter = round(size * (1.0, 0.75, 0.8, 0.6667)[random.choice(4, p=[0.2, 0.4, 0.2, 0.2])])
    return (shorter, size) if random.rand() < 0.7 else (size, shorter)


def _colour(random: Random, saturation: tuple[float, float], value: tuple[float, float]) -> Array:
    hsv = (random.uniform(0, 360), random.uniform(*saturation), random.uniform(*value))
    pixel = np.array([[hsv]], np.float32)
    return np.asarray(cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0], np.float32)


def _ramp(height: int, width: int, angle: float) -> Array:
    """Values from 0 to 1 that rise in one direction over the picture, shape (H, W, 1)."""
    along_x = np.linspace(0, width * math.cos(angle), width, dtype=np.float32)
    along_y = np.linspace(0, height * math.sin(angle), height, dtype=np.float32)
    along_x -= along_x.min()
    along_y -= along_y.min()
    ramp = along_x + along_y[:, None]
    return np.asarray(ramp / (along_x.max() + along_y.max()), np.float32)[..., None]


def _background(random: Random, height: int, width: int) -> Array:
    first = _colour(random, (0.02, 0.45), (0.3, 0.95))
    second = np.clip(first + random.uniform(-0.22, 0.22, 3), 0, 1).astype(np.float32)
    ramp = _ramp(height, width, random.uniform(0, 2 * math.pi))
    canvas = first * (1 - ramp) + second * ramp
    for cells, strength in ((4, 0.10), (14, 0.06)):
        grid = random.uniform(-1, 1, (cells, cells, 1)).astype(np.float32)
        cloud = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
        canvas = canvas + cloud * np.float32(random.uniform(0, strength))
    for _ in range(random.randint(0, 4)):
        _blend(canvas, _blob(random, height, width), _colour(random, (0.0, 0.8), (0.2, 1)))
    for _ in range(random.randint(0, 6)):
        _blend(canvas, _line(random, height, width), _colour(random, (0.0, 0.8), (0.1, 1)))
    return np.asarray(canvas, np.float32)


def _blend(canvas: Array, alpha: Array, colour: Array) -> None:
    """Lay a colour over the canvas, in place."""
    rows, columns = np.flatnonzero(alpha.any(1)), np.flatnonzero(alpha.any(0))
    if rows.size:  # only there: most distractors are small
        where = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        canvas[where] += alpha[where][..., None] * (colour - canvas[where])


def _blob(random: Random, height: int, width: int) -> Array:
    """A distractor: an irregular patch without a sharp edge."""
    angles = np.arange(40) * (2 * math.pi / 40)
    wave = sum(
        random.uniform(0, 0.35 / k) * np.cos(k * angles + random.uniform(0, 2 * math.pi))
        for k in (2, 3, 5)
    )
    radius = (1 + wave) * random.uniform(0.05, 0.22) * min(height, width)
    centre = random.uniform(0, 1, 2) * (width, height)
    points = np.stack([np.cos(angles) * radius, np.sin(angles) * radius], 1) + centre
    mask = _rasterise([points.astype(np.float32)], height, width)
    sigma = random.uniform(0.012, 0.05) * min(height, width)
    soft = cv2.GaussianBlur(mask, (0, 0), sigma)
    return np.asarray(soft * np.float32(random.uniform(0.25, 0.7)), np.float32)


def _line(random: Random, height: int, width: int) -> Array:
    """A distractor: a thin, slightly bent stroke."""
    ends = random.uniform(-0.1, 1.1, (2, 2)) * (width, height)
    middle = ends.mean(0) + random.uniform(-0.2, 0.2, 2) * (width, height)
    t = np.linspace(0, 1, 24)[:, None]
    points = ends[0] * (1 - t) ** 2 + 2 * middle * t * (1 - t) + ends[1] * t**2
    scale = _SUPERSAMPLING
    mask = np.zeros((height * scale, width * scale), np.uint8)
    thickness = max(1, round(random.uniform(0.004, 0.014) * scale * min(height, width)))
    cv2.polylines(mask, [np.rint(points * scale).astype(np.int32)], False, 255, thickness)
    return _shrink(mask, height, width) * np.float32(random.uniform(0.3, 0.8))


def _rasterise(polygons: list[Array], height: int, width: int) -> Array:
    """Coverage of each pixel by the first polygon without the others, 0 to 1."""
    # A window of whole pixels around the first polygon is all that is drawn finely.
    low = np.clip(np.floor(polygons[0].min(0)).astype(int) - 1, 0, (width - 1, height - 1))
    high = np.clip(np.ceil(polygons[0].max(0)).astype(int) + 1, low + 1, (width, height))
    columns, rows = (high - low).tolist()
    fine = np.zeros((rows * _SUPERSAMPLING, columns * _SUPERSAMPLING), np.uint8)
    for i, polygon in enumerate(polygons):
        # -0.5: integer points are centres of fine pixels, ours are edges.
        points = np.rint((polygon * _SUPERSAMPLING - 0.5) * 16).astype(np.int32)
        points -= low.astype(np.int32) * (16 * _SUPERSAMPLING)
        cv2.fillPoly(fine, [points], 0 if i else 255, shift=4)
    mask = np.zeros((height, width), np.float32)
    mask[low[1] : high[1], low[0] : high[0]] = _shrink(fine, rows, columns)
    return mask


def _shrink(mask: NDArray[np.uint8], height: int, width: int) -> Array:
    small = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32) / np.float32(255)


def _place_shapes(random: Random, height: int, width: int) -> list[_Placed]:
    """Choose shapes and places, large ones first so that small ones lie on top."""
    count = 1 + random.choice(4, p=[0.25, 0.3, 0.27, 0.18])
    extents = random.uniform(math.sqrt(_SMALLEST), math.sqrt(_LARGEST), count) ** 2
    placed: list[_Placed] = []
    for extent in sorted(extents * min(height, width), reverse=True):
        name = CLASSES[random.randint(len(CLASSES))]
        for _ in range(20):
            shape = _try_place(random, name, extent, height, width)
            if shape is not None and _uncovered(placed, shape.mask):
                placed.append(shape)
                break
    return placed


def _try_place(random: Random, name: str, extent: float, height: int, width: int) -> _Placed | None:
    """Turn, stretch and move a shape; None if too much of it leaves the picture."""
    polygons = outline(name)
    angle = random.uniform(0, 2 * math.pi) if random.rand() < 0.7 else random.uniform(-0.15, 0.15)
    if name == "square":
        angle += math.pi / 4  # the corners of the plain outline point up and sideways
    rotation = np.array(
        [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]], np.float32
    )
    stretch = np.array([1, random.uniform(0.82, 1.0)], np.float32)
    turned = [polygon @ rotation * stretch for polygon in polygons]
    low, high = turned[0].min(0), turned[0].max(0)
    scale = extent / float((high - low).max())
    margin = (high - low) * scale * (0.5 if random.rand() < 0.85 else random.uniform(0.25, 0.5))
    room = np.array([width, height]) - 2 * margin
    if room.min() < 0:
        return None
    centre = margin + random.uniform(0, 1, 2) * room - (low + high) / 2 * scale
    moved = [np.asarray(polygon * scale + centre, np.float32) for polygon in turned]
    outer = moved[0]
    truncated = bool(outer.min() < 0 or outer[:, 0].max() > width or outer[:, 1].max() > height)
    return _Placed(name=name, mask=_rasterise(moved, height, width), truncated=truncated)


def _uncovered(placed: list[_Placed], mask: Array) -> bool:
    """Whether all shapes stay visible enough under one more; if so, notes how visible."""
    left = [
        shape.visible - float((shape.mask * mask).sum()) / float(shape.mask.sum())
        for shape in placed
    ]
    if any(visible < _MIN_VISIBLE for visible in left):
        return False
    for shape, visible in zip(placed, left, strict=True):
        shape.visible = visible
    return True


def _paint(random: Random, canvas: Array, mask: Array, light: float) -> None:
    """Paint a shape with shadow, shading and sometimes stripes or a rim, in place."""
    extent = math.sqrt(float(mask.sum()))
    window = _window(mask, margin=math.ceil(0.3 * extent) + 2)
    canvas, mask = canvas[window], mask[window]
    height, width = mask.shape
    colour = _contrasting(random, canvas, mask)
    shift = np.array([-math.cos(light), -math.sin(light)]) * extent * random.uniform(0.03, 0.1)
    move = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    moved = cv2.warpAffine(mask, move, (width, height))
    shadow = cv2.GaussianBlur(moved, (0, 0), 0.5 + extent * 0.04)
    canvas *= 1 - np.float32(random.uniform(0.1, 0.45)) * shadow[..., None]
    ramp = _ramp(height, width, light)
    inside = mask[..., None] > 0.5
    low, high = ramp[inside].min(), ramp[inside].max()
    shade = (ramp - low) / max(float(high - low), 1e-3) - 0.5
    fill = colour * (1 + np.float32(random.uniform(0.1, 0.45)) * shade)
    style = random.rand()
    if style < 0.2:
        period = max(4.0, extent * random.uniform(0.14, 0.3))
        wave = np.sin(_ramp(height, width, random.uniform(0, math.pi)) * (6.2832 * width / period))
        fill = fill * (1 + np.float32(0.13) * np.clip(wave * 3, -1, 1))
    elif style < 0.5:
        inner = cv2.GaussianBlur(mask, (0, 0), max(0.7, extent * 0.03))[..., None]
        fill = fill * (1 - np.float32(0.5) * np.clip((0.85 - inner) * 4, 0, 1))
    canvas += mask[..., None] * (np.clip(fill, 0, 1) - canvas)


def _window(mask: Array, margin: int) -> tuple[slice, slice]:
    """Where the mask is, with a margin, as an index of images."""
    xmin, ymin, xmax, ymax = _box_px(mask)
    return (
        slice(max(0, ymin - margin), ymax + margin),
        slice(max(0, xmin - margin), xmax + margin),
    )


def _contrasting(random: Random, canvas: Array, mask: Array) -> Array:
    """A colour that stands out from what it will lie on; the best of some tries."""
    under = (canvas * mask[..., None]).sum((0, 1)) / mask.sum()
    best, best_contrast = _colour(random, (0.35, 1.0), (0.25, 1.0)), 0.0
    for _ in range(12):
        colour = _colour(random, (0.35, 1.0), (0.25, 1.0))
        contrast = float(np.linalg.norm(colour - under))
        if contrast > best_contrast:
            best, best_contrast = colour, contrast
        if contrast > _MIN_CONTRAST + 0.2 * random.rand():
            break
    return best


def _develop(random: Random, canvas: Array) -> NDArray[np.uint8]:
    """Lighting, a touch of blur, grain."""
    height, width = canvas.shape[:2]
    ramp = _ramp(height, width, random.uniform(0, 2 * math.pi))
    glow = 1 + np.float32(random.uniform(0, 0.25)) * (ramp - np.float32(0.5))
    image = canvas * (glow * np.float32(random.uniform(0.82, 1.12) * 255))
    if random.rand() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), random.uniform(0.3, 0.8))
    grain = random.standard_normal((height, width, 1)) * random.uniform(0.5, 4.5)
    return np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)


def _box_px(mask: Array) -> tuple[int, int, int, int]:
    """The tight box of the pixels that are at least half covered."""
    inside = mask >= 0.5
    columns, rows = np.flatnonzero(inside.any(0)), np.flatnonzero(inside.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
