"""detect.py: class scores of windows of images (R-CNN), into a CSV file.

Spec: caffe-net.md section 15. For detectors with a DetectionOutput layer see `caffe detect`.
The reference can also write a pandas table as HDF5; `pandas.read_csv` reads what this writes.
"""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from caffe import Detector
from caffe.detector import WindowScore

from caffe_ssd.desk.console import run_command, show
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.files import atomic_write, read_text
from caffe_ssd.tools.net_input import add_net_flags, channel_mean, net_settings, settle_device

DESCRIPTION = """\
Score windows of images with a classifier, each warped to the net's input (R-CNN).

INPUT is a .csv file with columns filename, ymin, xmin, ymax, xmax for -crop_mode list, or a .txt
file with a picture a line for selective search. For SSD and its kin see caffe detect."""
EXAMPLES = """\
  caffe run python/detect.py -crop_mode list -model_def deploy.prototxt \\
      -pretrained_model net.caffemodel -mean_file mean.npy windows.csv scores.csv"""

_CORNERS = ("ymin", "xmin", "ymax", "xmax")
_COLUMNS = ("filename", *_CORNERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "detect.py", argv)


def read_windows(path: str) -> list[tuple[str, list[list[int]]]]:
    """The windows (ymin, xmin, ymax, xmax) of each image, in whole pixels, in the file's order.

    Raises:
        FileError: the file cannot be read.
        DataError: a column is missing, or a value is no number.
    """
    rows = csv.DictReader(io.StringIO(read_text(path)))
    missing = [name for name in _COLUMNS if name not in (rows.fieldnames or ())]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; needed are {','.join(_COLUMNS)}")
    images: dict[str, list[list[int]]] = {}
    for row in rows:
        try:
            window = [int(float(row[name])) for name in _CORNERS]
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}:{rows.line_num}: not a window: {error}") from error
        images.setdefault(row["filename"], []).append(window)
    return list(images.items())


def scores_as_csv(scores: Sequence[WindowScore]) -> str:
    """Lines `filename,ymin,xmin,ymax,xmax,class0,class1,...`, after a line with these names."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    num_classes = scores[0]["prediction"].size
    table.writerow([*_COLUMNS, *(f"class{label}" for label in range(num_classes))])
    for score in scores:
        values = score["prediction"].ravel().tolist()
        table.writerow([score["filename"], *map(int, score["window"]), *values])
    return text.getvalue()


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("detect.py", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("input", metavar="INPUT", help=".csv with windows or .txt with pictures")
    parser.add_argument("output", metavar="OUTPUT.csv", help="the scores to write")
    add_net_flags(parser)
    parser.add_flag(
        "crop_mode",
        default="selective_search",
        choices=("list", "selective_search"),
        help="where windows come from (%(default)s)",
    )
    parser.add_flag(
        "context_pad",
        type=int,
        default=16,
        help="pixels of surroundings, in the net's input (%(default)s)",
    )
    args = parser.parse_flags(argv)
    if Path(args.output).suffix.lower() != ".csv":
        raise UsageError(f"OUTPUT must end in .csv, got {args.output!r}; HDF5 is not written")
    settings = net_settings(args)
    settings["mean"] = channel_mean(settings["mean"])
    show("Loading input...")
    from_list = args.crop_mode == "list"
    windows = read_windows(args.input) if from_list else []
    pictures = [] if from_list else read_text(args.input).split("\n")
    settle_device(args)
    detector = Detector(
        args.model_def, args.pretrained_model, context_pad=args.context_pad, **settings
    )
    start = time.monotonic()
    if from_list:
        scores = detector.detect_windows(windows)
    else:
        names = [name.strip() for name in pictures if name.strip()]
        scores = detector.detect_selective_search(names)
    show(f"Processed {len(scores)} windows in {time.monotonic() - start:.3f} s.")
    atomic_write(args.output, scores_as_csv(scores))
    show(f"Saved to {args.output}")


if __name__ == "__main__":
    sys.exit(main())
