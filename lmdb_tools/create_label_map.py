"""create_label_map: a list of class names -> a LabelMap prototxt.

Spec: ssd-data.md section 3.2.
Quirk: a line is cut at every delimiter; two in a row make an empty field between them.
Quirk: a list file that does not exist gives an empty map (here an error).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

from caffe_ssd.data.annotation_files import whole_of
from caffe_ssd.desk.console import run_command
from caffe_ssd.desk.flags import FlagParser
from caffe_ssd.errors import DataError
from caffe_ssd.files import read_text
from caffe_ssd.proto.caffe_pb2 import LabelMap
from caffe_ssd.proto.text import write_text

DESCRIPTION = """\
Turn a list of class names into a LabelMap prototxt.

Each line of MAPFILE is `name`, `name label` or `name label display_name`, all lines alike. Without
labels they are counted from 0, or from 1 behind the background."""
EXAMPLES = """\
  create_label_map -delimiter=, -include_background data/coco/labels.txt labelmap_coco.prototxt"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return run_command(_run, "create_label_map", argv)


def label_map_from_lines(
    lines: Sequence[str],
    *,
    delimiter: str = " ",
    include_background: bool = False,
    source: str = "<lines>",
) -> LabelMap:
    """Build a label map from lines of one to three fields.

    Args:
        lines: `name`, `name label` or `name label display_name`, all alike.
        delimiter: each of its characters ends a field.
        include_background: begin with item 0.
        source: where the lines come from, for errors.

    Raises:
        DataError: a line with another number of fields, or a label that is no number.
    """
    labels = LabelMap()
    if include_background:
        labels.item.add(name="none_of_the_above", label=0, display_name="background")
    cut = re.compile(f"[{re.escape(delimiter)}]") if delimiter else None
    expected = 0
    for number, line in enumerate(lines, 1):
        fields = cut.split(line) if cut else [line]
        expected = len(fields) if number == 1 else expected
        if len(fields) != expected or expected > 3:
            wanted = "1 to 3" if expected > 3 else f"{expected} as in the first line"
            raise DataError(
                f"{source}:{number}: {len(fields)} fields in {line!r}; need {wanted} "
                f"(cut at each of {delimiter!r})"
            )
        name = fields[0]
        label = _label(fields[1], f"{source}:{number}") if expected > 1 else len(labels.item)
        shown = fields[2] if expected == 3 else name
        labels.item.add(name=name, label=label, display_name=shown)
    return labels


def _run(argv: Sequence[str]) -> None:
    parser = FlagParser("create_label_map", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("map_file", metavar="MAPFILE", help="the list of classes")
    parser.add_argument("out_file", metavar="OUTFILE", help="the label map to write")
    parser.add_flag(
        "delimiter", default=" ", help="each of these characters ends a field (a space)"
    )
    parser.add_switch(
        "include_background",
        help="begin with item 0, none_of_the_above, shown as background",
    )
    args = parser.parse_flags(argv)
    lines = read_text(args.map_file).splitlines()
    labels = label_map_from_lines(
        lines,
        delimiter=args.delimiter,
        include_background=args.include_background,
        source=args.map_file,
    )
    write_text(args.out_file, labels)


def _label(text: str, where: str) -> int:
    label = whole_of(text)
    if label is None:
        raise DataError(f"{where}: the label {text[:40]!r} is no whole number of 32 bits")
    return label


if __name__ == "__main__":
    sys.exit(main())
