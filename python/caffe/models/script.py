"""The command line of the example scripts: train a published model, or score it.

Without flags a script does what its original did: the same files in the same places, resumed from
the newest snapshot.
"""

import logging
import sys

from caffe.models.flags import (
    add_scoring_flags,
    add_timing_flags,
    add_training_flags,
    make_parser,
)
from caffe.models.plans import plan_scoring, plan_timing, plan_training

logger = logging.getLogger("caffe.models")


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
    return _guarded(plan_training, parser, family, script)


def training_parser(family, data, script, description=None, variant=None):
    """Return the parser of a training script; see `train`."""
    variant = family.variants[0] if variant is None else variant
    parser = make_parser(family, data, variant, script, description, "--batch-size 8 --gpu 0")
    add_training_flags(parser)
    return parser


def score(family, data, script, description, variant=None):
    """Run a scoring script; see `train`."""
    parser = scoring_parser(family, data, script, description, variant)
    return _guarded(plan_scoring, parser, family, script)


def time(family, data, script, description, variant=None):
    """Run a timing script; see `train`."""
    parser = timing_parser(family, data, script, description, variant)
    return _guarded(plan_timing, parser, family, script)


def timing_parser(family, data, script, description=None, variant=None):
    """Return the parser of a timing script."""
    variant = family.variants[0] if variant is None else variant
    example = "--weights released.caffemodel --gpu 0"
    parser = make_parser(family, data, variant, script, description, example)
    add_timing_flags(parser)
    return parser


def scoring_parser(family, data, script, description=None, variant=None):
    """Return the parser of a scoring script: flags of a training say which one is scored."""
    variant = family.variants[0] if variant is None else variant
    example = "--weights released.caffemodel --gpu 0"
    parser = make_parser(family, data, variant, script, description, example)
    add_scoring_flags(parser)
    return parser


def _guarded(plan, parser, family, script):
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    args = parser.parse_args()
    try:
        return plan(parser, family, args).carry_out(script, run=not args.no_run)
    except (ValueError, EnvironmentError) as error:
        logger.error("error: %s", error)
        return 1
    except KeyboardInterrupt:
        logger.error("stopped")
        return 130
