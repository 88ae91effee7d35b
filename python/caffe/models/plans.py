"""What a training or scoring will write and run, worked out before anything is written."""

import logging
import os
import sys

from caffe.models import data_check, transfer
from caffe.models.datasets import COCO_TEST_DEV
from caffe.models.devices import choose_gpus, count_gpus
from caffe.models.files import make_folder
from caffe.models.flag_parser import marked
from caffe.models.flags import chosen, places_of
from caffe.models.job import (
    AUTO,
    BUILT_CAFFE,
    newest_snapshot,
    run_job,
    scoring_job,
    shell_job,
    timing_job,
    write_job,
)
from caffe.models.normalisers import common_divisor
from caffe.models.recipe import make_nets, make_scoring_solver, make_solver
from caffe.models.records import record
from caffe.models.ssd import timing_net

logger = logging.getLogger("caffe.models")

COCO_CLASSES = 81
COCO_TO_VOC = "data/coco/coco_voc_map.txt"


class Plan(
    record(
        "Plan",
        "recipe",
        "places",
        "messages",
        "shell",
        ("start", None),
    )
):
    """A training or scoring that is ready to be written.

    recipe: what is trained or scored.
    places: where files go.
    messages: `train`, `test`, `deploy` and `solver`, which become prototxt files.
    shell: text of the shell job.
    start: path and NetParameter of a model to start from that has to be written first, if any.
    """

    def carry_out(self, script, run):
        """Write all files, run the job if asked to, and return the exit status.

        Args:
            script: the Python file that asked for it; a copy is kept with the job.
            run: whether the job runs.
        """
        places = self.places
        if self.start is not None:
            make_folder(places.model_dir)
            transfer.write_model(*self.start)
        path = write_job(places, self.recipe.model_name, self.messages, self.shell, script)
        kinds = ",".join(self.messages)
        logger.info("wrote %s/{%s}.prototxt and %s", places.model_dir, kinds, path)
        return run_job(path) if run else 0


def plan_training(parser, family, args, expected=None):
    """Return the plan of a training.

    Args:
        parser: a training parser.
        family: see `caffe.models.script.train`.
        args: the flags.
        expected: the recipe of the model to fine-tune, which stands for its file where that is
            missing; the plan can then be looked at but not carried out.

    Raises:
        ValueError: flags contradict each other, or a file is missing.
    """
    published = family.recipe(args.data, args.variant)
    recipe = chosen(parser, family, args)
    if args.class_map is not None and args.fine_tune is None:
        raise ValueError("--class-map says which classes of --fine-tune to keep: give both")
    trained = None
    if args.fine_tune is not None and (expected is None or os.path.exists(args.fine_tune)):
        trained = transfer.read_model(args.fine_tune)
    if trained is not None:
        recipe = _with_head_of(recipe, trained)
    elif expected is not None:
        recipe = recipe.with_head_batch_norm(expected.detector.head_batch_norm)
    if not args.no_run:
        data_check.require(recipe.dataset, published.dataset, training=True)
    gpus = _gpus(recipe, args)
    recipe = _on_devices(recipe, gpus, args)
    places = places_of(recipe, args)
    snapshot = _snapshot(recipe, places, args)
    if snapshot is not None:
        logger.info("resuming from %s", snapshot)
        if args.snapshot is None and not os.path.exists(BUILT_CAFFE):
            snapshot = AUTO  # what is newest is seen when the job starts
    messages = make_nets(recipe, places.output_dir)
    messages["solver"] = make_solver(recipe, places, gpus)
    weights, start = _weights(recipe, places, trained, args)
    shell = shell_job(
        solver=os.path.join(places.model_dir, "solver.prototxt"),
        log=_log(recipe, places),
        gpus=gpus,
        snapshot=snapshot,
        weights=weights,
        extras=_extra_flags(args),
    )
    return Plan(recipe, places, messages, shell, start)


