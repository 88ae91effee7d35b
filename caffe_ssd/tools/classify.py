"""classify.py: class scores of images, averaged over ten crops, into a .npy file.

Spec: caffe-net.md section 15. The reference's defaults name a net and a mean that come with it;
here both are asked for.
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from caffe import Classifier
from caffe.io import load_image
from numpy.typing import NDArray

from caffe_ssd.desk.console import run_command, show
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import FileError
from caffe_ssd.files import atomic_write
from caffe_ssd.tools.net_input import add_net_flags, net_settings, read_array, settle_device

DESCRIPTION = """\
Score images with a classifier and save the scores, [N, classes], as a .npy file.

INPUT is an image, a folder of images, or a .npy file with images [N, H, W, C]."""
EXAMPLES = """\
  caffe run python/classify.py -model_def deploy.prototxt -pretrained_model net.caffemodel \\
      -mean_file mean.npy cat.jpg scores.npy"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "classify.py", argv)


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("classify.py", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("input", metavar="INPUT", help="image, folder or .npy file")
    parser.add_argument("output", metavar="OUTPUT.npy", help="the scores to write")
    add_net_flags(parser)
    parser.add_switch("center_only", help="score the centre alone rather than ten crops")
    parser.add_flag(
        "images_dim",
        type=_height_width,
        default=(256, 256),
        metavar="H,W",
        help="size that images are brought to before they are cropped (256,256)",
    )
    parser.add_flag("ext", default="jpg", help="ending of a folder's images (%(default)s)")
    args = parser.parse_flags(argv)
    settings = net_settings(args)
    settle_device(args)
    classifier = Classifier(
        args.model_def, args.pretrained_model, image_dims=args.images_dim, **settings
    )
    inputs = _inputs(Path(args.input).expanduser(), args.ext)
    show(f"Classifying {len(inputs)} inputs.")
    start = time.monotonic()
    scores = classifier.predict(inputs, not args.center_only)
    show(f"Done in {time.monotonic() - start:.2f} s.")
    show(f"Saving results into {args.output}")
    _save(args.output, scores)


def _inputs(path: Path, ending: str) -> list[NDArray[Any]]:
    """Images (H, W, C), RGB, in [0, 1] unless they come from a .npy file."""
    if path.suffix == ".npy":
        show(f"Loading file: {path}")
        return list(read_array(str(path)))
    if not path.is_dir():
        show(f"Loading file: {path}")
        return [load_image(str(path))]
    show(f"Loading folder: {path}")
    files = sorted(path.glob(f"*.{ending}"))
    if not files:
        raise FileError(f"the folder {path} holds no *.{ending}; -ext names another ending")
    return [load_image(str(file)) for file in files]


def _save(path: str, scores: NDArray[Any]) -> None:
    buffer = io.BytesIO()
    np.save(buffer, scores)
    # Where the name has another ending, NumPy adds its own.
    atomic_write(path if path.endswith(".npy") else f"{path}.npy", buffer.getvalue())


def _height_width(text: str) -> tuple[int, int]:
    height, width = (int(word) for word in text.split(","))
    return height, width


_height_width.__name__ = "height,width"  # for argparse's messages

if __name__ == "__main__":
    sys.exit(main())
