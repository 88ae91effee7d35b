"""Batch samplers against the rules of the reference, one trial at a time."""

from __future__ import annotations

import numpy as np
import pytest

from caffe_ssd.data.draws import Draws
from caffe_ssd.data.sampler import (
    Constraint,
    PatchSampler,
    draw_patch,
    patch_samplers,
    patch_window,
    satisfied,
)
from caffe_ssd.errors import LayerParamError
from caffe_ssd.proto.caffe_pb2 import BatchSampler, SampleConstraint, Sampler
from tests.data.given import Given
from tests.data.test_box_projection import naive_coverage, naive_jaccard, random_boxes

OBJECTS = random_boxes(6, seed=3)
STOCK = Sampler(min_scale=0.3, max_scale=1, min_aspect_ratio=0.5, max_aspect_ratio=2)


def naive_accepts(constraint, sample, objects):
    """Object by object, kind by kind, with a mark that is never reset."""
    kinds = (
        ("jaccard_overlap", naive_jaccard),
        ("sample_coverage", naive_coverage),
        ("object_coverage", lambda s, o: naive_coverage(o, s)),
    )
    found = False
    for target in objects:
        for name, measure in kinds:
            bounds = [f"min_{name}", f"max_{name}"]
            if not any(constraint.HasField(b) for b in bounds):
                continue
            value = measure(sample, target)
            if constraint.HasField(bounds[0]) and value < getattr(constraint, bounds[0]):
                break
            if constraint.HasField(bounds[1]) and value > getattr(constraint, bounds[1]):
                break
            found = True
        else:
            if found:
                return True
    return found


CONSTRAINTS = [
    SampleConstraint(min_jaccard_overlap=0.2),
    SampleConstraint(max_jaccard_overlap=0.05),
    SampleConstraint(min_sample_coverage=0.3),
    SampleConstraint(min_object_coverage=0.4, max_object_coverage=0.8),
    SampleConstraint(min_jaccard_overlap=0.1, min_object_coverage=0.9),
    SampleConstraint(min_sample_coverage=0.3, max_sample_coverage=0.4, min_object_coverage=0.9),
]


@pytest.mark.parametrize("param", CONSTRAINTS, ids=lambda p: str(p).replace("\n", " ").strip())
def test_constraints_match_the_naive_loop(param):
    samples = np.clip(random_boxes(200, seed=4), 0, 1)
    expected = [naive_accepts(param, s.tolist(), OBJECTS.tolist()) for s in samples]
    constraint = Constraint.from_param(param)
    assert constraint is not None
    assert satisfied([constraint], [200], samples, OBJECTS).tolist() == expected
    assert 0 < sum(expected) < 200


def test_of_several_kinds_the_first_decides():
    """The IoU of .83 passes, the coverage of .83 does not."""
    both = SampleConstraint(min_jaccard_overlap=0.5, min_object_coverage=0.99)
    sample, target = np.float32([[0, 0, 0.5, 0.5]]), np.float32([[0, 0, 0.6, 0.5]])
    constraint = Constraint.from_param(both)
    assert constraint is not None
    assert satisfied([constraint], [1], sample, target).tolist() == [True]


def test_no_field_is_no_constraint():
    assert Constraint.from_param(SampleConstraint()) is None


def test_an_image_without_objects_satisfies_no_constraint():
    param = BatchSampler(sample_constraint=SampleConstraint(max_jaccard_overlap=1))
    assert len(PatchSampler.from_param(param).draw(Draws(1, 1), np.empty((0, 4), np.float32))) == 0


def test_patches_lie_in_the_image_and_have_the_right_shapes():
    sampler = PatchSampler.from_param(BatchSampler(sampler=STOCK, max_trials=3000))
    patches = sampler.draw(Draws(1, 1), OBJECTS)
    assert patches.shape == (3000, 4)
    assert patches.dtype == np.float32
    size = patches[:, 2:] - patches[:, :2]
    assert patches.min() >= 0
    assert patches.max() <= 1 + 1e-6
    scale, ratio = np.sqrt(size[:, 0] * size[:, 1]), size[:, 0] / size[:, 1]
    assert 0.3 - 1e-5 < scale.min() < 0.31
    assert scale.max() <= 1 + 1e-5
    assert 0.5 - 1e-5 < ratio.min() < 0.51
    assert 1.99 < ratio.max() <= 2 + 1e-5
    # The scale is uniform although large patches cannot be narrow.
    assert abs(scale.mean() - 0.65) < 4 * 0.7 / np.sqrt(12 * 3000)
    free = 1 - size
    roomy = free.min(axis=1) > 0.1
    where = patches[roomy, :2] / free[roomy]
    np.testing.assert_allclose(where.mean(axis=0), 0.5, atol=4 / np.sqrt(12 * len(where)))


