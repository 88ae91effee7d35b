"""Cuts COCO's instances_*.json files into one annotation file per image, and writes image sets.

`instances_minival2014.json` gives `Annotations/val2014/COCO_val2014_000000000042.json` and so on,
and `ImageSets/minival2014.txt`. Outlines (segmentation) are left out. `image_info_*.json`, which
names the images of a test set, gives files without objects.

Spec: ssd-data.md sections 2 (JSON) and 3.5.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caffe_ssd.desk.console import run_command, track
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.documents import parse_json
from caffe_ssd.errors import DataError, FileError
from caffe_ssd.files import atomic_write, read_bytes

logger = logging.getLogger(__name__)

_KEPT = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")

EXAMPLES = """\
  cd ~/data/coco      # holds images/train2014 and images/val2014
  python -m lmdb_tools.split_coco . annotations/instances_train2014.json \\
      annotations/instances_valminusminival2014.json annotations/instances_minival2014.json
  python -m lmdb_tools.split_coco . annotations/image_info_test-dev2015.json
"""
TEST_SET = "image_info_"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "split_coco", argv)


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser(
        "python -m lmdb_tools.split_coco",
        description="Cut COCO annotation files into one file per image.",
        examples=EXAMPLES,
    )
    parser.add_argument("root", help="gets Annotations/ and ImageSets/")
    parser.add_argument(
        "files",
        nargs="+",
        help="instances_NAME.json or, without objects, image_info_NAME.json; NAME names the "
        "image set",
    )
    args = parser.parse_flags(argv)
    for file in args.files:
        split_coco(args.root, file)


def split_coco(root: str | os.PathLike[str], file: str | os.PathLike[str]) -> int:
    """Cut one file.

    Args:
        root: gets Annotations/<subset>/<image>.json and ImageSets/<name>.txt; the subset is the
            part of the image's name behind its first "_".
        file: instances_<name>.json, or image_info_<name>.json, which has no objects.

    Returns:
        The number of images.

    Raises:
        FileError: the file cannot be read.
        DataError: the file is no COCO annotation file.
    """
    content = _read(file)
    if Path(file).stem.startswith(TEST_SET):
        content = {"annotations": [], **content}
    objects: dict[object, list[dict[str, Any]]] = {}
    try:
        for item in content["annotations"]:
            kept = {key: item[key] for key in _KEPT if key in item}
            objects.setdefault(item["image_id"], []).append(kept)
        images = {Path(image["file_name"]).stem: image for image in content["images"]}
        found = {stem: objects.get(image["id"], []) for stem, image in images.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{file}: not a COCO annotation file; no {error}") from error
    folder = Path(root) / "Annotations"
    for stem, image in track(images.items(), len(images), "split"):
        subset = stem.split("_")[1] if "_" in stem else ""
        if subset in (".", "..") or "\0" in stem:
            raise DataError(f"{file}: {stem!r} is no name for an annotation file")
        record = {"image": image, "annotation": found[stem]}
        target = folder / subset / f"{stem}.json"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(record), encoding="utf-8")
        except (OSError, UnicodeEncodeError) as error:
            raise FileError(f"Could not write file {target}: {error}") from error
    name = Path(file).stem.removeprefix("instances_").removeprefix(TEST_SET)
    image_set = Path(root) / "ImageSets" / f"{name}.txt"
    image_set.parent.mkdir(parents=True, exist_ok=True)
    # Last, so that an image set names only annotations that are there.
    atomic_write(image_set, "".join(f"{stem}\n" for stem in images))
    num_objects = len(content["annotations"])
    logger.info("Wrote %s: %d images, %d objects.", image_set, len(images), num_objects)
    return len(images)


def _read(file: str | os.PathLike[str]) -> dict[str, Any]:
    content = parse_json(read_bytes(file), os.fspath(file))
    if not isinstance(content, dict):
        raise DataError(f"{file}: not a COCO annotation file; its root is no object")
    return content


if __name__ == "__main__":
    sys.exit(main())
