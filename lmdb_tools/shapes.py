"""Writes the synthetic data set `shapes` in VOC layout, to try everything without a download.

Five classes of shapes in different sizes, colours and lights, partly covering one another, before
a cluttered background. The same seed gives the same pictures.

Coordinates are edges of pixels counted from 0 (not VOC's 1-based pixels), which is what
convert_annoset divides by: a shape that fills a picture of width 160 has xmin 0, xmax 160.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np

from caffe_ssd.desk.console import run_command, track
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import FileError, UsageError
from caffe_ssd.files import atomic_write
from caffe_ssd.proto.caffe_pb2 import LabelMap
from caffe_ssd.proto.text import write_text
from lmdb_tools.images import encode
from lmdb_tools.shapes_drawing import CLASSES, Shape, draw_picture

logger = logging.getLogger(__name__)

_SPLITS = ("trainval", "test")
_WORTH_PROCESSES = 200  # pictures; fewer are drawn before other processes have started
_CHUNK = 20  # pictures that travel to a process at a time

EXAMPLES = """\
  python -m lmdb_tools.shapes shapes
  convert_annoset -anno_type=detection -label_map_file=shapes/labelmap_shapes.prototxt \\
      -encode_type=jpg -encoded shapes/ shapes/trainval.txt shapes_trainval_lmdb
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "shapes", argv)


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser(
        "python -m lmdb_tools.shapes",
        description="Write a synthetic detection data set in VOC layout.",
        examples=EXAMPLES,
    )
    parser.add_argument("outdir", help="folder to make; must be empty or absent")
    parser.add_flag("train", type=int, default=2000, help="training pictures (%(default)s)")
    parser.add_flag("test", type=int, default=300, help="test pictures (%(default)s)")
    parser.add_flag("size", type=int, default=160, help="longer side, pixels (%(default)s)")
    parser.add_flag("seed", type=int, default=7, help="another seed, other pictures")
    args = parser.parse_flags(argv)
    make_shapes(
        args.outdir,
        num_train=args.train,
        num_test=args.test,
        size=args.size,
        seed=args.seed,
        processes=os.cpu_count() or 1,
        show=lambda pictures, total: track(pictures, total, "draw"),
    )


def make_shapes(
    outdir: str | os.PathLike[str],
    *,
    num_train: int = 2000,
    num_test: int = 300,
    size: int = 160,
    seed: int = 7,
    processes: int = 1,
    show: Callable[[Iterator[str], int], Iterator[str]] = lambda pictures, total: pictures,
) -> None:
    """Write the data set.

    It consists of JPEGImages/, Annotations/, ImageSets/Main/{trainval,test}.txt, the lists
    trainval.txt and test.txt ("image annotation"), test_name_size.txt and labelmap_shapes.prototxt.

    Args:
        outdir: the folder; must be empty or absent.
        num_train: pictures in trainval.
        num_test: pictures in test.
        size: longer side in pixels; at least 32.
        seed: 0 to 2^32 - 1. A picture depends on the seed, its split and its number only.
        processes: that draw, if the pictures are many. More than one are started anew and import
            the main module, which then needs a main guard.
        show: wraps the loop over pictures, for a progress bar.

    Raises:
        UsageError: a number makes no sense.
        FileError: the folder is not empty or cannot be written.
    """
    _check(num_train, num_test, size, seed)
    root = Path(outdir)
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise FileError(f"{root} exists and is not empty; remove it or choose another folder")
    jobs = [(_SPLITS[0], n) for n in range(num_train)] + [(_SPLITS[1], n) for n in range(num_test)]
    try:
        for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / folder).mkdir(parents=True, exist_ok=True)
        with _drawers(processes if len(jobs) >= _WORTH_PROCESSES else 1) as each:
            draw = partial(_write_picture, root, size, seed)
            sizes = list(show(each(draw, jobs), len(jobs)))
    except OSError as error:
        raise FileError(f"could not write {error.filename}: {error.strerror}") from error
    _write_lists(root, num_train, sizes)
    _write_label_map(root / "labelmap_shapes.prototxt")
    logger.info("Wrote %s: %d pictures to train on, %d to test on.", root, num_train, num_test)