def test_max_sample_stops_and_absence_does_not():
    unlimited = PatchSampler.from_param(BatchSampler())
    assert len(unlimited.draw(Draws(1, 1), OBJECTS)) == 100
    assert (unlimited.draw(Draws(1, 1), OBJECTS) == [0, 0, 1, 1]).all()
    for limit in (0, 1, 7):
        limited = PatchSampler.from_param(BatchSampler(max_sample=limit))
        assert len(limited.draw(Draws(1, 1), OBJECTS)) == limit


def test_the_choice_is_uniform_over_all_accepted_patches():
    free = BatchSampler(sampler=STOCK, max_sample=5, max_trials=10)
    whole = BatchSampler(max_sample=1, max_trials=1)
    ignored = BatchSampler(use_original_image=False)
    samplers = patch_samplers([free, whole, ignored])
    assert len(samplers) == 2
    patches = [draw_patch(samplers, Draws(3, n), OBJECTS) for n in range(3000)]
    is_whole = np.array([patch.tolist() == [0, 0, 1, 1] for patch in patches])
    assert abs(is_whole.mean() - 1 / 6) < 4 * np.sqrt(5 / 36 / 3000)


def test_nothing_accepted_is_no_patch():
    assert draw_patch((), Draws(1, 1), OBJECTS) is None


def test_patch_window_truncates():
    window = patch_window(np.float32([0.1, 0.25, 0.55, 0.99]), height=30, width=47)
    assert window == (4, 7, 4 + 21, 7 + 22)
    assert patch_window(np.float32([0.999, 0.5, 1, 0.501]), height=9, width=7) == (6, 4, 7, 5)


def test_patch_window_truncates_corners_and_sizes_by_themselves():
    """From 4.7 to 25.2 are 20 pixels, from 4.2 to 25.9 are 21, both beginning at 4."""
    window = patch_window(np.float32([0.047, 0.042, 0.252, 0.259]), height=100, width=100)
    assert window == (4, 4, 4 + 20, 4 + 21)


@pytest.mark.parametrize(
    ("scale", "ratio", "width", "height"),
    [
        (0.5, 0.5, 0.65 * 1.25**0.5, 0.65 / 1.25**0.5),  # from the middle of both ranges
        (0.0, 0.0, 0.3 * 0.5**0.5, 0.3 / 0.5**0.5),
        (0.9, 0.0, 0.93**2, 1),  # the ratio is at least scale^2
        (0.9, 0.999, 1, 0.93**2),  # and 1 / scale^2 at most
    ],
)
def test_the_patch_of_given_draws(scale, ratio, width, height):
    sampler = PatchSampler.from_param(BatchSampler(sampler=STOCK, max_sample=1, max_trials=1))
    (patch,) = sampler.draw(Given(scale, ratio, 0.25, 0.75), OBJECTS)
    left, upper = 0.25 * (1 - width), 0.75 * (1 - height)
    np.testing.assert_allclose(patch, [left, upper, left + width, upper + height], atol=1e-6)


@pytest.mark.parametrize("kind", ["jaccard_overlap", "sample_coverage", "object_coverage"])
def test_both_bounds_of_a_constraint_are_allowed(kind):
    whole, half = np.float32([[0, 0, 1, 1]]), np.float32([[0, 0, 0.5, 1]])
    sample, target = (whole, half) if kind == "sample_coverage" else (half, whole)
    for end, outside in (("min", 0.5000001), ("max", 0.4999999)):
        for bound, allowed in ((0.5, True), (outside, False)):
            constraint = Constraint.from_param(SampleConstraint(**{f"{end}_{kind}": bound}))
            assert constraint is not None
            assert satisfied([constraint], [1], sample, target).tolist() == [allowed]


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ({"min_scale": 0}, r"min_scale <= max_scale <= 1, got 0 and 1"),
        ({"min_scale": 0.5, "max_scale": 0.25}, "got 0.5 and 0.25"),
        ({"max_scale": 1.5}, "got 1 and 1.5"),
        ({"min_aspect_ratio": 2}, r"min_aspect_ratio <= max_aspect_ratio, got 2 and 1"),
    ],
)
def test_wrong_settings(sampler, message):
    with pytest.raises(LayerParamError, match=message):
        PatchSampler.from_param(BatchSampler(sampler=Sampler(**sampler)))
