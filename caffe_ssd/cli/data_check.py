"""`caffe data check`: what is in a data set, and what is wrong with it.

Exit status 0 where nothing is wrong or there are warnings only, 1 where there are errors.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from caffe_ssd.cli.data_sources import add_format_flag, read_sources
from caffe_ssd.cli.flags import ActionParser, add_lenient_flag
from caffe_ssd.datasets import Dataset, Finding, check, priors_of_net
from caffe_ssd.datasets.dataset import ERROR, SEVERITIES, TEST, TRAIN
from caffe_ssd.datasets.prior_checks import box_sizes, size_class, size_names
from caffe_ssd.desk.console import show
from caffe_ssd.errors import UsageError, plural
from caffe_ssd.files import atomic_write
from caffe_ssd.proto.text import read_net
from caffe_ssd.report.data_page import data_page

DESCRIPTION = """\
Say what is in a data set and what is wrong with it: a folder of pictures and annotations in any
format that is known (VOC, COCO, YOLO, CVAT, LabelMe, CSV), an LMDB, or the two LMDBs of training
and testing.

With -model, the priors of that net are compared with the objects. The exit status is 1 if there
are errors, 0 if there are warnings only."""
EXAMPLES = """\
  caffe data check my_pictures
  caffe data check my_pictures -model train.prototxt -output check.html
  caffe data check trainval_lmdb test_lmdb -label_map labelmap.prototxt"""

_SHOWN = 3


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    priors = None
    if args.model:
        priors = priors_of_net(read_net(args.model, lenient=args.lenient))
    dataset = read_sources(args.source, args.format, args.label_map)
    findings = check(dataset, priors)
    if args.output:
        atomic_write(args.output, data_page(dataset, findings, priors))
    show("\n".join([*_summary(dataset), "", *_listed(findings, everything=args.all)]))
    if args.output:
        show(f"Wrote {args.output}")
    return int(any(finding.severity == ERROR for finding in findings))


def _summary(dataset: Dataset) -> Iterator[str]:
    yield f"{dataset.root}: {dataset.reason}"
    counts = dataset.boxes_of_class()
    parts = (TRAIN, TEST) if dataset.is_split else ("",)
    split = ", ".join(f"{len(dataset.part(part))} to {part}" for part in parts if part)
    yield (
        f"{plural(len(dataset.pictures), 'picture')}{f' ({split})' if split else ', not divided'}, "
        f"{plural(sum(counts.values()), 'box')}, {plural(len(dataset.classes), 'class')}"
    )
    yield ""
    rows = [["class", *(f"to {part}" if part else "boxes" for part in parts)]]
    per_part = [
        Counter(box.category for picture in dataset.part(part) for box in picture.boxes)
        for part in parts
    ]
    rows += [[name, *(str(each[name]) for each in per_part)] for name in dataset.classes]
    yield from _aligned(rows)
    _, sizes = box_sizes(dataset)
    groups = Counter(size_class(sizes).tolist())
    yield ""
    yield from _aligned(
        [
            ["size (root of the share of the area)", "boxes"],
            *([name, str(groups[i])] for i, name in enumerate(size_names()) if groups[i]),
        ]
    )


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for first, *rest in rows:
        cells = [text.rjust(width) for text, width in zip(rest, widths[1:], strict=True)]
        yield "  ".join([first.ljust(widths[0]), *cells])


def _listed(findings: Sequence[Finding], *, everything: bool) -> Iterator[str]:
    for finding in findings:
        yield f"{finding.severity + ':':<9}{finding.text} [{finding.kind}]"
        shown = finding.where if everything else finding.where[:_SHOWN]
        yield from (f"           {name}" for name in shown)
        if len(finding.where) > len(shown):
            yield f"           ... and {len(finding.where) - len(shown)} more"
    counts = Counter(finding.severity for finding in findings)
    numbers = {each: counts[each] for each in SEVERITIES}
    yield ", ".join(f"{n} {each}{'s' if n != 1 else ''}" for each, n in numbers.items())


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("data check", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("source", metavar="FOLDER|LMDB", nargs="+", help="the data set")
    parser.add_flag("model", help="a net's prototxt; its priors are compared with the objects")
    parser.add_flag("output", help="page to write, a single .html file with pictures")
    add_format_flag(parser)
    parser.add_flag("label_map", help="names of an LMDB's classes (default: the one beside it)")
    parser.add_switch("all", help="name every file of a finding, not only the first ones")
    add_lenient_flag(parser)
    args = parser.parse_action(arguments)
    if args.output and Path(args.output).suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"-output is {args.output!r}; the page's name must end in .html")
    return args
