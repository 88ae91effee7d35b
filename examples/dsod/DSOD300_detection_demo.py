"""Detect objects on a picture, draw them, and list them: `caffe detect` with DSOD300's files.

Without flags for it the model is the newest snapshot that DSOD300_pascal.py has left. All other
flags of `caffe detect` may be given as well.
"""

import argparse
import os
import sys

from caffe.models.datasets import VOC0712
from caffe.models.dsod_recipes import dsod_pascal
from caffe.models.job import newest_snapshot
from caffe.models.recipe import default_places

from caffe_ssd.cli.main import main as caffe


def parse_args():
    """Return the flags, and those for `caffe detect`."""
    model_dir = default_places(dsod_pascal()).model_dir
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"example: python {sys.argv[0]} --image street.jpg --threshold 0.4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--image", required=True, metavar="FILE", help="the picture")
    model = os.path.join(model_dir, "deploy.prototxt")
    add("--model", metavar="FILE", default=model, help="deploy net (%(default)s)")
    add("--weights", metavar="FILE", help="caffemodel (the newest snapshot beside the deploy net)")
    add("--label-map", metavar="FILE", default=VOC0712.label_map, help="names (%(default)s)")
    add("--threshold", metavar="SCORE", default="0.5", help="lowest to show (%(default)s)")
    add("--output", metavar="FILE", help="picture to write (IMAGE_detections.png)")
    add("--gpu", metavar="ID", help="GPU to use (the CPU)")
    return parser.parse_known_args()


def newest_weights(model):
    """Return the newest snapshot in the folder of a deploy net."""
    prefix = os.path.join(os.path.dirname(model), dsod_pascal().model_name)
    newest = newest_snapshot(prefix, ".caffemodel")
    if newest is None:
        sys.exit(f"error: no {prefix}_iter_N.caffemodel; give --weights")
    return newest


def main():
    """Run the script; returns the exit status."""
    args, others = parse_args()
    output = args.output or os.path.splitext(args.image)[0] + "_detections.png"
    flags = ["-model", args.model, "-weights", args.weights or newest_weights(args.model)]
    flags += ["-label_map", args.label_map, "-threshold", args.threshold, "-output", output]
    if args.gpu is not None:
        flags += ["-gpu", args.gpu]
    return caffe(["detect", args.image, *flags, *others])


if __name__ == "__main__":
    sys.exit(main())
