"""What to train and how: chosen from the pictures and the machine, each choice with its reason.

The rules come from measurements on the synthetic shapes and on BCCD (docs/results.md): a small
data set learns from scratch with few, mild crops, with priors that fit its objects, and with batch
statistics that forget quickly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from caffe.models.datasets import Augmentation, PriorRatios
from numpy.typing import NDArray

from caffe_ssd.errors import UsageError
from caffe_ssd.fitting.machine import Machine
from caffe_ssd.fitting.nets import DEFAULT_SIZES, aspect_ratios_of
from caffe_ssd.fitting.priors import MATCHED, Shapes, best_overlaps, fitting_ratios

# Sides of the input for models that take any; the first is for machines without a GPU.
SIZES = (200, 256, 300, 400, 512)
SMALLEST_ON_CUDA = 300
# Below a bit more than two steps of the finest map (8 px) objects are overlooked.
SMALL_OBJECT_PX = 18
SMALL_PERCENT = 25  # of a class's objects that may be smaller
RATE_PER_IMAGE = 0.0025
HIGHEST_RATE = 0.1
FEWEST_ITERATIONS = 500
# Times through the pictures, without -time.
EPOCHS = 60
# What is left of -time after training: statistics, scores, the report.
CLOSING_S = 60
SHORT = 5000  # iterations in which BatchNorm's usual statistics lag behind
_DROPS = (0.7, 0.9)  # where the rate falls to a tenth


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user has decided; None leaves it to the plan.

    Args:
        model: a key of `MODELS`.
        image_size: side of the net's input in pixels.
        batch_size: pictures per iteration.
        iterations: length.
        base_lr: learning rate.
        time_s: how long everything may take.
        weights: caffemodels to start from, as `caffe train -weights` takes them.
        seed: of the split and of the training.
    """

    model: str | None = None
    image_size: int | None = None
    batch_size: int | None = None
    iterations: int | None = None
    base_lr: float | None = None
    time_s: float | None = None
    weights: str = ""
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class DataFacts:
    """What of the pictures a plan depends on.

    Args:
        num_train: pictures to train on.
        num_test: pictures to score on.
        classes: names, without the background.
        objects: widths and heights of the training objects, as shares of the picture's.
        labels: the class of each, as an index of `classes`.
    """

    num_train: int
    num_test: int
    classes: tuple[str, ...]
    objects: Shapes
    labels: NDArray[np.int64]

    def smallest_class(self) -> tuple[str, float]:
        """The class of the smallest objects, and below what scale a quarter of them is.

        A scale is the square root of an object's share of the picture.
        """
        scales = np.sqrt(self.objects.prod(axis=1))
        of_class = {
            name: float(np.percentile(scales[self.labels == index], SMALL_PERCENT))
            for index, name in enumerate(self.classes)
            if (self.labels == index).any()
        }
        return min(of_class.items(), key=lambda entry: entry[1])


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A training, chosen whole.

    Args:
        model: a key of `MODELS`.
        image_size: side of the net's input in pixels.
        prior_ratios: sizes of the priors in percent of the input.
        augmentation: how training pictures are varied.
        batch_size: pictures per iteration.
        base_lr: learning rate before its first drop.
        iterations: length.
        test_interval: iterations between tests.
        statistics_kept: share of BatchNorm's statistics that a pass keeps.
        fast: flags of `caffe train` for speed.
        weights: see `Wishes`.
        seed: likewise.
        reasons: a sentence for each choice, by the name of what was chosen.
    """

    model: str
    image_size: int
    prior_ratios: PriorRatios
    augmentation: Augmentation
    batch_size: int
    base_lr: float
    iterations: int
    test_interval: int
    statistics_kept: float
    fast: tuple[str, ...]
    weights: str
    seed: int
    reasons: dict[str, str]

    @property
    def drops(self) -> tuple[int, ...]:
        """Iterations at which the rate falls to a tenth."""
        return tuple(round(self.iterations * share) for share in _DROPS)

    def to_dict(self) -> dict[str, Any]:
        """For fit.json."""
        return {
            **vars(self),
            "prior_ratios": self.prior_ratios._asdict(),
            "augmentation": self.augmentation._asdict(),
        }

    @classmethod
    def from_dict(cls, entries: Mapping[str, Any]) -> Plan:
        """From fit.json."""
        fields = dict(entries)
        ratios = fields["prior_ratios"]
        fields["prior_ratios"] = PriorRatios(**{**ratios, "first": tuple(ratios["first"])})
        augmentation = fields["augmentation"]
        augmentation = {**augmentation, "overlaps": tuple(augmentation["overlaps"])}
        fields["augmentation"] = Augmentation(**augmentation)
        fields["fast"] = tuple(fields["fast"])
        return cls(**fields)


def make_plan(data: DataFacts, machine: Machine, wishes: Wishes) -> Plan:
    """Choose everything but the length, which needs a measured iteration; see `with_length`.

    Raises:
        UsageError: a wish that cannot be met.
    """
    model, why_model = _model(machine, wishes)
    size, why_size = _input(model, data, machine, wishes)
    ratios = fitting_ratios(data.objects, data.labels, aspect_ratios_of(model), size)
    batch, why_batch = _batch(data, machine, wishes)
    rate = min(HIGHEST_RATE, RATE_PER_IMAGE * batch) if wishes.base_lr is None else wishes.base_lr
    augmentation = Augmentation(max_expand_ratio=1.0, min_scale=0.5, overlaps=(0.5, 0.7, 0.9))
    overlaps = best_overlaps(data.objects, ratios, aspect_ratios_of(model), size)
    reasons = {
        "net": why_model,
        "input": why_size,
        "priors": f"from {ratios.first[0]} % of the picture on, fitted to {len(overlaps)} objects: "
        f"{(overlaps >= MATCHED).mean():.0%} of them have a prior that overlaps them by half",
        "batch": why_batch,
        "rate": f"{rate:g}: {RATE_PER_IMAGE:g} per picture of a batch, as learnt from scratch here"
        if wishes.base_lr is None
        else f"{rate:g}: as asked",
        "pictures": "mirrored, recoloured, cropped mildly: with few pictures strong crops and "
        "shrinking cost more than they teach",
    }
    fast = []
    if not machine.is_cuda:
        fast = ["channels_last", "skip_jpeg_roundtrip"]
        reasons["speed"] = "channels last, no passes through JPEG: a fifth faster"
    if machine.has_bfloat16:
        fast.append("bf16")
        reasons["speed"] = f"bfloat16, channels last: made for {machine}, two times faster"
    return Plan(
        model=model,
        image_size=size,
        prior_ratios=ratios,
        augmentation=augmentation,
        batch_size=batch,
        base_lr=rate,
        iterations=FEWEST_ITERATIONS,
        test_interval=FEWEST_ITERATIONS,
        statistics_kept=0.99,
        fast=tuple(fast),
        weights=wishes.weights,
        seed=wishes.seed,
        reasons=reasons,
    )


def with_length(
    plan: Plan,
    data: DataFacts,
    wishes: Wishes,
    *,
    iteration_s: float,
    picture_s: float,
    left_s: float,
) -> Plan:
    """The plan with its length, tests and statistics.

    Args:
        plan: from `make_plan`.
        data: the pictures.
        wishes: what is asked for.
        iteration_s: measured seconds of a training iteration.
        picture_s: seconds to score a picture.
        left_s: what is left of `wishes.time_s`.

    Raises:
        UsageError: the time is too short for any training.
    """
    epoch = data.num_train / plan.batch_size
    test_s = data.num_test * picture_s
    # The first score after about two minutes, and at most a tenth of the time for tests.
    interval = max(20, round(max(100 / iteration_s, 9 * test_s / iteration_s)))
    whole_s = iteration_s + test_s / interval
    if wishes.iterations is not None:
        iterations, why = wishes.iterations, "as asked"
    elif wishes.time_s is not None:
        iterations = int((left_s - CLOSING_S) / whole_s)
        why = f"what fits {_duration(wishes.time_s)} at {iteration_s:.2g} s an iteration"
        if iterations < 20:
            least_s = wishes.time_s - left_s + CLOSING_S + 100 * whole_s
            raise UsageError(
                f"{_duration(wishes.time_s)} are too short: data and closing leave "
                f"{max(0, iterations)} iterations of {iteration_s:.2g} s; "
                f"at least {_duration(least_s)} are needed"
            )
    else:
        iterations = max(FEWEST_ITERATIONS, round(EPOCHS * epoch))
        why = f"{EPOCHS} passes over the pictures"
    interval = min(interval, iterations)
    reasons = {
        **plan.reasons,
        "length": f"{iterations} iterations, {iterations / epoch:.3g} passes over "
        f"{data.num_train} pictures: {why}; about {_duration(iterations * whole_s)}",
        "tests": f"every {interval} iterations on {data.num_test} pictures",
    }
    # So that the statistics of a test look back over a quarter of the training at most.
    kept = 0.999 if iterations >= SHORT else min(0.99, max(0.5, round(1 - 4 / iterations, 2)))
    reasons["statistics"] = f"{kept:g} kept per pass: " + (
        "long enough for Caffe's default"
        if iterations >= SHORT
        else "the usual 0.999 remembers more passes than so short a training has"
    )
    return replace(
        plan, iterations=iterations, test_interval=interval, statistics_kept=kept, reasons=reasons
    )


def _model(machine: Machine, wishes: Wishes) -> tuple[str, str]:
    if wishes.model is not None:
        return wishes.model, f"{wishes.model}: as asked"
    if machine.is_cuda:
        return "dsod", f"dsod: made to learn from scratch, and {machine} is fast enough for it"
    return "dsod-smallest", (
        f"dsod-smallest: made to learn from scratch, and light enough for {machine}"
    )


def _input(model: str, data: DataFacts, machine: Machine, wishes: Wishes) -> tuple[int, str]:
    own = DEFAULT_SIZES[model]
    if wishes.image_size is not None:
        return wishes.image_size, f"{wishes.image_size}: as asked"
    if not model.startswith("dsod"):
        return own, f"{own}: what {model} is built for"
    name, scale = data.smallest_class()
    sizes = [size for size in SIZES if not machine.is_cuda or size >= SMALLEST_ON_CUDA]
    size = next((size for size in sizes if size * scale >= SMALL_OBJECT_PX), sizes[-1])
    return size, (
        f"{size}: the smaller ones of {name!r} ({scale:.1%} of the picture's side) are "
        f"{size * scale:.0f} px there; below {SMALL_OBJECT_PX} px objects are overlooked"
    )


def _batch(data: DataFacts, machine: Machine, wishes: Wishes) -> tuple[int, str]:
    if wishes.batch_size is not None:
        return wishes.batch_size, f"{wishes.batch_size}: as asked"
    batch = 32 if machine.is_cuda else 8
    if data.num_train < batch:
        # BatchNorm needs two.
        return max(2, data.num_train), f"{data.num_train}: all training pictures there are"
    return batch, f"{batch}: " + (
        "fills the device" if machine.is_cuda else "more updates for the same time on a CPU"
    )


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"
