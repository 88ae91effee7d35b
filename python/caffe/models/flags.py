"""Flags of the example scripts, and what they change in a recipe.

A flag that is not given changes nothing.
"""

import argparse
import math
import os
from typing import Any

from caffe.models.datasets import Dataset, count_classes, count_lines
from caffe.models.recipe import Family, Places, Recipe, default_places
from caffe.models.ssd import NORMALIZERS

# field of the data set: flag
DATASET_FLAGS = {
    "name": "dataset_name",
    "train_data": "train_data",
    "test_data": "test_data",
    "label_map": "label_map",
    "name_size_file": "name_size_file",
    "num_test_image": "num_test_image",
    "num_classes": "num_classes",
}
# field of the schedule: flag
SCHEDULE_FLAGS = {
    "batch_size": "batch_size",
    "accum_batch_size": "accum_batch_size",
    "stepvalues": "step_values",
    "test_interval": "test_interval",
    "snapshot": "snapshot_interval",
    "base_lr": "base_lr",
    "random_seed": "random_seed",
    "debug_info": "debug_info",
}
# field of the detector: flag
DETECTOR_FLAGS = {"statistics_kept": "statistics_kept", "normalizer": "normalizer"}


def make_parser(
    family: Family, data: str, variant: str, script: str, description: "str | None", example: str
) -> argparse.ArgumentParser:
    """Return a parser of the flags that training and scoring share.

    Args:
        family: what there is to choose from.
        data: which data set where the flags name none.
        variant: which net where the flags name none.
        script: path of the script.
        description: its help text.
        example: flags of a typical call.
    """
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"example: python {os.path.relpath(script)} {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--variant",
        choices=family.variants,
        default=variant,
        metavar="NAME",
        help=f"which net: {', '.join(family.variants)} (%(default)s)",
    )
    add(
        "--data",
        choices=list(family.trainings),
        default=data,
        metavar="NAME",
        help=f"which data set: {', '.join(family.trainings)} (%(default)s)",
    )
    add(
        "--normalizer",
        choices=NORMALIZERS,
        help="what follows convolutions: batch norm (as published), or group norm in its place",
    )
    add("--dataset-name", metavar="NAME", help="of your own data, for folder and file names")
    add("--test-data", metavar="LMDB", help="data base to test on")
    add("--name-size-file", metavar="FILE", help="`name height width` of each test image")
    add("--num-test-image", type=_positive, metavar="N", help="(lines of --name-size-file)")
    add("--label-map", metavar="FILE", help="label map of the data bases")
    add("--num-classes", type=_positive, metavar="N", help="with background (from --label-map)")
    add("--gpu", metavar="IDS", help="ids like 0,1,2, `all`, or `none` for the CPU")
    add("--model-dir", metavar="DIR", help="for prototxt files (models/NAME/DATA/JOB)")
    add("--job-dir", metavar="DIR", help="for shell job and log (jobs/NAME/DATA/JOB)")
    add("--output-dir", metavar="DIR", help="for detections on the test set (below ~/data)")
    add("--no-run", action="store_true", help="write the files only, for as many GPUs as published")
    return parser


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that only training has."""
    _add_schedule_flags(parser)
    add = parser.add_argument
    add("--train-data", metavar="LMDB", help="data base to train on")
    add(
        "--statistics-kept",
        type=float,
        metavar="F",
        help="share of BatchNorm's statistics that a pass keeps (0.999); 0.99 for short trainings",
    )
    add("--workers", type=int, metavar="N", help="processes that prepare data")
    add("--fast-augment", action="store_true", help="no passes through JPEG: faster, other numbers")
    add("--checkpoint", action="store_true", help="train in a third less memory, a third slower")
    weights = parser.add_mutually_exclusive_group()
    weights.add_argument(
        "--weights", metavar="FILE", help="model to start from where there is no snapshot; or none"
    )
    weights.add_argument(
        "--fine-tune",
        metavar="FILE",
        help="detector of other data to start from, at a learning rate of 0.001",
    )
    add(
        "--class-map",
        metavar="FILE",
        help="with --fine-tune: `old,new,name` of each class to keep (COCO's for VOC; else none)",
    )
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--snapshot", metavar="FILE", help="resume from it (the newest there is)")
    start.add_argument("--no-resume", action="store_true", help="start anew despite snapshots")


def _add_schedule_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
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
    add("--random-seed", type=int, metavar="N", help="makes a training repeatable")
    add(
        "--no-debug-info",
        dest="debug_info",
        action="store_const",
        const=False,
        help="do not log the magnitudes of all blobs, as ScratchDet's script for VOC does",
    )


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def customised(recipe: Recipe, args: argparse.Namespace) -> Recipe:
    """Return a recipe with the data set, schedule and net that the flags ask for.

    Raises:
        ValueError: too few classes, or a label map or list that cannot be read.
    """
    dataset = _dataset(recipe.dataset, args)
    if dataset.num_classes < 2:
        raise ValueError(f"--num-classes counts the background: at least 2, not {args.num_classes}")
    schedule = recipe.schedule
    if getattr(args, "max_iter", None) is not None:
        schedule = schedule.stretched(args.max_iter)
    schedule = schedule._replace(
        # The reader wraps at the end of the data base: passes must end there with it.
        test_batch_size=math.gcd(dataset.num_test_image, schedule.test_batch_size),
        **_given(args, SCHEDULE_FLAGS),
    )
    detector = recipe.detector._replace(**_given(args, DETECTOR_FLAGS))
    # Its weights fit no net with batch norm: folders of its own.
    job = f"{recipe.job}_group_norm" if detector.normalizer == "group" else recipe.job
    return recipe._replace(job=job, detector=detector, dataset=dataset, schedule=schedule)


def _dataset(dataset: Dataset, args: argparse.Namespace) -> Dataset:
    given = _given(args, DATASET_FLAGS)
    if args.label_map is not None and args.num_classes is None:
        given["num_classes"] = count_classes(args.label_map)
    if args.name_size_file is not None and args.num_test_image is None:
        given["num_test_image"] = count_lines(args.name_size_file)
    return dataset._replace(**given)


def places_of(recipe: Recipe, args: argparse.Namespace, postfix: str = "") -> Places:
    """Return where files go; `postfix` sets scoring apart from training."""
    given = _given(args, {"job_dir": "job_dir", "output_dir": "output_dir"})
    if args.model_dir is not None:
        given["snapshot_dir"] = args.model_dir
        given["model_dir"] = args.model_dir + postfix
    return default_places(recipe, postfix)._replace(**given)


def _given(args: argparse.Namespace, flags: "dict[str, str]") -> "dict[str, Any]":
    values = {field: getattr(args, flag, None) for field, flag in flags.items()}
    return {field: value for field, value in values.items() if value is not None}