def plan_scoring(parser, family, args, expected=None):
    """Return the plan of a scoring.

    Args:
        parser: a scoring parser.
        family: see `caffe.models.script.train`.
        args: the flags.
        expected: the recipe of a training whose last snapshot stands for a model that is missing;
            the plan can then be looked at but not carried out.

    Raises:
        ValueError: flags contradict each other, or a file is missing.
    """
    published = family.recipe(args.data, args.variant).dataset
    recipe = chosen(parser, family, args)
    gpus = _gpus(recipe, args)
    recipe = _on_devices(recipe, gpus, args)
    postfix = "_score"
    if args.test_dev:
        recipe, published = _on_test_dev(recipe, args), COCO_TEST_DEV
        postfix += "_test-dev"
    looks = _looks(args)
    postfix += "_multi" if looks else ""
    # The solver opens its training data even when it does not train; the test data will do.
    dataset = recipe.dataset._replace(train_data=recipe.dataset.test_data)
    recipe = recipe._replace(dataset=dataset)
    places = places_of(recipe, args, postfix)
    if not args.no_run:
        data_check.require(dataset, published, training=False)
    weights = _existing(args.weights, "--weights")
    if weights is None:
        weights = newest_snapshot(places.snapshot_prefix(recipe), ".caffemodel")
    if weights is None and expected is not None:
        weights = expected.last_snapshot(places)
        recipe = recipe.with_head_batch_norm(expected.detector.head_batch_norm)
    if weights is None:
        raise ValueError(
            (
                "nothing to score: no {}_iter_N.caffemodel; "
                "train first, or give a model with --weights"
            ).format(places.snapshot_prefix(recipe))
        )
    logger.info("scoring %s", weights)
    if weights.endswith(".caffemodel") and os.path.exists(weights):  # not HDF5
        recipe = _with_head_of(recipe, transfer.read_model(weights))
    gpus = gpus[:1]  # tests run on the first device only
    messages = make_nets(recipe, places.output_dir)
    messages["solver"] = make_scoring_solver(recipe, places, gpus)
    given = {"log": _log(recipe, places), "gpus": gpus, "weights": weights}
    if looks:
        model = os.path.join(places.model_dir, "test.prototxt")
        shell = scoring_job(model, extras=looks, **given)
    else:
        shell = shell_job(os.path.join(places.model_dir, "solver.prototxt"), **given)
    return Plan(recipe, places, messages, shell)


def plan_timing(parser, family, args):
    """Return the plan of a timing; see `plan_scoring`."""
    published = family.recipe(args.data, args.variant).dataset
    recipe = chosen(parser, family, args)
    gpus = _gpus(recipe, args)[:1]
    places = places_of(recipe, args, "_speed")
    if not args.no_run:
        data_check.require(recipe.dataset, published, training=False)
    weights = _existing(args.weights, "--weights")
    if weights is None:
        weights = newest_snapshot(places.snapshot_prefix(recipe), ".caffemodel")
    if weights is None:
        logger.warning("no trained weights: how long a detector takes depends on what it finds")
    elif weights.endswith(".caffemodel"):
        recipe = _with_head_of(recipe, transfer.read_model(weights))
    net = timing_net(recipe.detector, recipe.dataset, recipe.schedule.test_batch_size)
    net.name = "{}_speed".format(recipe.model_name)
    model = os.path.join(places.model_dir, "test.prototxt")
    shell = timing_job(model, _log(recipe, places), gpus, weights, args.passes)
    return Plan(recipe, places, {"test": net}, shell)


def _with_head_of(recipe, trained):
    """Return the recipe with batch norm in its head if, and only if, a trained model has it there.

    ScratchDet's heads have it for COCO but not for VOC, except for models that began with COCO.
    """
    head = transfer.has_head_batch_norm(trained)
    return recipe if head is None else recipe.with_head_batch_norm(head)


def _on_test_dev(recipe, args):
    """Return the recipe with COCO's test set, whose results are named as the server wants."""
    if args.data != "coco":
        raise ValueError("--test-dev is a test set of COCO: it goes with --data coco")
    dataset = COCO_TEST_DEV._replace(
        output_prefix=COCO_TEST_DEV.output_prefix.format(name=recipe.name)
    )
    size = common_divisor(dataset.num_test_image, recipe.schedule.test_batch_size)
    schedule = recipe.schedule._replace(test_batch_size=size)
    return recipe._replace(dataset=dataset, schedule=schedule)


def _looks(args):
    """Return the flags of `caffe test` that look at each picture several times."""
    flags = ["--scales={}".format(args.scales)] if args.scales is not None else []
    flags += ["--flip"] if args.flip else []
    if args.merge is not None:
        if not flags:
            raise ValueError("--merge says what becomes of several looks: give --scales or --flip")
        flags.append("--merge={}".format(args.merge))
    if flags and os.path.exists(BUILT_CAFFE):
        raise ValueError("--scales and --flip need this project's `caffe`, not a build")
    return tuple(flags)


def _log(recipe, places):
    return os.path.join(places.job_dir, "{}.log".format(recipe.model_name))


