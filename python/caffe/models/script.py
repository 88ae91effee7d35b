"""The command line of the example scripts: train a published model, or score it.

Without flags a script does what its original did: the same files in the same places, resumed from
the newest snapshot.
"""

import argparse
import logging
import math
import os
import sys
from collections.abc import Callable
from typing import Any

from caffe.models import data_check
from caffe.models.datasets import Dataset, count_classes, count_lines
from caffe.models.devices import choose_gpus, count_gpus
from caffe.models.job import newest_snapshot, run_job, shell_job, write_job
from caffe.models.recipe import (
    Places,
    Recipe,
    default_places,
    make_nets,
    make_scoring_solver,
    make_solver,
)

logger = logging.getLogger("caffe.models")


def train(
    make_recipe: "Callable[[str], Recipe]",
    variants: "tuple[str, ...]",
    script: str,
    description: "str | None",
    argv: "list[str] | None" = None,
) -> int:
    """Run a training script and return its exit status: 0, 1 for failure, 2 for usage.

    Args:
        make_recipe: makes the recipe of a variant.
        variants: names of the variants, the default first.
        script: path of the script.
        description: its help text.
        argv: arguments instead of the program's.
    """
    parser = _parser(script, description, "--train-data my_train_lmdb --gpu 0")
    _add_common(parser, variants)
    _add_training(parser)
    return _guarded(lambda: _train(make_recipe, script, parser.parse_args(argv)))


def score(
    make_recipe: "Callable[[str], Recipe]",
    variants: "tuple[str, ...]",
    script: str,
    description: "str | None",
    argv: "list[str] | None" = None,
) -> int:
    """Run a scoring script; see `train`."""
    parser = _parser(script, description, "--weights DSOD300_VOC0712.caffemodel --gpu 0")
    _add_common(parser, variants)
    parser.add_argument("--weights", metavar="FILE", help="model to score (the newest snapshot)")
    return _guarded(lambda: _score(make_recipe, script, parser.parse_args(argv)))


def _guarded(run: "Callable[[], int]") -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        return run()
    except (ValueError, OSError) as error:
        logger.error("error: %s", error)
        return 1


def _train(make_recipe: "Callable[[str], Recipe]", script: str, args: argparse.Namespace) -> int:
    published = make_recipe(args.variant)
    recipe = _customised(published, args)
    places = _places(recipe, args, "")
    if not args.no_run:
        data_check.require(recipe.dataset, published.dataset, training=True)
    gpus = _gpus(recipe, args)
    snapshot = _snapshot(recipe, places, args)
    if snapshot is not None:
        logger.info("resuming from %s", snapshot)
    messages = make_nets(recipe, places.output_dir)
    messages["solver"] = make_solver(recipe, places, gpus)
    shell = shell_job(
        solver=os.path.join(places.model_dir, "solver.prototxt"),
        log=os.path.join(places.job_dir, f"{recipe.model_name}.log"),
        gpus=gpus,
        snapshot=snapshot,
        weights=_weights(recipe, args),
        workers=args.workers,
    )
    return _finish(places, recipe, messages, shell, script, args)


def _score(make_recipe: "Callable[[str], Recipe]", script: str, args: argparse.Namespace) -> int:
    published = make_recipe(args.variant)
    recipe = _customised(published, args)
    # The solver opens its training data even when it does not train; the test data will do.
    dataset = recipe.dataset._replace(train_data=recipe.dataset.test_data)
    recipe = recipe._replace(dataset=dataset)
    places = _places(recipe, args, "_score")
    if not args.no_run:
        data_check.require(dataset, published.dataset, training=False)
    weights = _existing(args.weights, "--weights")
    if weights is None:
        weights = newest_snapshot(places.snapshot_prefix(recipe), ".caffemodel")
    if weights is None:
        raise ValueError(
            f"nothing to score: no {places.snapshot_prefix(recipe)}_iter_N.caffemodel; "
            "train first, or give a model with --weights"
        )
    logger.info("scoring %s", weights)
    gpus = _gpus(recipe, args)[:1]  # tests run on the first device only
    messages = make_nets(recipe, places.output_dir)
    messages["solver"] = make_scoring_solver(recipe, places, gpus)
    shell = shell_job(
        solver=os.path.join(places.model_dir, "solver.prototxt"),
        log=os.path.join(places.job_dir, f"{recipe.model_name}.log"),
        gpus=gpus,
        weights=weights,
    )
    return _finish(places, recipe, messages, shell, script, args)


def _finish(
    places: Places,
    recipe: Recipe,
    messages: "dict[str, Any]",
    shell: str,
    script: str,
    args: argparse.Namespace,
) -> int:
    path = write_job(places, recipe.model_name, messages, shell, script)
    logger.info("wrote %s/{train,test,deploy,solver}.prototxt and %s", places.model_dir, path)
    return 0 if args.no_run else run_job(path)


