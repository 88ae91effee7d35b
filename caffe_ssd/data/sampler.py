"""Batch samplers: random patches of an image that satisfy a constraint on its objects.

Spec: ssd-data.md section 4.4.
Quirk: of a constraint with several kinds only the first one counts, in the order jaccard overlap,
    sample coverage, object coverage.
Quirk: an image without objects satisfies no constraint.
Quirk: the patch of pixels is truncated to whole pixels, the boxes are projected on the exact patch.

Boxes are [n, 4] float32, [xmin, ymin, xmax, ymax], normalised.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.box_projection import coverage, jaccard
from caffe_ssd.data.draws import Draws
from caffe_ssd.data.pictures import PixelWindow
from caffe_ssd.data.samples import Boxes
from caffe_ssd.errors import LayerParamError
from caffe_ssd.proto.caffe_pb2 import BatchSampler, SampleConstraint

# Trials are drawn and judged by arrays of this length.
_TRIALS_AT_ONCE = 64

Measure: TypeAlias = Callable[[Boxes, Boxes], NDArray[np.float32]]


def _object_coverage(samples: Boxes, objects: Boxes) -> NDArray[np.float32]:
    return coverage(objects, samples)


# Of a sample and an object, in the order in which a constraint is searched.
_MEASURES: tuple[tuple[str, Measure], ...] = (
    ("jaccard_overlap", jaccard),
    ("sample_coverage", coverage),
    ("object_coverage", _object_coverage),
)


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """Some object must measure between two bounds, both allowed.

    Args:
        measure: compares samples with objects.
        low: -inf is no bound.
        high: inf is no bound.
    """

    measure: Measure
    low: float
    high: float

    @staticmethod
    def from_param(param: SampleConstraint) -> Constraint | None:
        """Read the message; None accepts everything."""
        for name, measure in _MEASURES:
            least, most = f"min_{name}", f"max_{name}"
            if param.HasField(least) or param.HasField(most):
                return Constraint(
                    measure=measure,
                    low=getattr(param, least) if param.HasField(least) else -math.inf,
                    high=getattr(param, most) if param.HasField(most) else math.inf,
                )
        return None


@dataclass(frozen=True, kw_only=True)
class PatchSampler:
    """One batch_sampler.

    Args:
        scales: range of the square root of a patch's area.
        aspect_ratios: range of width / height.
        constraint: what a patch must satisfy.
        max_sample: stop after this many accepted patches; None never stops.
        max_trials: patches tried at most.
    """

    scales: tuple[float, float] = (1.0, 1.0)
    aspect_ratios: tuple[float, float] = (1.0, 1.0)
    constraint: Constraint | None = None
    max_sample: int | None = None
    max_trials: int = 100

    @staticmethod
    def from_param(param: BatchSampler) -> PatchSampler:
        """Read the message.

        Raises:
            LayerParamError: a range is empty or out of bounds.
        """
        p = param.sampler
        if not 0 < p.min_scale <= p.max_scale <= 1:
            raise LayerParamError(
                "batch_sampler.sampler needs 0 < min_scale <= max_scale <= 1, "
                f"got {p.min_scale:g} and {p.max_scale:g}"
            )
        if not 0 < p.min_aspect_ratio <= p.max_aspect_ratio:
            raise LayerParamError(
                "batch_sampler.sampler needs 0 < min_aspect_ratio <= max_aspect_ratio, "
                f"got {p.min_aspect_ratio:g} and {p.max_aspect_ratio:g}"
            )
        return PatchSampler(
            scales=(p.min_scale, p.max_scale),
            aspect_ratios=(p.min_aspect_ratio, p.max_aspect_ratio),
            constraint=Constraint.from_param(param.sample_constraint),
            max_sample=param.max_sample if param.HasField("max_sample") else None,
            max_trials=param.max_trials,
        )

    def trials(self, num_objects: int, done: int = 0, num_accepted: int = 0) -> int:
        """How many patches the next round tries; 0 ends the draw.

        Args:
            num_objects: of the image.
            done: trials of the rounds before.
            num_accepted: patches that these accepted.
        """
        if num_accepted == self.max_sample or (self.constraint is not None and not num_objects):
            return 0
        count = min(self.max_trials - done, _TRIALS_AT_ONCE)
        if self.constraint is None and self.max_sample is not None:
            count = min(count, self.max_sample - num_accepted)
        return count

    def draw(self, draws: Draws, objects: Boxes) -> Boxes:
        """The accepted patches, [m, 4].

        Args:
            draws: source of randomness.
            objects: [n, 4] boxes of the image's objects.
        """
        accepted, done = np.empty((0, 4), np.float32), 0
        while count := self.trials(len(objects), done, len(accepted)):
            (patches,) = _one_round([self], [count], draws, objects)
            accepted = np.concatenate([accepted, patches])[: self.max_sample]
            done += count
        return accepted


def _one_round(
    samplers: Sequence[PatchSampler], counts: Sequence[int], draws: Draws, objects: Boxes
) -> list[Boxes]:
    """What each sampler accepts of so many trials, [m, 4] each.

    All trials are computed at once: a call of numpy costs as much as the trials of a sampler.
    """
    drawn = np.split(draws.units(4 * sum(counts)), 4 * np.cumsum(counts)[:-1])
    units = np.concatenate([u.reshape(4, -1) for u in drawn], axis=1)
    ranges = np.array([(*s.scales, *s.aspect_ratios) for s in samplers], np.float32)
    patches = _patches(units, np.repeat(ranges.T, counts, axis=1))
    accepted = satisfied([s.constraint for s in samplers], counts, patches, objects)
    ends = np.cumsum(counts)
    return [
        patches[end - n : end][accepted[end - n : end]]
        for end, n in zip(ends.tolist(), counts, strict=True)
    ]


def satisfied(
    constraints: Sequence[Constraint | None], counts: Sequence[int], patches: Boxes, objects: Boxes
) -> NDArray[np.bool_]:
    """Which patches some object satisfies, [t]; those without a constraint all are.

    Args:
        constraints: of the samplers.
        counts: how many of the patches, in order, are each sampler's.
        patches: [t, 4].
        objects: [n, 4].
    """
    found = np.ones(len(patches), np.bool_)
    bounds = np.array([(0, 0) if c is None else (c.low, c.high) for c in constraints], np.float32)
    low, high = np.repeat(bounds.T, counts, axis=1)[:, :, None]
    for measure in {c.measure for c in constraints if c is not None}:
        rows = np.repeat([c is not None and c.measure is measure for c in constraints], counts)
        values = measure(patches[rows][:, None], objects[None])
        found[rows] = ((values >= low[rows]) & (values <= high[rows])).any(axis=1)
    return found


def _patches(units: NDArray[np.float32], ranges: NDArray[np.float32]) -> Boxes:
    """Patches, [t, 4].

    Args:
        units: [4, t] numbers in [0, 1).
        ranges: [4, t] least and largest scale and aspect ratio of each.
    """
    scale = _between(units[0], ranges[0], ranges[1])
    ratio = _between(units[1], ranges[2], ranges[3])
    ratio = np.minimum(np.maximum(ratio, scale * scale), 1 / (scale * scale))
    root = np.sqrt(ratio)
    # A cut-off ratio may round to a side of 1 + 1 ulp.
    size = np.minimum(np.stack([scale * root, scale / root], axis=1), np.float32(1))
    corner = units[2:].T * (1 - size)
    return np.concatenate([corner, corner + size], axis=1)


def _between(
    units: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.asarray(np.minimum(low + (high - low) * units, high))


def patch_samplers(params: Iterable[BatchSampler]) -> tuple[PatchSampler, ...]:
    """Read the messages; those that do not use the original image draw nothing and are left out."""
    return tuple(PatchSampler.from_param(p) for p in params if p.use_original_image)


def draw_patch(samplers: Sequence[PatchSampler], draws: Draws, objects: Boxes) -> Boxes | None:
    """One patch, clipped to the image, [4]; None when there is none.

    All patches that any sampler accepted are equally likely.
    """
    counts = [sampler.trials(len(objects)) for sampler in samplers]
    if all(sampler.max_trials <= _TRIALS_AT_ONCE for sampler in samplers) and any(counts):
        rounds = _one_round(samplers, counts, draws, objects)
        accepted = [found[: s.max_sample] for s, found in zip(samplers, rounds, strict=True)]
    else:
        accepted = [sampler.draw(draws, objects) for sampler in samplers]
    patches = np.concatenate(accepted) if accepted else np.empty((0, 4), np.float32)
    if not len(patches):
        return None
    patch: Boxes = np.clip(patches[draws.below(len(patches))], np.float32(0), np.float32(1))
    return patch


def patch_window(patch: Boxes, *, height: int, width: int) -> PixelWindow:
    """The whole pixels of a patch [4] in an image of this size; at least one."""
    edges = patch * np.array([width, height, width, height], np.float32)
    x0, y0 = min(int(edges[0]), width - 1), min(int(edges[1]), height - 1)
    size_x, size_y = max(1, int(edges[2] - edges[0])), max(1, int(edges[3] - edges[1]))
    return PixelWindow(x0, y0, x0 + size_x, y0 + size_y)
