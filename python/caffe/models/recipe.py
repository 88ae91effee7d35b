"""A published model as data: net, data set and schedule, and the solver they make."""

import os

from caffe.models.records import record
from caffe.models.ssd import deploy_net, test_net, train_net
from caffe.proto import caffe_pb2

NEVER = 10**6  # as a test interval: longer than any training


class Schedule(
    record(
        "Schedule",
        "base_lr",
        "stepvalues",
        "max_iter",
        "test_interval",
        "snapshot",
        ("display", 20),
        ("test_initialization", False),
        ("batch_size", 4),
        ("accum_batch_size", 128),
        ("test_batch_size", 2),
        ("num_devices", 8),
        ("debug_info", False),
        ("random_seed", None),
        ("solver_type", "SGD"),
    )
):
    """How long and how fast to learn.

    base_lr: learning rate before the first step.
    stepvalues: iterations at which the learning rate becomes a tenth.
    max_iter: iterations.
    test_interval: iterations between tests; none for no test net.
    snapshot: iterations between snapshots.
    display: iterations between log lines.
    test_initialization: test before the first iteration.
    batch_size: images per device.
    accum_batch_size: images per iteration, accumulated over several passes where needed.
    test_batch_size: images per pass of the test net.
    num_devices: GPUs of the published training.
    debug_info: log the magnitudes of every blob in every pass.
    random_seed: of the solver; none for another one each time.
    solver_type: update rule.
    """

    def stretched(self, max_iter):
        """Return the same schedule over another number of iterations."""
        half = self.max_iter // 2
        steps = tuple((step * max_iter + half) // self.max_iter for step in self.stepvalues)
        return self._replace(max_iter=max_iter, stepvalues=steps)

    def on_devices(self, num_devices, total):
        """Return the schedule for `num_devices` devices and `total` images per iteration.

        Fewer devices take more passes; devices that are too many for the total take fewer images
        each, but never a single one, which batch norm could not do with. Where the total cannot be
        shared like that, the schedule stays as it is.
        """
        share, rest = divmod(total, num_devices)
        fitting = [size for size in range(1, self.batch_size + 1) if share % size == 0]
        if rest or not fitting or fitting[-1] < min(2, self.batch_size):
            return self
        return self._replace(batch_size=fitting[-1], accum_batch_size=total)

    def iter_size(self, num_devices):
        """Return the passes of `num_devices` devices that make up an iteration."""
        return -(-self.accum_batch_size // (self.batch_size * num_devices))

    def images_per_iteration(self, num_devices):
        """Return the images that `num_devices` devices see in an iteration."""
        return self.batch_size * num_devices * self.iter_size(num_devices)


class Recipe(
    record(
        "Recipe",
        "name",
        "job",
        "detector",
        "dataset",
        "schedule",
        ("weights", None),
        ("folder", None),
    )
):
    """A model that can be trained.

    name: first part of folder and file names.
    job: last part of them.
    detector: the net.
    dataset: what it learns and is scored on.
    schedule: how.
    weights: model to start from; none to learn from scratch.
    folder: first part of folder names where it is not `name`.
    """

    @property
    def model_name(self):
        """Name of the nets, of snapshots, of the shell job and of its log."""
        return "{}_{}_{}".format(self.name, self.dataset.name, self.job)

    def last_snapshot(self, places):
        """Return the path of the weights that the whole training leaves."""
        prefix = places.snapshot_prefix(self)
        return "{}_iter_{}.caffemodel".format(prefix, self.schedule.max_iter)

    def with_head_batch_norm(self, value):
        """Return the recipe with batch norm in its head, or without."""
        return self._replace(detector=self.detector._replace(head_batch_norm=value))


class Family(
    record(
        "Family",
        "name",
        "variants",
        "trainings",
    )
):
    """Detectors that differ in size, and the data sets they are trained on.

    name: for people.
    variants: names of the detectors, the published one first.
    trainings: by name of the data set, what makes the recipe of a variant.
    """

    def recipe(self, data, variant):
        """Return the recipe of a variant on a data set.

        Raises:
            ValueError: there is no such variant or data set.
        """
        return choose(self.trainings, data, "data set")(variant)


class Places(
    record(
        "Places",
        "model_dir",
        "snapshot_dir",
        "job_dir",
        "output_dir",
    )
):
    """Where files go.

    model_dir: prototxt files.
    snapshot_dir: snapshots.
    job_dir: the shell job, its log, and copies of what it ran.
    output_dir: result files of the test set.
    """

    def snapshot_prefix(self, recipe):
        """Return the path of snapshots up to `_iter_N`."""
        return os.path.join(self.snapshot_dir, recipe.model_name)


def choose(entries, name, what="variant"):
    """Return the entry of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in entries:
        raise ValueError("{} must be one of {}, got {!r}".format(what, ", ".join(entries), name))
    return entries[name]


def default_places(recipe, postfix=""):
    """Return the folders of the original scripts; `postfix` sets scoring apart from training."""
    folder = recipe.name if recipe.folder is None else recipe.folder
    parts = (folder, recipe.dataset.name, recipe.job)
    results = recipe.dataset.results.format(job=recipe.job + postfix)
    return Places(
        model_dir=os.path.join("models", *parts) + postfix,
        snapshot_dir=os.path.join("models", *parts),
        job_dir=os.path.join("jobs", *parts) + postfix,
        output_dir=os.path.join(os.path.expanduser("~"), results),
    )


def make_nets(recipe, output_dir):
    """Return the `train`, `test` and `deploy` net of a recipe."""
    schedule = recipe.schedule
    args = (recipe.detector, recipe.dataset)
    nets = {
        "train": train_net(*args, batch_size=schedule.batch_size),
        "test": test_net(*args, batch_size=schedule.test_batch_size, output_dir=output_dir),
    }
    nets["deploy"] = deploy_net(recipe.detector, nets["test"])
    for kind, net in nets.items():
        net.name = "{}_{}".format(recipe.model_name, kind)
    return nets


def make_solver(recipe, places, gpus):
    """Return the solver of a recipe.

    Args:
        recipe: what to train.
        places: where the nets lie and snapshots go.
        gpus: ids of the devices; none means the CPU, which counts as one device.
    """
    schedule = recipe.schedule
    solver = caffe_pb2.SolverParameter(
        train_net=os.path.join(places.model_dir, "train.prototxt"),
        base_lr=schedule.base_lr,
        lr_policy="multistep",
        gamma=0.1,
        stepvalue=schedule.stepvalues,
        max_iter=schedule.max_iter,
        iter_size=schedule.iter_size(max(1, len(gpus))),
        type=schedule.solver_type,
        momentum=0.9,
        weight_decay=0.0005,
        display=schedule.display,
        average_loss=10,
        snapshot=schedule.snapshot,
        snapshot_prefix=places.snapshot_prefix(recipe),
        snapshot_after_train=True,
        debug_info=schedule.debug_info,
        solver_mode=caffe_pb2.SolverParameter.GPU if gpus else caffe_pb2.SolverParameter.CPU,
        device_id=gpus[0] if gpus else 0,
    )
    solver.MergeFrom(caffe_pb2.SolverParameter(**_test_fields(recipe, places)))
    if schedule.random_seed is not None:
        solver.random_seed = schedule.random_seed
    return solver


def _test_fields(recipe, places):
    schedule = recipe.schedule
    if schedule.test_interval is None:
        return {}
    return {
        "test_net": [os.path.join(places.model_dir, "test.prototxt")],
        "test_iter": [-(-recipe.dataset.num_test_image // schedule.test_batch_size)],
        "test_interval": schedule.test_interval,
        "test_initialization": schedule.test_initialization,
        "eval_type": "detection",
        "ap_version": "11point",
    }


def make_scoring_solver(recipe, places, gpus):
    """Return a solver that tests once, per class, and does not train.

    `caffe test` only adds up outputs; the solver is what computes the mAP (ssd-data.md section 5).
    """
    schedule = recipe.schedule
    if schedule.test_interval is None:
        schedule = schedule._replace(test_interval=schedule.snapshot)
    solver = make_solver(recipe._replace(schedule=schedule), places, gpus)
    solver.max_iter = 0
    solver.test_initialization = True
    solver.show_per_class_result = True
    solver.snapshot = 0
    solver.snapshot_after_train = False
    return solver
