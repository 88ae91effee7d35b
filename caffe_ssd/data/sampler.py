"""Batch samplers: random patches of an image that satisfy a constraint on its objects.

Spec: ssd-data.md section 4.4.
Quirk: of a constraint with several kinds only the first one counts, in the order jaccard overlap,
    sample coverage, object coverage.
Quirk: an image without objects satisfies no constraint.
Quirk: the patch of pixels is truncated to whole pixels, the boxes are projected on the exact patch.

Boxes are [n, 4] float32, [xmin, ymin, xmax, ymax], normalised.
"""

from __future__ import annotations

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
        low: None is no bound.
        high: None is no bound.
    """

    measure: Measure
    low: float | None
    high: float | None

    @staticmethod
    def from_param(param: SampleConstraint) -> Constraint | None:
        """Read the message; None accepts everything."""
        for name, measure in _MEASURES:
            low, high = (
                getattr(param, f"{end}_{name}") if param.HasField(f"{end}_{name}") else None
                for end in ("min", "max")
            )
            if low is not None or high is not None:
                return Constraint(measure=measure, low=low, high=high)
        return None

    def accepts(self, samples: Boxes, objects: Boxes) -> NDArray[np.bool_]:
        """Which samples [t, 4] some of the objects [n, 4] satisfies, [t]."""
        values = self.measure(samples[:, None], objects[None])
        low = -np.inf if self.low is None else self.low
        high = np.inf if self.high is None else self.high
        allowed = np.logical_and(values >= np.float32(low), values <= np.float32(high))
        return np.asarray(allowed.any(axis=1))


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

    def draw(self, draws: Draws, objects: Boxes) -> Boxes:
        """The accepted patches, [m, 4].

        Args:
            draws: source of randomness.
            objects: [n, 4] boxes of the image's objects.
        """
        accepted = np.empty((0, 4), np.float32)
        trials = self.max_trials
        if self.constraint is not None and not len(objects):
            return accepted
        while trials > 0 and len(accepted) != self.max_sample:
            count = min(trials, _TRIALS_AT_ONCE)
            if self.constraint is None and self.max_sample is not None:
                count = min(count, self.max_sample - len(accepted))
            patches = self._patches(draws, count)
            if self.constraint is not None:
                patches = patches[self.constraint.accepts(patches, objects)]
            accepted = np.concatenate([accepted, patches])[: self.max_sample]
            trials -= count
        return accepted

    def _patches(self, draws: Draws, count: int) -> Boxes:
        drawn = draws.units(4, count)
        scale = _between(drawn[0], *self.scales)
        ratio = _between(drawn[1], *self.aspect_ratios)
        ratio = np.minimum(np.maximum(ratio, scale * scale), 1 / (scale * scale))
        root = np.sqrt(ratio)
        # A cut-off ratio may round to a side of 1 + 1 ulp.
        size = np.minimum(np.stack([scale * root, scale / root], axis=1), np.float32(1))
        corner = drawn[2:].T * (1 - size)
        return np.concatenate([corner, corner + size], axis=1)


def _between(units: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    a, b = np.float32(low), np.float32(high)
    return np.asarray(np.minimum(a + (b - a) * units, b))


def patch_samplers(params: Iterable[BatchSampler]) -> tuple[PatchSampler, ...]:
    """Read the messages; those that do not use the original image draw nothing and are left out."""
    return tuple(PatchSampler.from_param(p) for p in params if p.use_original_image)


def draw_patch(samplers: Sequence[PatchSampler], draws: Draws, objects: Boxes) -> Boxes | None:
    """One patch, clipped to the image, [4]; None when there is none.

    All patches that any sampler accepted are equally likely.
    """
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
