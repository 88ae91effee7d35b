"""`caffe evaluate`: score result files, or pack them for an evaluation server.

An addition to the reference's actions. It takes what DetectionOutput saved, or what another tool
wrote in the same formats, and annotations from XML files, a COCO file or a database.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from caffe_ssd.cli.flags import ActionParser
from caffe_ssd.data.records import LmdbSource
from caffe_ssd.desk.console import show
from caffe_ssd.errors import UsageError
from caffe_ssd.evaluate.annotations import (
    categories_of,
    read_coco_annotations,
    read_image_list,
    read_lmdb_annotations,
    read_voc_annotations,
)
from caffe_ssd.evaluate.result_reader import read_results
from caffe_ssd.evaluate.results import read_name_sizes
from caffe_ssd.evaluate.submission import pack
from caffe_ssd.evaluate.test_set import TestSet
from caffe_ssd.proto.label_map import LabelMap, read_label_map
from caffe_ssd.scoring.protocols import PROTOCOLS, read_protocols, score
from caffe_ssd.scoring.tables import format_scores, scores_to_dict, write_json

DESCRIPTION = """\
Score result files by the reference's way of counting and by the official protocols of VOC and COCO.
RESULTS is a folder of VOC files (comp4_det_test_CLASS.txt), a .json file of COCO, or a .txt file of
ILSVRC."""
EXAMPLES = """\
  caffe evaluate results/ -annotations VOC2007/Annotations \\
      -image_list VOC2007/ImageSets/Main/test.txt -protocol voc2007
  caffe evaluate detections_minival_mine_results.json -annotations instances_minival2014.json
  caffe evaluate results/ -lmdb test_lmdb -label_map labelmap_voc.prototxt \\
      -name_size_file test_name_size.txt -protocol reference,voc2007 -json scores.json
  caffe evaluate results/ -label_map labelmap_voc.prototxt -pack results.tar.gz"""


def run(arguments: list[str]) -> int:
    """Run the action; returns the exit status."""
    args = _parse(arguments)
    label_map = None if args.label_map is None else read_label_map(args.label_map)
    if args.pack is not None:
        categories = [] if label_map is None else list(categories_of(label_map))
        names = pack(args.results, args.pack, categories=categories, prefix=args.prefix)
        show(f"{args.pack}: {len(names)} files, {names[0]} ...")
    if args.annotations is None and args.lmdb is None:
        return 0
    protocols = read_protocols(args.protocol or _fitting(args.results))
    test_set = _test_set(args, label_map)
    found = read_results(args.results, test_set, prefix=args.prefix, label_map=label_map)
    scores = [score(name, test_set, found) for name in protocols]
    show(f"{args.results}: {len(found)} detections on {len(test_set.images)} images\n")
    show(format_scores(test_set.categories, scores, test_set.num_objects()))
    if args.json is not None:
        write_json(args.json, scores_to_dict(test_set.categories, scores, test_set))
    return 0


def _fitting(results: Path) -> list[str]:
    """The protocols one expects for a format."""
    return ["coco"] if results.suffix == ".json" else ["reference", "voc2007", "voc2012"]


def _test_set(args: argparse.Namespace, label_map: LabelMap | None) -> TestSet:
    sizes = None if args.name_size_file is None else read_name_sizes(args.name_size_file)
    if args.lmdb is not None:
        if label_map is None or sizes is None:
            raise UsageError(
                "-lmdb needs -label_map and -name_size_file: a database knows neither the names "
                "of its classes nor those of its images"
            )
        return read_lmdb_annotations(LmdbSource(args.lmdb), label_map, sizes)
    if args.annotations.is_file():
        return read_coco_annotations(args.annotations)
    if args.image_list is not None and sizes is not None:
        raise UsageError("-image_list and -name_size_file exclude each other: both list the images")
    if args.image_list is not None:
        images = read_image_list(args.image_list)
    elif sizes is not None:
        images = [size.name for size in sizes]
    else:
        raise UsageError(
            "a folder of annotations needs -image_list or -name_size_file, which say what the "
            "test set is"
        )
    categories = None if label_map is None else categories_of(label_map)
    return read_voc_annotations(args.annotations, images, sizes=sizes, categories=categories)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = ActionParser("evaluate", description=DESCRIPTION, examples=EXAMPLES)
    parser.add_argument("results", metavar="RESULTS", type=Path, help="folder or file of results")
    parser.add_reference_flags()
    add = parser.add_flag
    add(
        "annotations",
        type=Path,
        metavar="DIR|FILE",
        help="folder of VOC's XML files, or a COCO annotation file",
    )
    add("image_list", metavar="FILE", help="images of the test set, for a folder of XML files")
    add("lmdb", metavar="DB", help="take the objects of this database instead of -annotations")
    add("label_map", metavar="FILE", help="classes to score, a label map in prototxt")
    add("name_size_file", metavar="FILE", help="names and sizes of the test set's images")
    add("prefix", metavar="TEXT", help="beginning of the VOC files' names (comp4_det_test_)")
    add(
        "protocol",
        action="append",
        metavar="NAME,...",
        help=f"{', '.join(PROTOCOLS)}; may be repeated (coco for .json, else all others)",
    )
    add("json", metavar="FILE", help="also write the scores as JSON")
    add("pack", type=Path, metavar="FILE", help="pack the results for the VOC or COCO server")
    args = parser.parse_action(arguments)
    sources = [each for each in (args.annotations, args.lmdb) if each is not None]
    if len(sources) == 2:
        raise UsageError("-annotations and -lmdb exclude each other: one truth is enough")
    if not sources and args.pack is None:
        raise UsageError("-annotations or -lmdb is missing: what the results are compared with")
    return args