@contextmanager
def _drawers(processes: int) -> Iterator[Callable[..., Iterator[str]]]:
    """`map`, spread over so many processes."""
    if processes == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_prepare_process)
    try:
        yield partial(pool.map, chunksize=_CHUNK)
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)


def _end_with_parent() -> None:
    """A pool's processes wait for work for ever if the one that started it is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def picture_seed(seed: int, split: str, number: int) -> np.random.RandomState:
    """The generator that draws one picture."""
    return np.random.RandomState(np.array([seed, _SPLITS.index(split), number], np.uint32))


def _check(num_train: int, num_test: int, size: int, seed: int) -> None:
    if num_train < 0 or num_test < 0 or num_train + num_test == 0:
        raise UsageError(f"train {num_train}, test {num_test}: need at least one picture")
    if size < 32:
        raise UsageError(f"size is {size}; allowed: 32 pixels and more")
    if not 0 <= seed < 2**32:
        raise UsageError(f"seed is {seed}; allowed: 0 to 4294967295")


def _stem(split: str, number: int) -> str:
    return f"{split}_{number:05d}"


def _write_picture(root: Path, size: int, seed: int, job: tuple[str, int]) -> str:
    """Draw and write one picture with its annotation; returns its line of the size file."""
    split, number = job
    stem = _stem(split, number)
    image, shapes = draw_picture(picture_seed(seed, split, number), size)
    height, width = image.shape[:2]
    (root / "JPEGImages" / f"{stem}.jpg").write_bytes(encode(image, "jpg"))
    xml = _annotation(stem, height, width, shapes)
    (root / "Annotations" / f"{stem}.xml").write_text(xml, encoding="utf-8")
    return f"{stem} {height} {width}"


def _annotation(stem: str, height: int, width: int, shapes: list[Shape]) -> str:
    root = ElementTree.Element("annotation")
    _add(root, folder="JPEGImages", filename=f"{stem}.jpg")
    _add(ElementTree.SubElement(root, "size"), width=width, height=height, depth=3)
    for shape in shapes:
        node = ElementTree.SubElement(root, "object")
        # `difficult` stands before `bndbox`: SSD-Caffe loses a flag that comes later.
        _add(node, name=shape.name, pose="Unspecified")
        _add(node, truncated=int(shape.truncated), difficult=int(shape.difficult))
        xmin, ymin, xmax, ymax = shape.box_px
        _add(ElementTree.SubElement(node, "bndbox"), xmin=xmin, ymin=ymin, xmax=xmax, ymax=ymax)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(parent: ElementTree.Element, **texts: str | int) -> None:
    for tag, text in texts.items():
        ElementTree.SubElement(parent, tag).text = str(text)


def _write_lists(root: Path, num_train: int, sizes: list[str]) -> None:
    for split, lines in zip(_SPLITS, (sizes[:num_train], sizes[num_train:]), strict=True):
        stems = [line.split()[0] for line in lines]
        atomic_write(root / "ImageSets" / "Main" / f"{split}.txt", _text(stems))
        pairs = [f"JPEGImages/{stem}.jpg Annotations/{stem}.xml" for stem in stems]
        atomic_write(root / f"{split}.txt", _text(pairs))
    atomic_write(root / "test_name_size.txt", _text(sizes[num_train:]))


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _write_label_map(path: Path) -> None:
    labels = LabelMap()
    labels.item.add(name="none_of_the_above", label=0, display_name="background")
    for label, name in enumerate(CLASSES, 1):
        labels.item.add(name=name, label=label, display_name=name)
    write_text(path, labels)


if __name__ == "__main__":
    cv2.setNumThreads(1)
    sys.exit(main())
