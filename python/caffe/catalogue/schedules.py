"""The published schedules, number by number, to hold what we train against.

Sources: the papers' sections on training, the released scripts. None stands for what was not
published; what is taken in its place stands in `caffe.catalogue.assumptions`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from caffe.catalogue.published import Published


@dataclass(frozen=True, kw_only=True)
class PublishedSchedule:
    """How a row was trained.

    Args:
        base_lr: learning rate at the start.
        steps: iterations at which it becomes a tenth.
        max_iter: iterations.
        images: per iteration, on all devices together.
        image_size: height and width of the input in pixels.
    """

    base_lr: float | None = None
    steps: tuple[int, ...] | None = None
    max_iter: int | None = None
    images: int | None = None
    image_size: int | None = None


FIELDS = ("base_lr", "steps", "max_iter", "images", "image_size")
# DSOD's rate is 10 x 0.0004 x 25; "/10 every 20k" over 100k iterations.
_DSOD_VOC = PublishedSchedule(
    base_lr=0.1, steps=(20_000, 40_000, 60_000, 80_000), max_iter=100_000, images=128
)
_DSOD_PLUS = replace(_DSOD_VOC, steps=(20_000, 40_000, 60_000, 80_000, 100_000), max_iter=120_000)
_DSOD_COCO = replace(
    _DSOD_VOC, steps=(80_000, 140_000, 200_000, 260_000, 320_000), max_iter=320_000
)
_DSOD = {"VOC0712": _DSOD_VOC, "VOC0712Plus": _DSOD_PLUS, "coco": _DSOD_COCO}
_SCRATCHDET = {
    "VOC0712": PublishedSchedule(
        base_lr=0.05, steps=(40_000, 75_000, 90_000, 100_000), max_iter=100_000, images=128
    ),
    "coco": PublishedSchedule(
        base_lr=0.05, steps=(150_000, 250_000, 310_000, 320_000), max_iter=325_000, images=128
    ),
}
_SSD = {
    "VOC0712": PublishedSchedule(
        base_lr=0.001, steps=(80_000, 100_000, 120_000), max_iter=120_000, images=32
    ),
    "coco": PublishedSchedule(
        base_lr=0.001, steps=(280_000, 360_000, 400_000), max_iter=400_000, images=32
    ),
}
# Rates of the grid of batch norm and rate: 1, 1, 1, 10 and 50 times SSD's.
_GRID = {
    "scratch-07+12": 0.001,
    "scratch_bn_head-07+12": 0.001,
    "scratch_bn_body-07+12-lr0.001": 0.001,
    "scratch_bn_body-07+12": 0.01,
    "scratch_bn-07+12": 0.05,
}


def published_schedule(row: Published) -> PublishedSchedule:
    """What was published of a row's training."""
    size = {"few_priors": 320, "GRP_DSOD320": 320}.get(row.variant, 300)
    size = 512 if "512" in row.variant else size
    return replace(_without_size(row), image_size=size)


def _without_size(row: Published) -> PublishedSchedule:
    family = row.family.name
    if row.score_percent is None and row.data == "VOC0712":
        return PublishedSchedule()
    if row.from_coco:
        return PublishedSchedule(base_lr=0.001 if family == "DSOD" else None)
    if family in ("DSOD", "GRP-DSOD"):
        schedule = _DSOD.get(row.data, PublishedSchedule(base_lr=0.1, images=128))
        return schedule if "batch-size" not in row.flags else replace(schedule, images=None)
    if family == "ScratchDet":
        return _SCRATCHDET.get(row.data, PublishedSchedule())
    if row.name in _GRID:
        return PublishedSchedule(base_lr=_GRID[row.name])
    return PublishedSchedule() if "--weights none" in row.flags else _SSD[row.data]


def schedule_of(row: Published) -> PublishedSchedule:
    """What the row's command trains, on the devices of the published training."""
    recipe: Any = row.recipe
    schedule = recipe.schedule
    return PublishedSchedule(
        base_lr=schedule.base_lr,
        steps=tuple(schedule.stepvalues),
        max_iter=schedule.max_iter,
        images=schedule.images_per_iteration(schedule.num_devices),
        image_size=recipe.detector.image_size,
    )


def differences(row: Published) -> dict[str, str]:
    """Where the command differs from what was published, by name, and why."""
    published, ours = published_schedule(row), schedule_of(row)
    found = {}
    for name in FIELDS:
        wanted = getattr(published, name)
        if wanted is not None and not _is_same(name, wanted, getattr(ours, name), ours.max_iter):
            found[name] = _REASONS.get((row.family.name, name), "")
    return found


def _is_same(name: str, published: Any, ours: Any, max_iter: int | None) -> bool:
    if name == "steps":  # one at the last iteration changes nothing
        return _before(published, max_iter) == _before(ours, max_iter)
    if name == "base_lr":
        return bool(abs(published - ours) < 1e-9)
    return bool(published == ours)


def _before(steps: tuple[int, ...], max_iter: int | None) -> list[int]:
    return [step for step in steps if max_iter is None or step < max_iter]


_REASONS = {
    ("GRP-DSOD", "images"): "the released script makes it so: 3 whole passes of 8 x 6 images",
}
