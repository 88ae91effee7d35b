"""The command line of the example scripts: train a published model, or score it.

Without flags a script does what its original did: the same files in the same places, resumed from
the newest snapshot.
"""

import logging
import os
import sys

from caffe.models import data_check, transfer
from caffe.models.devices import choose_gpus, count_gpus
from caffe.models.files import make_folder
from caffe.models.flag_parser import marked
from caffe.models.flags import add_training_flags, chosen, make_parser, places_of
from caffe.models.job import AUTO, BUILT_CAFFE, newest_snapshot, run_job, shell_job, write_job
from caffe.models.recipe import make_nets, make_scoring_solver, make_solver

logger = logging.getLogger("caffe.models")

COCO_CLASSES = 81
COCO_TO_VOC = "data/coco/coco_voc_map.txt"


def train(family, data, script, description, variant=None):
    """Run a training script and return its exit status: 0, 1 for failure, 2 for usage.

    Args:
        family: the detectors to choose from.
        data: name of the data set where the command line has none.
        script: path of the script.
        description: its help text.
        variant: name of the detector where the command line has none; the family's first.
    """
    parser = training_parser(family, data, script, description, variant)
    return _guarded(lambda: _train(parser, family, script, parser.parse_args()))


def training_parser(family, data, script, description=None, variant=None):
    """Return the parser of a training script; see `train`."""
    variant = family.variants[0] if variant is None else variant
    parser = make_parser(family, data, variant, script, description, "--batch-size 8 --gpu 0")
    add_training_flags(parser)
    return parser


def score(family, data, script, description, variant=None):
    """Run a scoring script; see `train`."""
    parser = scoring_parser(family, data, script, description, variant)
    return _guarded(lambda: _score(parser, family, script, parser.parse_args()))


def scoring_parser(family, data, script, description=None, variant=None):
    """Return the parser of a scoring script: flags of a training say which one is scored."""
    variant = family.variants[0] if variant is None else variant
    example = "--weights released.caffemodel --gpu 0"
    parser = make_parser(family, data, variant, script, description, example)
    parser.add_flag("--weights", None, metavar="FILE", help="model to score (the newest snapshot)")
    return parser


def _guarded(run):
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return run()
    except (ValueError, EnvironmentError) as error:
        logger.error("error: %s", error)
        return 1


def _train(parser, family, script, args):
    published = family.recipe(args.data, args.variant)
    recipe = chosen(parser, family, args)
    if args.class_map is not None and args.fine_tune is None:
        raise ValueError("--class-map says which classes of --fine-tune to keep: give both")
    trained = None if args.fine_tune is None else transfer.read_model(args.fine_tune)
    if trained is not None:
        # ScratchDet's heads have batch norm for COCO but not for VOC.
        head = transfer.has_head_batch_norm(trained)
        recipe = recipe._replace(detector=recipe.detector._replace(head_batch_norm=head))
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
    shell = shell_job(
        solver=os.path.join(places.model_dir, "solver.prototxt"),
        log=os.path.join(places.job_dir, "{}.log".format(recipe.model_name)),
        gpus=gpus,
        snapshot=snapshot,
        weights=_weights(recipe, places, trained, args),
        extras=_extra_flags(args),
    )
    return _finish(places, recipe, messages, shell, script, args)


def _score(parser, family, script, args):
    published = family.recipe(args.data, args.variant)
    recipe = chosen(parser, family, args)
    gpus = _gpus(recipe, args)
    recipe = _on_devices(recipe, gpus, args)
    # The solver opens its training data even when it does not train; the test data will do.
    dataset = recipe.dataset._replace(train_data=recipe.dataset.test_data)
    recipe = recipe._replace(dataset=dataset)
    places = places_of(recipe, args, "_score")
    if not args.no_run:
        data_check.require(dataset, published.dataset, training=False)
    weights = _existing(args.weights, "--weights")
    if weights is None:
        weights = newest_snapshot(places.snapshot_prefix(recipe), ".caffemodel")
    if weights is None:
        raise ValueError(
            (
                "nothing to score: no {}_iter_N.caffemodel; "
                "train first, or give a model with --weights"
            ).format(places.snapshot_prefix(recipe))
        )
    logger.info("scoring %s", weights)
    gpus = gpus[:1]  # tests run on the first device only
    messages = make_nets(recipe, places.output_dir)
    messages["solver"] = make_scoring_solver(recipe, places, gpus)
    shell = shell_job(
        solver=os.path.join(places.model_dir, "solver.prototxt"),
        log=os.path.join(places.job_dir, "{}.log".format(recipe.model_name)),
        gpus=gpus,
        weights=weights,
    )
    return _finish(places, recipe, messages, shell, script, args)


def _finish(places, recipe, messages, shell, script, args):
    path = write_job(places, recipe.model_name, messages, shell, script)
    logger.info("wrote %s/{train,test,deploy,solver}.prototxt and %s", places.model_dir, path)
    return 0 if args.no_run else run_job(path)


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
            *(fitted.batch_size, schedule.batch_size, num_devices, wanted)
        )
        return marked(
            recipe._replace(schedule=fitted), ["batch{}".format(fitted.batch_size)]
        )
    total = schedule.images_per_iteration(num_devices)
    recipe = recipe._replace(schedule=schedule)
    if total == wanted:
        return recipe
    logger.warning(
        "%d images per iteration, not %d: %d device(s) take %d each in a pass; see --batch-size",
        *(total, wanted, num_devices, schedule.batch_size)
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
    if args.checkpoint:
        flags.append("--checkpoint")
    if args.fast_augment:
        flags.append("--skip_jpeg_roundtrip")
    if args.weights not in (None, "none"):
        flags.append("--skip_mismatched")
    return tuple(flags)


def _weights(recipe, places, trained, args):
    """Return the model that a training without snapshot starts from."""
    if trained is not None:
        return _start_of_fine_tuning(recipe, places, trained, args)
    if args.weights not in (None, "none"):
        return _existing(args.weights, "--weights")
    if recipe.weights is None or args.no_run or os.path.exists(recipe.weights):
        return recipe.weights
    raise ValueError(
        (
            "the training starts from {}, which is missing; name another place with "
            "--weights FILE, or learn from scratch with --weights none"
        ).format(recipe.weights)
    )


def _start_of_fine_tuning(recipe, places, trained, args):
    """Return the model to fine-tune, rewritten for the classes of the recipe if need be."""
    path = args.fine_tune
    num_classes = recipe.dataset.num_classes
    old = transfer.count_classes_of(trained)
    class_map = args.class_map
    if class_map is None and args.label_map is None and (old, num_classes) == (COCO_CLASSES, 21):
        class_map = COCO_TO_VOC
    if class_map is not None:
        labels = transfer.read_class_map(class_map, num_classes)
        model = transfer.with_classes(trained, labels)
        logger.info("%s: kept %d of %d classes", path, num_classes, old)
    elif old != num_classes:
        model = transfer.without_classes(trained)
        logger.info("%s: %d classes, not %d: class predictions start anew", path, old, num_classes)
        logger.info("not taken over: %s", ", ".join(transfer.class_layers(trained)))
    else:
        return path
    make_folder(places.model_dir)
    start = os.path.join(places.model_dir, "start.caffemodel")
    transfer.write_model(start, model)
    return start


def _existing(path, flag):
    if path is not None and not os.path.exists(path):
        raise ValueError("{}: there is no file {}".format(flag, path))
    return path
