"""The nets that `caffe fit` can train, and their files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from caffe.models.datasets import VOC0712, Dataset
from caffe.models.dsod_recipes import dsod
from caffe.models.grp_dsod_recipes import grp_dsod
from caffe.models.recipe import Places, Recipe, Schedule, make_nets, make_solver
from caffe.models.scratchdet_recipes import scratchdet
from caffe.models.ssd_recipes import ssd

from caffe_ssd.fitting.run_folder import RunFolder
from caffe_ssd.proto.caffe_pb2 import SolverParameter
from caffe_ssd.proto.text import read_solver, write_text

if TYPE_CHECKING:
    from caffe_ssd.fitting.plan import Plan


class FitModel(NamedTuple):
    """A net to fit: what makes its recipe, and which variant of it."""

    make: Callable[[Dataset, Schedule, str], Recipe]
    variant: str


MODELS = {
    "dsod": FitModel(dsod, "DSOD300"),
    "dsod-lite": FitModel(dsod, "lite"),
    "dsod-smallest": FitModel(dsod, "smallest"),
    "ssd-vgg": FitModel(ssd, "scratch_bn"),
    "grp-dsod": FitModel(grp_dsod, "GRP_DSOD320"),
    "scratchdet": FitModel(scratchdet, "res18"),
}
# Each is twice as large as the weights (momentum), and the best weights are kept beside them.
MOST_SNAPSHOTS = 10
_SCHEDULE = Schedule(base_lr=0.1, stepvalues=(1,), max_iter=1, test_interval=1, snapshot=1)
# From pretrained weights SSD keeps its published form, without batch norm.
_PRETRAINED_SSD = "SSD300"


def _detector(model: str, weights: str = ""):  # type: ignore[no-untyped-def]  # generators have no types
    make, variant = MODELS[model]
    if model == "ssd-vgg" and weights:
        variant = _PRETRAINED_SSD
    return make(VOC0712, _SCHEDULE, variant).detector


def aspect_ratios_of(model: str) -> Sequence[Sequence[float]]:
    """The aspect ratios of each map of a model's priors, without 1 and inverses."""
    ratios: Sequence[Sequence[float]] = _detector(model).aspect_ratios
    return ratios


DEFAULT_SIZES: dict[str, int] = {model: _detector(model).image_size for model in MODELS}


def write_nets(
    plan: Plan, run: RunFolder, classes: Sequence[str], num_test: int, *, cuda: bool
) -> None:
    """Write the train, test, deploy and solver prototxt of a plan.

    Args:
        plan: what to train.
        run: where the files go.
        classes: names, without the background.
        num_test: pictures to score on.
        cuda: whether a GPU trains.

    Raises:
        FileError: a file cannot be written.
    """
    recipe = _recipe(plan, run, classes, num_test)
    places = Places(
        model_dir=str(run.model),
        snapshot_dir=str(run.snapshots),
        job_dir=str(run.root),
        output_dir=str(run.root / "results"),
    )
    messages = make_nets(recipe, places.output_dir)
    solver = make_solver(recipe, places, [0] if cuda else [])
    solver.snapshot_prefix = str(run.prefix)
    solver.show_per_class_result = True
    messages["solver"] = solver
    for folder in (run.model, run.snapshots):
        folder.mkdir(parents=True, exist_ok=True)
    for kind, message in messages.items():
        write_text(run.prototxt(kind), message)


def measured_solver(run: RunFolder, iterations: int) -> SolverParameter:
    """The solver of a run for a few iterations that leave nothing behind."""
    solver = read_solver(run.prototxt("solver"))
    for field in ("test_net", "test_iter"):
        solver.ClearField(field)
    solver.ClearField("test_interval")
    solver.ClearField("snapshot_prefix")
    solver.max_iter, solver.display, solver.snapshot = iterations, 0, 0
    solver.snapshot_after_train = False
    return solver


def _recipe(plan: Plan, run: RunFolder, classes: Sequence[str], num_test: int) -> Recipe:
    dataset = VOC0712._replace(
        name=run.name,
        train_data=str(run.database("trainval")),
        test_data=str(run.database("test")),
        label_map=str(run.label_map),
        name_size_file=str(run.sizes),
        num_test_image=num_test,
        num_classes=len(classes) + 1,
        prior_ratios=plan.prior_ratios,
        large_prior_ratios=plan.prior_ratios,
        augmentation=plan.augmentation,
    )
    num_tests = plan.iterations / plan.test_interval
    schedule = Schedule(
        base_lr=plan.base_lr,
        stepvalues=plan.drops,
        max_iter=plan.iterations,
        test_interval=plan.test_interval,
        snapshot=plan.test_interval * math.ceil(num_tests / MOST_SNAPSHOTS),
        batch_size=plan.batch_size,
        accum_batch_size=plan.batch_size,
        test_batch_size=min(8, num_test),
        num_devices=1,
        random_seed=plan.seed,
    )
    detector = _detector(plan.model, plan.weights)
    if plan.image_size != detector.image_size:
        detector = detector._replace(image_size=plan.image_size, steps=())
        if hasattr(detector.body, "for_image"):
            detector = detector._replace(body=detector.body.for_image(plan.image_size))
    detector = detector._replace(statistics_kept=plan.statistics_kept)
    return Recipe(run.name, plan.model, detector, dataset, schedule)
