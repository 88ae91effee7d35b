"""Writes the lists of a data set: what to train on (shuffled), what to test on, the test sizes.

Spec: ssd-data.md section 3.5.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from caffe_ssd.data.annotation_files import read_annotation_file
from caffe_ssd.desk.console import run_command
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.documents import parse_json
from caffe_ssd.errors import DataError, FileError, UsageError
from caffe_ssd.files import atomic_write, read_bytes, read_text
from caffe_ssd.proto.text import write_text
from lmdb_tools.annoset import shuffled
from lmdb_tools.create_label_map import label_map_from_lines
from lmdb_tools.get_image_size import write_image_sizes
from lmdb_tools.layouts import LAYOUTS, DataLayout, ImageSet

logger = logging.getLogger(__name__)

Line = tuple[str, str]
PathLike = str | os.PathLike[str]

_EXTENSIONS = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG", ".bmp")

EPILOG = """\
  python -m lmdb_tools.make_lists -layout voc0712 ~/data/VOCdevkit
  python -m lmdb_tools.make_lists -layout voc my_pictures -out my_lists

layouts, and what is looked for in ROOT:
  voc0712      VOC2007/ and VOC2012/; trains on both trainval sets, tests on 2007 test
  voc0712plus  the same folders; trains on 2007 trainval+test and 2012 trainval, tests on 2012 test
  voc12        VOC2012/; trains on trainval, tests on test
  coco         images/, Annotations/, ImageSets/ as lmdb_tools.split_coco writes them; trains on
               train2014 and valminusminival2014, tests on minival2014
  coco_test_dev  the same folders; tests on test-dev2015
  voc          any folder in VOC layout: JPEGImages/, Annotations/, ImageSets/Main/trainval.txt and
               test.txt; writes a label map of the classes it finds too
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "make_lists", argv)


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser(
        "python -m lmdb_tools.make_lists",
        description="Write the train and test lists of a data set, and the sizes of test images.",
        examples=EPILOG,
    )
    parser.add_argument("root", help="the folder that holds the data set")
    parser.add_flag("layout", required=True, choices=LAYOUTS, help="see below")
    parser.add_flag("out", help="folder for the lists (default: the layout's, in data/)")
    parser.add_flag("seed", type=int, default=0, help="order of the train list (%(default)s)")
    args = parser.parse_flags(argv)
    make_lists(args.layout, args.root, args.out, seed=args.seed)


def make_lists(layout: str, root: PathLike, out: PathLike | None = None, *, seed: int = 0) -> Path:
    """Write the lists of a data set.

    Args:
        layout: a key of LAYOUTS.
        root: the folder that holds the data set; the lists are relative to it.
        out: folder for the lists; None takes the layout's.
        seed: of the train list's order; the test list keeps the data set's.

    Returns:
        The folder of the lists.

    Raises:
        UsageError: the layout needs `out`.
        FileError: a folder or image set is missing; names it and what else is.
        DataError: an image of a set is missing.
    """
    plan = LAYOUTS[layout]
    folder = lists_folder(plan, out)
    source = Path(root)
    train_name, train_sets = plan.train or ("", ())
    test_name, test_sets = plan.test
    _check_present(source, plan)
    train = [line for image_set in train_sets for line in _lines(source, image_set, plan)]
    test = [line for image_set in test_sets for line in _lines(source, image_set, plan)]
    folder.mkdir(parents=True, exist_ok=True)
    if train_name:
        _write_list(folder / f"{train_name}.txt", shuffled(train, seed))
    _write_list(folder / f"{test_name}.txt", test)
    _write_sizes(source, test, folder / plan.size_file, plan)
    label_map = folder / plan.label_map
    if not label_map.exists() and not plan.folder:
        _write_label_map(source, train, label_map)
    return folder


def lists_folder(plan: DataLayout, out: PathLike | None) -> Path:
    """Where a layout's lists go.

    Raises:
        UsageError: the layout has no folder of its own and `out` is None.
    """
    if out is not None:
        return Path(out)
    if not plan.folder:
        raise UsageError("this layout has no folder of its own; give a folder for the lists (out)")
    return Path(plan.folder)


