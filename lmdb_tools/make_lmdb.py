"""Makes the train and the test LMDB of a data set in one go: lists (if there are none), databases,
links to them.

Spec: ssd-data.md section 3.5.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from caffe_ssd.data.annotation_files import ReadingRules
from caffe_ssd.desk.console import run_command
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import FileError
from caffe_ssd.proto.label_map import read_label_map
from lmdb_tools.annoset import ConvertOptions, convert, read_list, reading_rules
from lmdb_tools.create_annoset import link_database
from lmdb_tools.database import check_target
from lmdb_tools.images import ImageOptions
from lmdb_tools.layouts import LAYOUTS, DataLayout
from lmdb_tools.make_lists import EPILOG, lists_folder, make_lists

logger = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

EXAMPLES = """\
  python -m lmdb_tools.make_lmdb -layout voc0712 ~/data/VOCdevkit
      writes data/VOC0712/{trainval,test,test_name_size}.txt and
      ~/data/VOCdevkit/VOC0712/lmdb/VOC0712_{trainval,test}_lmdb, and links to them in
      examples/VOC0712
  python -m lmdb_tools.make_lmdb -layout voc my_pictures -lists my_lists -out .
      writes my_lists/ with a label map, and my_lists_trainval_lmdb, my_lists_test_lmdb

"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "make_lmdb", argv)


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser(
        "python -m lmdb_tools.make_lmdb",
        description="Make the train and test LMDBs of a data set.",
        examples=EXAMPLES + EPILOG[EPILOG.index("layouts") :],
    )
    parser.add_argument("root", help="the folder that holds the data set")
    parser.add_flag("layout", required=True, choices=LAYOUTS, help="see below")
    parser.add_flag("lists", help="folder of the lists (default: the layout's, in data/)")
    parser.add_flag("out", help="folder for the databases (default: ROOT/<name>/lmdb)")
    parser.add_flag("link", help="folder for links to them (default: examples/<name>)")
    parser.add_switch("no_link", help="make no links")
    parser.add_flag("label_map", help="default: the layout's, in the folder of the lists")
    parser.add_flag("seed", type=int, default=0, help="order of the train list (%(default)s)")
    parser.add_switch("redo", help="replace old databases")
    for switch in ("repair_xml", "as_original", "lenient"):
        parser.add_switch(switch, help="as in convert_annoset")
    args = parser.parse_flags(argv)
    databases = make_lmdb(
        args.layout,
        args.root,
        lists=args.lists,
        out=args.out,
        label_map=args.label_map,
        seed=args.seed,
        redo=args.redo,
        rules=reading_rules(repair_xml=args.repair_xml, as_original=args.as_original),
        lenient=args.lenient,
    )
    # Layouts without a folder of their own are linked only on request.
    if args.no_link or (args.link is None and not LAYOUTS[args.layout].folder):
        return
    for database in databases:
        name = lists_folder(LAYOUTS[args.layout], args.lists).resolve().name
        link_database(database, args.link if args.link else Path("examples") / name)


def make_lmdb(
    layout: str,
    root: PathLike,
    *,
    lists: PathLike | None = None,
    out: PathLike | None = None,
    label_map: PathLike | None = None,
    seed: int = 0,
    redo: bool = False,
    rules: ReadingRules | None = None,
    lenient: bool = False,
) -> list[Path]:
    """Make the train and the test LMDB of a data set, as the stock scripts do.

    Images keep their JPEG bytes and their size.

    Args:
        layout: a key of LAYOUTS.
        root: the folder that holds the data set.
        lists: folder of the lists, which are made if one is missing; None takes the layout's.
        out: folder for the databases; None takes root/<name of the lists' folder>/lmdb.
        label_map: None takes the layout's.
        seed: of the train list's order.
        redo: replace old databases.
        rules: how annotation files are read.
        lenient: see `ConvertOptions`; test sets whose annotations are not public are always taken
            without them.

    Returns:
        The databases.

    Raises:
        CaffeError: what the lists' and the converter's functions raise.
    """
    plan = LAYOUTS[layout]
    folder = lists_folder(plan, lists)
    map_file = folder / plan.label_map if label_map is None else Path(label_map)
    if plan.folder and not map_file.exists():  # a layout without a folder makes one
        raise FileError(
            f"there is no label map {map_file}; start this in the project's folder or in one that "
            "`caffe examples DIR` has written, or give --label-map"
        )
    target = Path(root) / folder.resolve().name / "lmdb" if out is None else Path(out)
    databases = [target / _database_name(plan, folder, split) for split in plan.splits]
    target.mkdir(parents=True, exist_ok=True)
    for database in databases:
        check_target(database, replace=redo)
    if plan.folder or label_map is not None:
        read_label_map(map_file)  # fails before the lists are made rather than after
    _make_lists_once(layout, root, folder, seed)
    names = read_label_map(map_file, unique_names=True).name_to_label
    options = ConvertOptions(
        root=f"{root}/",
        detection=True,
        label_type=plan.label_type,
        name_to_label=names,
        image=ImageOptions(encoded=True, encode_type="jpg"),
        rules=ReadingRules() if rules is None else rules,
        lenient=lenient,
    )
    for split, database in zip(plan.splits, databases, strict=True):
        lines = read_list(folder / f"{split}.txt", detection=True, lenient=lenient)
        accepted = lenient or (split == plan.test[0] and not plan.test_has_annotations)
        convert(lines, str(database), replace(options, lenient=accepted), replace=redo)
    return databases


def _make_lists_once(layout: str, root: PathLike, folder: Path, seed: int) -> None:
    plan = LAYOUTS[layout]
    if all((folder / f"{split}.txt").exists() for split in plan.splits):
        logger.info("Using the lists in %s.", folder)
    else:
        make_lists(layout, root, folder, seed=seed)


def _database_name(plan: DataLayout, folder: Path, split: str) -> str:
    if plan.databases is not None:
        return plan.databases[split]
    return f"{folder.resolve().name}_{split}_lmdb"


if __name__ == "__main__":
    sys.exit(main())