def _on_devices(recipe, gpus, args):
    """Return the recipe for these devices, named after what they change in the training.

    The published images per iteration are kept where passes, or smaller ones, allow it.
    """
    schedule = recipe.schedule
    num_devices = max(1, len(gpus))
    wanted = schedule.images_per_iteration(schedule.num_devices)
    if args.accum_batch_size is not None:
        wanted = schedule.accum_batch_size
    fitted = schedule.on_devices(num_devices, wanted)
    if fitted.batch_size == schedule.batch_size:
        schedule = fitted
    elif args.batch_size is None:
        logger.warning(
            "%d images per device and pass, not %d: %d devices share %d per iteration",
            fitted.batch_size,
            schedule.batch_size,
            num_devices,
            wanted,
        )
        return marked(recipe._replace(schedule=fitted), ["batch{}".format(fitted.batch_size)])
    total = schedule.images_per_iteration(num_devices)
    recipe = recipe._replace(schedule=schedule)
    if total == wanted:
        return recipe
    logger.warning(
        "%d images per iteration, not %d: %d device(s) take %d each in a pass; see --batch-size",
        total,
        wanted,
        num_devices,
        schedule.batch_size,
    )
    return marked(recipe, ["total{}".format(total)])


def _gpus(recipe, args):
    published = recipe.schedule.num_devices
    if args.no_run:
        # Files may be meant for another machine: only what is asked for counts.
        if args.gpu is None:
            return list(range(published))
        if args.gpu != "all":
            return choose_gpus(args.gpu, num_available=sys.maxsize)
    gpus = choose_gpus(args.gpu, count_gpus(), most=published)
    if not gpus and args.gpu is None:
        logger.info("no GPU: running on the CPU")
    return gpus


def _snapshot(recipe, places, args):
    if args.no_resume:
        return None
    if args.snapshot is not None:
        return _existing(args.snapshot, "--snapshot")
    newest = newest_snapshot(places.snapshot_prefix(recipe), ".solverstate")
    for flag in ("weights", "fine_tune"):
        given = getattr(args, flag)
        if newest is not None and given is not None:
            flag = flag.replace("_", "-")
            logger.info("--%s %s not used: there is a snapshot (see --no-resume)", flag, given)
    return newest


def _extra_flags(args):
    """Return what the flags ask of `caffe train` that the original does not know."""
    flags = []
    if args.workers is not None:
        flags.append("--workers={}".format(args.workers))
    for flag in ("checkpoint", "sync_bn", "sync_loss"):
        if getattr(args, flag):
            flags.append("--{}".format(flag.replace("_", "-")))
    if args.fast_augment:
        flags.append("--skip_jpeg_roundtrip")
    if args.weights not in (None, "none"):
        flags.append("--skip_mismatched")
    return tuple(flags)


def _weights(recipe, places, trained, args):
    """Return the model that a training without snapshot starts from, and what of it to write."""
    if args.fine_tune is not None:
        start = os.path.join(places.model_dir, "start.caffemodel")
        model = None if trained is None else _for_classes(recipe, trained, args)
        if trained is not None and model is trained:
            return args.fine_tune, None
        return start, None if model is None else (start, model)
    if args.weights not in (None, "none"):
        return _existing(args.weights, "--weights"), None
    if recipe.weights is None or args.no_run or os.path.exists(recipe.weights):
        return recipe.weights, None
    raise ValueError(
        (
            "the training starts from {}, which is missing; name another place with "
            "--weights FILE, or learn from scratch with --weights none"
        ).format(recipe.weights)
    )


def _for_classes(recipe, trained, args):
    """Return the model to fine-tune, another one if it has other classes than the recipe."""
    path = args.fine_tune
    num_classes = recipe.dataset.num_classes
    old = transfer.count_classes_of(trained)
    class_map = args.class_map
    if class_map is None and args.label_map is None and (old, num_classes) == (COCO_CLASSES, 21):
        class_map = COCO_TO_VOC
    if class_map is not None:
        labels = transfer.read_class_map(class_map, num_classes)
        logger.info("%s: kept %d of %d classes", path, num_classes, old)
        return transfer.with_classes(trained, labels)
    if old == num_classes:
        return trained
    logger.info("%s: %d classes, not %d: class predictions start anew", path, old, num_classes)
    logger.info("not taken over: %s", ", ".join(transfer.class_layers(trained)))
    return transfer.without_classes(trained)


def _existing(path, flag):
    if path is not None and not os.path.exists(path):
        raise ValueError("{}: there is no file {}".format(flag, path))
    return path