def _check_present(root: Path, plan: DataLayout) -> None:
    """Name everything that is missing at once, so that one look at the disk is enough."""
    image_sets = {*(plan.train or ("", ()))[1], *plan.test[1]}
    missing = [path for s in image_sets for path in _expected(root, s, plan) if not path.exists()]
    if missing:
        listed = "\n".join(f"  {path}" for path in sorted(set(missing)))
        raise FileError(f"the data set in {root} is not complete; missing:\n{listed}")


def _expected(root: Path, image_set: ImageSet, plan: DataLayout) -> list[Path]:
    if plan.label_type == "json":
        return [root / "images", root / "Annotations", _set_file(root, image_set, plan)]
    base = root / image_set.folder
    return [base / "JPEGImages", base / "Annotations", _set_file(root, image_set, plan)]


def _set_file(root: Path, image_set: ImageSet, plan: DataLayout) -> Path:
    middle = () if plan.label_type == "json" else ("Main",)
    return root.joinpath(image_set.folder, "ImageSets", *middle, f"{image_set.name}.txt")


def _lines(root: Path, image_set: ImageSet, plan: DataLayout) -> list[Line]:
    text = read_text(_set_file(root, image_set, plan))
    names = [line.split()[0] for line in text.splitlines() if line.strip()]
    if plan.label_type == "json":
        # COCO_val2014_000000000042 lies in images/val2014.
        parts = [(f"/{name.split('_')[1]}" if "_" in name else "", name) for name in names]
        return [(f"images{p}/{n}.jpg", f"Annotations{p}/{n}.json") for p, n in parts]
    start = f"{image_set.folder}/" if image_set.folder else ""
    images = _Images(root / image_set.folder / "JPEGImages")
    return [(f"{start}JPEGImages/{images[n]}", f"{start}Annotations/{n}.xml") for n in names]


class _Images:
    """Finds the file of an image by its name; nearly all end in .jpg."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = set(os.listdir(folder))

    def __getitem__(self, name: str) -> str:
        for extension in _EXTENSIONS:
            if name + extension in self._files:
                return name + extension
        raise DataError(f"no image {name} in {self._folder} (tried {', '.join(_EXTENSIONS)})")


def _write_list(path: Path, lines: Sequence[Line]) -> None:
    for line in lines:
        if any(" " in word for word in line):
            raise DataError(f"{line[0]!r}: a list cannot hold a name with a space; rename the file")
    atomic_write(path, "".join(f"{image} {annotation}\n" for image, annotation in lines))
    logger.info("Wrote %s: %d images.", path, len(lines))


def _write_sizes(root: Path, lines: Sequence[Line], path: Path, plan: DataLayout) -> None:
    if plan.label_type == "xml":
        write_image_sizes(f"{root}/", [image for image, _ in lines], path)
        return
    # COCO results are keyed by image id, and its annotations know the sizes.
    rows = []
    for _, annotation in lines:
        try:
            image = parse_json(read_bytes(root / annotation), str(root / annotation))["image"]
            rows.append(f"{image['id']} {image['height']} {image['width']}\n")
        except (TypeError, KeyError) as error:
            raise DataError(f"{root / annotation}: no id, height and width: {error}") from error
    atomic_write(path, "".join(rows))


def _write_label_map(root: Path, lines: Sequence[Line], path: Path) -> None:
    """Number the classes of all annotations, in alphabetical order."""
    counts: Counter[str] = Counter()
    for _, annotation in lines:
        if (root / annotation).exists():
            file = read_annotation_file(root / annotation, label_type="xml")
            counts.update(box.category for box in file.boxes)
    names = sorted(counts)
    write_text(path, label_map_from_lines(names, delimiter="", include_background=True))
    logger.info("Wrote %s: %s.", path, ", ".join(f"{n} ({counts[n]})" for n in names))


if __name__ == "__main__":
    sys.exit(main())