def _parser(script: str, description: "str | None", example: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description,
        epilog=f"example: python {os.path.relpath(script)} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_common(parser: argparse.ArgumentParser, variants: "tuple[str, ...]") -> None:
    add = parser.add_argument
    add("--variant", choices=variants, default=variants[0], help="size of the net (%(default)s)")
    add("--dataset-name", metavar="NAME", help="of your own data, for folder and file names")
    add("--test-data", metavar="LMDB", help="data base to test on")
    add("--name-size-file", metavar="FILE", help="`name height width` of each test image")
    add("--num-test-image", type=_positive, metavar="N", help="(lines of --name-size-file)")
    add("--label-map", metavar="FILE", help="label map of the data bases")
    add("--num-classes", type=_positive, metavar="N", help="with background (from --label-map)")
    add(
        "--gpu",
        metavar="IDS",
        help="ids like 0,1,2, `all`, or `none` for the CPU",
    )
    add("--model-dir", metavar="DIR", help="for prototxt files (models/NAME/DATA/JOB)")
    add("--job-dir", metavar="DIR", help="for shell job and log (jobs/NAME/DATA/JOB)")
    add("--output-dir", metavar="DIR", help="for detections on the test set (below ~/data)")
    add("--no-run", action="store_true", help="write the files only, for as many GPUs as published")


def _add_training(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--train-data", metavar="LMDB", help="data base to train on")
    add("--batch-size", type=_positive, metavar="N", help="images per device and pass")
    add(
        "--accum-batch-size",
        type=_positive,
        metavar="N",
        help="images per iteration, accumulated over passes",
    )
    add("--max-iter", type=_positive, metavar="N", help="stretches or shrinks the whole schedule")
    add(
        "--step-values",
        type=_positive,
        nargs="+",
        metavar="N",
        help="iterations at which the learning rate becomes a tenth",
    )
    add("--test-interval", type=_positive, metavar="N", help="iterations between tests")
    add("--snapshot-interval", type=_positive, metavar="N", help="iterations between snapshots")
    add("--base-lr", type=float, metavar="LR", help="learning rate at the start")
    add(
        "--statistics-kept",
        type=float,
        metavar="F",
        help="share of BatchNorm's statistics that a pass keeps (0.999); 0.99 for short trainings",
    )
    add("--random-seed", type=int, metavar="N", help="makes a training repeatable")
    add("--workers", type=int, metavar="N", help="processes that prepare data")
    add("--weights", metavar="FILE", help="model to start from, or `none`")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--snapshot", metavar="FILE", help="resume from it (the newest there is)")
    start.add_argument("--no-resume", action="store_true", help="start anew despite snapshots")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _customised(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    dataset = _dataset(recipe.dataset, args)
    if dataset.num_classes < 2:
        raise ValueError(f"--num-classes counts the background: at least 2, not {args.num_classes}")
    schedule = recipe.schedule
    if getattr(args, "max_iter", None) is not None:
        schedule = schedule.stretched(args.max_iter)
    given = {
        "batch_size": getattr(args, "batch_size", None),
        "accum_batch_size": getattr(args, "accum_batch_size", None),
        "stepvalues": getattr(args, "step_values", None),
        "test_interval": getattr(args, "test_interval", None),
        "snapshot": getattr(args, "snapshot_interval", None),
        "base_lr": getattr(args, "base_lr", None),
        "random_seed": getattr(args, "random_seed", None),
    }
    # The reader wraps at the end of the data base: passes must end there with it.
    given["test_batch_size"] = math.gcd(dataset.num_test_image, schedule.test_batch_size)
    schedule = schedule._replace(**_present(given))
    detector = recipe.detector
    if getattr(args, "statistics_kept", None) is not None:
        detector = detector._replace(statistics_kept=args.statistics_kept)
    return recipe._replace(detector=detector, dataset=dataset, schedule=schedule)


def _dataset(dataset: Dataset, args: argparse.Namespace) -> Dataset:
    given = {
        "name": args.dataset_name,
        "train_data": getattr(args, "train_data", None),
        "test_data": args.test_data,
        "label_map": args.label_map,
        "name_size_file": args.name_size_file,
        "num_test_image": args.num_test_image,
        "num_classes": args.num_classes,
    }
    if args.label_map is not None and args.num_classes is None:
        given["num_classes"] = count_classes(args.label_map)
    if args.name_size_file is not None and args.num_test_image is None:
        given["num_test_image"] = count_lines(args.name_size_file)
    return dataset._replace(**_present(given))


def _present(given: "dict[str, Any]") -> "dict[str, Any]":
    return {key: value for key, value in given.items() if value is not None}


def _places(recipe: Recipe, args: argparse.Namespace, postfix: str) -> Places:
    places = default_places(recipe, postfix)
    given = {"job_dir": args.job_dir, "output_dir": args.output_dir}
    if args.model_dir is not None:
        given["snapshot_dir"] = args.model_dir
        given["model_dir"] = args.model_dir + postfix
    return places._replace(**_present(given))


def _gpus(recipe: Recipe, args: argparse.Namespace) -> "list[int]":
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


def _snapshot(recipe: Recipe, places: Places, args: argparse.Namespace) -> "str | None":
    if args.no_resume:
        return None
    if args.snapshot is not None:
        return _existing(args.snapshot, "--snapshot")
    newest = newest_snapshot(places.snapshot_prefix(recipe), ".solverstate")
    if newest is not None and args.weights is not None:
        logger.info("--weights %s not used: there is a snapshot (see --no-resume)", args.weights)
    return newest


def _weights(recipe: Recipe, args: argparse.Namespace) -> "str | None":
    if args.weights == "none":
        return None
    if args.weights is not None:
        return _existing(args.weights, "--weights")
    if recipe.weights is None or args.no_run or os.path.exists(recipe.weights):
        return recipe.weights
    raise ValueError(
        f"the training starts from {recipe.weights}, which is missing; name another place with "
        "--weights FILE, or learn from scratch with --weights none"
    )


def _existing(path: "str | None", flag: str) -> "str | None":
    if path is not None and not os.path.exists(path):
        raise ValueError(f"{flag}: there is no file {path}")
    return path
