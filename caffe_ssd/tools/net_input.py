"""The flags that classify.py and detect.py share: a net, and how images become its input."""

from __future__ import annotations

import argparse
import io
from typing import Any

import caffe
import numpy as np
from numpy.typing import NDArray

from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.files import read_bytes


def add_net_flags(parser: FlagParser) -> None:
    """Add the flags that `net_settings` reads."""
    add = parser.add_flag
    add("model_def", default="", metavar="FILE", help="the deploy net's prototxt (needed)")
    add("pretrained_model", default="", metavar="FILE", help="its weights (needed)")
    parser.add_switch("gpu", help="run on the GPU")
    add(
        "mean_file",
        default=None,
        metavar="FILE.npy",
        help="mean image, [C, H, W], BGR; needed, as none is shipped; empty subtracts nothing",
    )
    add("input_scale", type=float, default=None, help="factor after the mean")
    add("raw_scale", type=float, default=255.0, help="factor before the mean (%(default)s)")
    add(
        "channel_swap",
        type=_order,
        default=(2, 1, 0),
        help="order of the channels; 2,1,0, the default, turns RGB into BGR",
    )


def settle_device(args: argparse.Namespace) -> None:
    """Say where nets are built from now on."""
    (caffe.set_mode_gpu if args.gpu else caffe.set_mode_cpu)()


def net_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say of the net's input, as keywords of `Classifier` and `Detector`.

    Raises:
        UsageError: a flag is missing.
        CaffeError: the mean cannot be read.
    """
    for name in ("model_def", "pretrained_model"):
        if not getattr(args, name):
            raise UsageError(f"-{name} is missing")
    if args.mean_file is None:
        raise UsageError("-mean_file is missing; -mean_file= subtracts nothing")
    return {
        "mean": read_array(args.mean_file) if args.mean_file else None,
        "input_scale": args.input_scale,
        "raw_scale": args.raw_scale,
        "channel_swap": args.channel_swap,
    }


def channel_mean(mean: NDArray[Any] | None) -> NDArray[Any] | None:
    """[C] of a mean image, for windows of any size."""
    return mean.mean(axis=(1, 2)) if mean is not None and mean.ndim == 3 else mean


def read_array(path: str) -> NDArray[Any]:
    """The array of a .npy file; one that holds Python objects is refused.

    Raises:
        FileError: the file cannot be read.
        DataError: it is no such file.
    """
    data = io.BytesIO(read_bytes(path))
    try:
        array = np.load(data, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path}: not a .npy file of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: a .npz archive; a .npy file with one array is needed")
    return array


def _order(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


_order.__name__ = "list of whole numbers"  # for argparse's messages
