"""get_image_size: write the size of every image of a list, as evaluation in pixels needs it.

Spec: ssd-data.md section 3.3.
Quirk (not kept): for an image that cannot be read the reference repeats the size before; here it
is an error, as a wrong size would spoil an evaluation unseen.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import PurePosixPath

from caffe_ssd.desk.console import run_command, track
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import DataError
from caffe_ssd.files import atomic_write, read_text
from lmdb_tools.annoset import read_list
from lmdb_tools.images import image_size

logger = logging.getLogger(__name__)

DESCRIPTION = """\
Write one line 'name height width' for every image of a list.

ROOTFOLDER/ is put before every path of the list as it is, so it should end in a slash. Each line of
LISTFILE holds an image and something else. The name is the file's, without folder and extension."""
EXAMPLES = """\
  get_image_size VOCdevkit/ data/VOC0712/test.txt data/VOC0712/test_name_size.txt"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "get_image_size", argv)


def write_image_sizes(
    root: str,
    images: Sequence[str],
    out_file: str | os.PathLike[str],
    *,
    name_to_id: Mapping[str, str] | None = None,
) -> None:
    """Write the sizes of images.

    Args:
        root: put before every path as it is.
        images: paths, in the order of the lines to write.
        out_file: appears whole or not at all.
        name_to_id: what is written in place of a file's name; None writes the names.

    Raises:
        DataError: an image that cannot be read or has no id.
        FileError: the file cannot be written.
    """
    paths = [root + image for image in images]
    lines = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        sizes = track(pool.map(image_size, paths), len(paths), "read sizes")
        for number, (path, size) in enumerate(zip(paths, sizes, strict=True), 1):
            if size is None:
                raise DataError(f"{path}: not a readable image")
            lines.append(f"{_name(path, name_to_id)} {size[0]} {size[1]}\n")
            if number % 1000 == 0:
                logger.info("Processed %d files.", number)
    atomic_write(out_file, "".join(lines))
    if len(lines) % 1000 != 0:
        logger.info("Processed %d files.", len(lines))


def read_name_ids(path: str | os.PathLike[str], count: int) -> dict[str, str]:
    """The `name id` lines of a file.

    Raises:
        FileError: the file cannot be read.
        DataError: a name twice, or another number of names than `count`.
    """
    words = read_text(path).split()
    ids: dict[str, str] = {}
    for name, number in zip(words[::2], words[1::2], strict=False):
        if name in ids:
            raise DataError(f"{path}: the name {name!r} stands more than once")
        ids[name] = number
    if len(ids) != count:
        raise DataError(f"{path}: {len(ids)} names, but the list has {count} images")
    return ids


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("get_image_size", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("root", metavar="ROOTFOLDER/", help="put before every path")
    parser.add_argument("list_file", metavar="LISTFILE", help="the images")
    parser.add_argument("out_file", metavar="OUTFILE", help="the sizes to write")
    parser.add_flag(
        "name_id_file",
        default="",
        help="lines 'name id', one for every image; ids then take the place of names",
    )
    args = parser.parse_flags(argv)
    images = [image for image, _ in read_list(args.list_file, detection=True)]
    logger.info("A total of %d images.", len(images))
    ids = read_name_ids(args.name_id_file, len(images)) if args.name_id_file else None
    write_image_sizes(args.root, images, args.out_file, name_to_id=ids)


def _name(path: str, name_to_id: Mapping[str, str] | None) -> str:
    stem = PurePosixPath(path).stem
    if name_to_id is None:
        return stem
    if stem not in name_to_id:
        raise DataError(f"{path}: the name {stem!r} is not in the name-id file")
    return name_to_id[stem]


if __name__ == "__main__":
    sys.exit(main())
