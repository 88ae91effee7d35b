"""Detect objects on a picture with any deploy net, draw them, and list them.

Without flags for it the model is the newest snapshot that DSOD300_pascal.py has left.
"""

import argparse
import os
import sys

import caffe
import cv2
from caffe.models.datasets import VOC0712, read_label_map
from caffe.models.detection import (
    detect_image,
    draw_detections,
    format_table,
    open_net,
    read_image,
)
from caffe.models.dsod_recipes import dsod_pascal
from caffe.models.job import newest_snapshot
from caffe.models.recipe import default_places


def parse_args() -> argparse.Namespace:
    model_dir = default_places(dsod_pascal()).model_dir
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"example: python {sys.argv[0]} --image street.jpg --threshold 0.4",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--image", required=True, metavar="FILE", help="the picture")
    add(
        "--model",
        metavar="FILE",
        default=os.path.join(model_dir, "deploy.prototxt"),
        help="deploy net (%(default)s)",
    )
    add("--weights", metavar="FILE", help="caffemodel (the newest snapshot beside the deploy net)")
    add(
        "--label-map",
        metavar="FILE",
        default=VOC0712.label_map,
        help="class names (%(default)s)",
    )
    add("--threshold", type=float, default=0.5, help="lowest score to show (%(default)s)")
    add("--output", metavar="FILE", help="picture to write (IMAGE_detections.png)")
    add("--gpu", type=int, metavar="ID", help="GPU to use (the CPU)")
    return parser.parse_args()


def find_weights(model: str) -> str:
    """Return the newest snapshot in the folder of a deploy net."""
    folder = os.path.dirname(model)
    recipe = dsod_pascal()
    newest = newest_snapshot(os.path.join(folder, recipe.model_name), ".caffemodel")
    if newest is None:
        raise ValueError(f"no {recipe.model_name}_iter_N.caffemodel in {folder}; give --weights")
    return newest


def main() -> int:
    args = parse_args()
    if args.gpu is None:
        caffe.set_mode_cpu()
    else:
        caffe.set_device(args.gpu)
        caffe.set_mode_gpu()
    image = read_image(args.image)
    names = read_label_map(args.label_map)
    weights = find_weights(args.model) if args.weights is None else args.weights
    net = open_net(args.model, weights)
    detections = detect_image(net, image, args.threshold)
    print(format_table(detections, names, *image.shape[:2]))
    output = args.output
    if output is None:
        output = os.path.splitext(args.image)[0] + "_detections.png"
    if not cv2.imwrite(output, draw_detections(image, detections, names)):
        raise ValueError(f"cannot write {output}")
    print(f"wrote {output}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
