"""Flags of the example scripts, and what they change in a recipe.

A flag that is not given changes nothing. One that makes another training of a recipe also has a
mark, which goes into the names of folders and files: no two trainings share a folder by accident,
and what changes nothing keeps the folder of the original.
"""

from caffe.models.datasets import count_classes, count_lines
from caffe.models.flag_parser import ScriptParser, marked, positive
from caffe.models.normalisers import common_divisor
from caffe.models.recipe import default_places
from caffe.models.ssd import NORMALIZERS

FINE_TUNING_LR = 0.001
# Flags that set no field of the recipe and yet make another training.
ALWAYS_MARKED = ("fast_augment", "fine_tune", "class_map", "sync_bn", "sync_loss")


def make_parser(family, data, variant, script, description, example):
    """Return a parser of the flags that training and scoring share.

    Args:
        family: what there is to choose from.
        data: which data set where the flags name none.
        variant: which net where the flags name none.
        script: path of the script.
        description: its help text.
        example: flags of a typical call.
    """
    parser = ScriptParser(script, example, description=description)
    add = parser.add_flag
    add(
        "--variant",
        None,  # has names of its own
        choices=family.variants,
        default=variant,
        metavar="NAME",
        help="which net: {} (%(default)s)".format(", ".join(family.variants)),
    )
    add(
        "--data",
        None,  # has folders of its own
        choices=list(family.trainings),
        default=data,
        metavar="NAME",
        help="which data set: {} (%(default)s)".format(", ".join(family.trainings)),
    )
    _add_net_flags(add)
    _add_dataset_flags(add)
    _add_schedule_flags(add)
    _add_place_flags(add)
    return parser


def _add_net_flags(add):
    add(
        "--normalizer",
        "{}_norm",
        "detector.normalizer",
        choices=NORMALIZERS,
        help="what follows convolutions: batch norm (as published), or group norm in its place",
    )
    add(
        "--statistics-kept",
        "kept{}",
        "detector.statistics_kept",
        type=float,
        metavar="F",
        help="share of BatchNorm's statistics that a pass keeps (0.999); 0.99 for short trainings",
    )


def _add_dataset_flags(add):
    add(
        "--dataset-name",
        None,  # has folders of its own
        "dataset.name",
        metavar="NAME",
        help="of your own data, for folder and file names",
    )
    add(
        "--train-data",
        "train_{}",
        "dataset.train_data",
        metavar="LMDB",
        help="database to train on",
    )
    add("--test-data", None, "dataset.test_data", metavar="LMDB", help="database to test on")
    add(
        "--name-size-file",
        None,
        "dataset.name_size_file",
        metavar="FILE",
        help="`name height width` of each test image",
    )
    add(
        "--num-test-image",
        None,
        "dataset.num_test_image",
        type=positive,
        metavar="N",
        help="(lines of --name-size-file)",
    )
    add("--label-map", None, "dataset.label_map", metavar="FILE", help="label map of the databases")
    add(
        "--num-classes",
        "classes{}",
        "dataset.num_classes",
        type=positive,
        metavar="N",
        help="with background (from --label-map)",
    )


def _add_schedule_flags(add):
    add(
        "--batch-size",
        "batch{}",
        "schedule.batch_size",
        type=positive,
        metavar="N",
        help="images per device and pass",
    )
    add(
        "--accum-batch-size",
        "accum{}",
        "schedule.accum_batch_size",
        type=positive,
        metavar="N",
        help="images per iteration, accumulated over passes",
    )
    add(
        "--max-iter",
        "iterations{}",
        type=positive,
        metavar="N",
        help="stretches or shrinks the whole schedule",
    )
    add(
        "--step-values",
        "steps{}",
        "schedule.stepvalues",
        type=positive,
        nargs="+",
        metavar="N",
        help="iterations at which the learning rate becomes a tenth",
    )
    add(
        "--base-lr",
        "lr{}",
        "schedule.base_lr",
        type=float,
        metavar="LR",
        help="learning rate at the start",
    )
    add(
        "--random-seed",
        "seed{}",
        "schedule.random_seed",
        type=int,
        metavar="N",
        help="makes a training repeatable",
    )


def _add_place_flags(add):
    add("--gpu", None, metavar="IDS", help="ids like 0,1,2, `all`, or `none` for the CPU")
    add("--model-dir", None, metavar="DIR", help="for prototxt files (models/NAME/DATA/JOB)")
    add("--job-dir", None, metavar="DIR", help="for shell job and log (jobs/NAME/DATA/JOB)")
    add(
        "--output-dir",
        None,
        metavar="DIR",
        help="for detections on the test set (below ~/data)",
    )
    add(
        "--no-run",
        None,
        action="store_true",
        help="write the files only, for as many GPUs as published",
    )


