"""create_annoset: check the inputs, make an LMDB with convert_annoset's code, link it.

Spec: ssd-data.md section 3.4.
Quirk (not kept): the reference goes on to the link when the conversion failed.
Quirk (not kept): `--redo` deletes whatever is there first; here only an LMDB is replaced, and the
old one stays until the new one is complete.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from caffe_ssd.errors import DataError, FileError
from caffe_ssd.proto.label_map import read_label_map
from lmdb_tools.annoset import ConvertOptions, convert, read_list, reading_rules, shuffled
from lmdb_tools.console import run_tool
from lmdb_tools.convert_annoset import check_backend
from lmdb_tools.database import check_target
from lmdb_tools.images import ImageOptions

EPILOG = """\
example:
  python -m lmdb_tools.create_annoset --anno-type=detection --redo --check-label \\
      --label-map-file=data/VOC0712/labelmap_voc.prototxt --encode-type=jpg --encoded \\
      ~/data/VOCdevkit data/VOC0712/test.txt ~/data/VOCdevkit/VOC0712/lmdb/VOC0712_test_lmdb \\
      examples/VOC0712
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _parser().parse_args(argv)
    return run_tool(lambda: _run(args), "create_annoset")


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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="create_annoset",
        description="Make an LMDB of a list and link it into an example folder.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("root", help="folder that the list's paths are relative to")
    parser.add_argument("listfile", help="lines 'image annotation' or 'image number'")
    parser.add_argument("outdir", help="the database")
    parser.add_argument("exampledir", help="folder that gets a link to it")
    parser.add_argument("--redo", action="store_true", help="replace an old database")
    parser.add_argument(
        "--anno-type", default="classification", choices=("classification", "detection")
    )
    parser.add_argument("--label-type", default="xml", choices=("xml", "json", "txt"))
    parser.add_argument("--backend", default="lmdb", help="only lmdb is supported")
    parser.add_argument("--encode-type", default="", help="jpg, png, ...; implies --encoded")
    parser.add_argument("--label-map-file", default="", help="detection needs one")
    switches = ("check-size", "encoded", "gray", "shuffle", "check-label")
    for flag in (*switches, "repair-xml", "as-original", "lenient"):
        parser.add_argument(f"--{flag}", action="store_true", help="as in convert_annoset")
    for flag in ("min-dim", "max-dim", "resize-height", "resize-width"):
        parser.add_argument(f"--{flag}", type=int, default=0, help="as in convert_annoset")
    return parser


def _run(args: argparse.Namespace) -> None:
    check_backend(args.backend)
    root = os.path.join(args.root, "")
    if not os.path.isdir(root):
        raise FileError(f"the root folder {root} does not exist")
    detection = args.anno_type == "detection"
    lines = read_list(args.listfile, detection=detection, lenient=args.lenient)
    if not lines:
        raise DataError(f"{args.listfile} names no image")
    if detection and not os.path.exists(root + lines[0][1]):
        raise DataError(f"{args.listfile}: the annotation {root}{lines[0][1]} does not exist")
    names: Mapping[str, int] = {}
    if detection:
        names = read_label_map(args.label_map_file, unique_names=args.check_label).name_to_label
    if args.shuffle:
        lines = shuffled(lines, None)
    options = _options(args, root, names)
    Path(args.outdir).absolute().parent.mkdir(parents=True, exist_ok=True)
    check_target(args.outdir, replace=args.redo)
    convert(lines, args.outdir, options, replace=args.redo)
    link_database(args.outdir, args.exampledir)


def _options(
    args: argparse.Namespace, root: str, name_to_label: Mapping[str, int]
) -> ConvertOptions:
    return ConvertOptions(
        root=root,
        detection=args.anno_type == "detection",
        label_type=args.label_type,
        name_to_label=name_to_label,
        image=ImageOptions(
            gray=args.gray,
            height=max(0, args.resize_height),
            width=max(0, args.resize_width),
            min_dim=max(0, args.min_dim),
            max_dim=max(0, args.max_dim),
            encoded=args.encoded,
            encode_type=args.encode_type,
        ),
        check_size=args.check_size,
        rules=reading_rules(repair_xml=args.repair_xml, as_original=args.as_original),
        lenient=args.lenient,
    )


if __name__ == "__main__":
    sys.exit(main())
