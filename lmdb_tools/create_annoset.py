"""create_annoset: check the inputs, make an LMDB with convert_annoset's code, link it.

Spec: ssd-data.md section 3.4.
Quirk (not kept): the reference goes on to the link when the conversion failed.
Quirk (not kept): `-redo` deletes whatever is there first; here only an LMDB is replaced, and the
old one stays until the new one is complete.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from caffe_ssd.desk.console import run_command
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import DataError, FileError
from lmdb_tools.annoset import convert
from lmdb_tools.convert_annoset import add_conversion_flags, conversion, read_lines
from lmdb_tools.database import check_target

DESCRIPTION = "Make an LMDB of a list and link it into an example folder."
EXAMPLES = """\
  python -m lmdb_tools.create_annoset -anno_type=detection -redo -check_label \\
      -label_map_file=data/VOC0712/labelmap_voc.prototxt -encode_type=jpg -encoded \\
      ~/data/VOCdevkit data/VOC0712/test.txt ~/data/VOCdevkit/VOC0712/lmdb/VOC0712_test_lmdb \\
      examples/VOC0712"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "create_annoset", argv)


def link_database(database: str | os.PathLike[str], folder: str | os.PathLike[str]) -> Path:
    """Make `folder/<name of the database>` a link to the database, replacing an old link.

    Raises:
        FileError: something that is no link has the name, or the link cannot be made.
    """
    target = Path(os.path.abspath(database))
    link = Path(folder) / target.name
    if Path(os.path.abspath(link)) == target:
        return link
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        if link.is_symlink():
            link.unlink()
        link.symlink_to(target)
    except OSError as error:
        raise FileError(f"could not link {link} to {target}: {error.strerror}") from error
    return link


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("create_annoset", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("root", metavar="ROOT", help="folder that the list's paths are relative to")
    parser.add_argument(
        "listfile", metavar="LISTFILE", help="lines 'image annotation' or 'image number'"
    )
    parser.add_argument("outdir", metavar="DB_NAME", help="the database to make")
    parser.add_argument("exampledir", metavar="FOLDER", help="gets a link to it")
    parser.add_switch("redo", help="replace an old database")
    add_conversion_flags(parser)
    args = parser.parse_flags(argv)
    root = os.path.join(args.root, "")
    if not os.path.isdir(root):
        raise FileError(f"the root folder {root} does not exist")
    lines = read_lines(args, args.listfile)
    options = conversion(args, root)
    if options.detection and not os.path.exists(root + lines[0][1]):
        raise DataError(f"{args.listfile}: the annotation {root}{lines[0][1]} does not exist")
    Path(args.outdir).absolute().parent.mkdir(parents=True, exist_ok=True)
    check_target(args.outdir, replace=args.redo)
    convert(lines, args.outdir, options, replace=args.redo)
    link_database(args.outdir, args.exampledir)


if __name__ == "__main__":
    sys.exit(main())