def add_training_flags(parser):
    """Add the flags that only training has."""
    add = parser.add_flag
    add(
        "--test-interval",
        None,
        "schedule.test_interval",
        type=positive,
        metavar="N",
        help="iterations between tests",
    )
    add(
        "--snapshot-interval",
        None,
        "schedule.snapshot",
        type=positive,
        metavar="N",
        help="iterations between snapshots",
    )
    add(
        "--no-debug-info",
        None,
        "schedule.debug_info",
        dest="debug_info",
        action="store_const",
        const=False,
        help="do not log the magnitudes of all blobs, as ScratchDet's script for VOC does",
    )
    add("--workers", None, type=int, metavar="N", help="processes that prepare data")
    add(
        "--fast-augment",
        "fast_augment",
        action="store_true",
        help="no passes through JPEG: faster, other numbers",
    )
    add(
        "--sync-bn",
        "sync_bn",
        action="store_true",
        help="batch-normalise by the statistics of all devices together",
    )
    add(
        "--sync-loss",
        "sync_loss",
        action="store_true",
        help="divide losses by the matches on all devices, not each by its own",
    )
    add(
        "--checkpoint",
        None,
        action="store_true",
        help="train in a third less memory, a third slower",
    )
    _add_start_flags(parser, add)


def add_scoring_flags(parser):
    """Add the flags that only scoring has; they change no training."""
    add = parser.add_flag
    add("--weights", None, metavar="FILE", help="model to score (the newest snapshot)")
    add(
        "--fine-tune",
        "fine_tuned_{}",
        metavar="FILE",
        help="score what was trained with this flag; the file itself is not read",
    )
    add(
        "--test-dev",
        None,
        action="store_true",
        help="take COCO's test set, whose results the server scores",
    )
    add(
        "--scales",
        None,
        metavar="S,...",
        help="look at each picture at several sizes, as `caffe test -scales` does",
    )
    add("--flip", None, action="store_true", help="look at the mirrored pictures, too")
    add("--merge", None, choices=("vote", "nms"), help="how several looks become one")


def add_timing_flags(parser):
    """Add the flags that only timing has."""
    add = parser.add_flag
    add("--weights", None, metavar="FILE", help="model to time (the newest snapshot)")
    add("--passes", None, type=positive, default=50, metavar="N", help="to time (%(default)s)")
    add(
        "--test-batch-size",
        None,
        "schedule.test_batch_size",
        type=positive,
        metavar="N",
        help="images per pass",
    )


def _add_start_flags(parser, add):
    weights = parser.add_mutually_exclusive_group()
    add(
        "--weights",
        "from_{}",
        "weights",
        to=weights,
        metavar="FILE",
        help="model to start from where there is no snapshot; or none",
    )
    add(
        "--fine-tune",
        "fine_tuned_{}",
        to=weights,
        metavar="FILE",
        help="detector of other data to start from, at a learning rate of 0.001",
    )
    add(
        "--class-map",
        "map_{}",
        metavar="FILE",
        help="with --fine-tune: `old,new,name` of each class to keep (COCO's for VOC; else none)",
    )
    start = parser.add_mutually_exclusive_group()
    add("--snapshot", None, to=start, metavar="FILE", help="resume from it (the newest there is)")
    add(
        "--no-resume",
        None,
        to=start,
        action="store_true",
        help="start anew despite snapshots",
    )


def chosen(parser, family, args):
    """Return the recipe that flags ask for, its job named after what makes it another one.

    Args:
        parser: that read the flags.
        family: see `make_parser`.
        args: the flags.

    Raises:
        ValueError: too few classes, or a label map or list that cannot be read.
    """
    recipe = family.recipe(args.data, args.variant)
    if getattr(args, "fine_tune", None) is not None:
        recipe = recipe._replace(schedule=recipe.schedule._replace(base_lr=FINE_TUNING_LR))
    values = _values(args)
    if values.get("weights") == "none" and recipe.weights is None:
        values["weights"] = None  # which it says anyway
    marks = []
    for flag in parser.flags:
        value = values.get(flag.name)
        if value is None or (value is False and flag.field is None):
            continue
        before = recipe
        recipe = flag.apply(recipe, value)
        if flag.name == "max_iter":
            recipe = recipe._replace(schedule=recipe.schedule.stretched(value))
        if flag.mark is not None and (flag.name in ALWAYS_MARKED or recipe != before):
            marks.append(flag.label(value))
    if recipe.dataset.num_classes < 2:
        raise ValueError(
            "--num-classes counts the background: at least 2, not {}".format(args.num_classes)
        )
    if recipe.weights == "none":
        recipe = recipe._replace(weights=None)
    # The reader wraps at the end of the database: passes must end there with it.
    size = common_divisor(recipe.dataset.num_test_image, recipe.schedule.test_batch_size)
    recipe = recipe._replace(schedule=recipe.schedule._replace(test_batch_size=size))
    return marked(recipe, marks)


def _values(args):
    """Return what was given, and what follows from it."""
    values = dict(vars(args))
    if values.get("step_values") is not None:
        values["step_values"] = tuple(values["step_values"])
    if args.label_map is not None and args.num_classes is None:
        values["num_classes"] = count_classes(args.label_map)
    if args.name_size_file is not None and args.num_test_image is None:
        values["num_test_image"] = count_lines(args.name_size_file)
    return values


def places_of(recipe, args, postfix=""):
    """Return where files go; `postfix` sets scoring apart from training."""
    given = {name: getattr(args, name) for name in ("job_dir", "output_dir")}
    given = {name: folder for name, folder in given.items() if folder is not None}
    if args.model_dir is not None:
        given["snapshot_dir"] = args.model_dir
        given["model_dir"] = args.model_dir + postfix
    return default_places(recipe, postfix)._replace(**given)
