"""Reads the truth about a test set: VOC's XML files, COCO's JSON file, or an LMDB.

Source: the VOC development kit (one XML per image), cocodataset.org (data format), spec ssd-data.md
sections 1 and 2 (records).

An XML file is read as VOC's tools read it: decimals stay, and `difficult` counts wherever it stands
in its object. Records made by convert_annoset have lost the flag where the reference loses it.
A test set without one object is refused: nothing can be scored with it.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from caffe_ssd.data.annotation_files import AnnotationFile, ReadingRules, read_annotation_file
from caffe_ssd.data.records import RecordSource
from caffe_ssd.data.samples import Annotations, parse_detection
from caffe_ssd.documents import parse_json
from caffe_ssd.errors import DataError
from caffe_ssd.evaluate.results import ImageSize
from caffe_ssd.evaluate.test_set import AnnotatedObject, TestSet, make_test_set
from caffe_ssd.files import read_bytes, read_text
from caffe_ssd.proto.label_map import LabelMap

logger = logging.getLogger(__name__)

BACKGROUND = 0
_PICTURE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_AS_MEANT = ReadingRules(late_difficult=True)
_DECIMALS_PX = 2  # of a coordinate that was divided by the image's size, as float32


def categories_of(label_map: LabelMap) -> dict[str, str]:
    """Names of a label map and how to show them, without the background."""
    shown = label_map.label_to_display_name
    return {
        name: shown[label] for label, name in label_map.label_to_name.items() if label != BACKGROUND
    }


def read_image_list(path: str | os.PathLike[str]) -> list[str]:
    """Names of images: the first word of each line, without folder and picture ending.

    Takes the lists of `ImageSets/Main`, those of convert_annoset and name-size files.

    Raises:
        FileError: the file cannot be read.
        DataError: it names no image.
    """
    words = [line.split()[0] for line in read_text(path).splitlines() if line.strip()]
    if not words:
        raise DataError(f"{path}: no names of images")
    return [_name_of(word) for word in words]


def read_voc_annotations(
    folder: str | os.PathLike[str],
    images: Sequence[str],
    *,
    sizes: Sequence[ImageSize] | None = None,
    categories: Mapping[str, str] | None = None,
) -> TestSet:
    """Read the XML files `<folder>/<image>.xml`.

    Args:
        folder: where they are.
        images: the test set.
        sizes: of the images; None takes what the files say.
        categories: name -> name to show; None takes every class that occurs, by alphabet.

    Raises:
        FileError: a file cannot be read.
        DataError: a file is damaged or lacks something that is needed.
    """
    found_sizes: list[ImageSize] = []
    objects: list[AnnotatedObject] = []
    for image in images:
        path = Path(folder) / f"{image}.xml"
        file = read_annotation_file(path, label_type="xml", rules=_AS_MEANT)
        objects += _file_objects(file, image)
        if sizes is None:
            found_sizes.append(_size_of(file, image))
    _check_any(objects, os.fspath(folder))
    names = sorted({each.category for each in objects})
    if categories is None:
        categories = {name: name for name in names}
    elif strangers := [name for name in names if name not in categories]:
        logger.warning("classes of %s that are not scored: %s", folder, ", ".join(strangers))
    return make_test_set(found_sizes if sizes is None else sizes, categories, objects)


def read_coco_annotations(path: str | os.PathLike[str]) -> TestSet:
    """Read an annotation file of a COCO data set; crowds count as difficult.

    Raises:
        FileError: the file cannot be read.
        DataError: it is no such file.
    """
    content = parse_json(read_bytes(path), os.fspath(path))
    try:
        images = [
            ImageSize(name=str(each["id"]), height=int(each["height"]), width=int(each["width"]))
            for each in sorted(content["images"], key=lambda each: each["id"])
        ]
        categories = {str(each["id"]): str(each["name"]) for each in content["categories"]}
        objects = [_coco_object(each) for each in content["annotations"]]
    except (ValueError, TypeError, KeyError, OverflowError, AttributeError) as error:
        raise DataError(
            f"{path}: not an annotation file of COCO: {type(error).__name__} {error}; it needs "
            "images, categories and annotations"
        ) from error
    known = {image.name for image in images}
    for each in objects:
        if each.image not in known or each.category not in categories:
            raise DataError(
                f"{path}: an annotation has image_id {each.image} and category_id {each.category}, "
                "which are not both listed"
            )
    test_set = make_test_set(images, categories, objects)
    _check_any(objects, os.fspath(path))
    return test_set


def read_lmdb_annotations(
    source: RecordSource, label_map: LabelMap, sizes: Sequence[ImageSize] | None = None
) -> TestSet:
    """Read the boxes of a database made by convert_annoset.

    Args:
        source: its records.
        label_map: names of its labels.
        sizes: of the images, in the order of the records. None takes the size of the stored
            pictures, and numbers as names.

    Raises:
        DataError: records and sizes differ in number, a record is no detection record, or a label
            is not in the map.
    """
    if sizes is not None and len(sizes) != len(source):
        raise DataError(
            f"the database has {len(source)} records, but the name-size file {len(sizes)} lines; "
            "it must list the images of the database in their order"
        )
    images: list[ImageSize] = []
    objects: list[AnnotatedObject] = []
    for index in range(len(source)):
        try:
            sample = parse_detection(source[index])
            if sizes is None:
                datum = sample.datum
                image = ImageSize(name=str(index), height=datum.height, width=datum.width)
            else:
                image = sizes[index]
            objects += _record_objects(sample.annotations, image, label_map.label_to_name)
        except DataError as error:
            raise DataError(f"{source.where(index)} {error}") from None
        images.append(image)
    _check_any(objects, "the database")
    return make_test_set(images, categories_of(label_map), objects)


def _check_any(objects: Iterable[object], source: str) -> None:
    if not any(True for _ in objects):
        raise DataError(f"{source}: no annotated object at all, so nothing can be scored")


def _size_of(file: AnnotationFile, image: str) -> ImageSize:
    if file.size is None or min(file.size) <= 0:
        raise DataError(f"{file.path}: no size of the image; a name-size file can give it")
    return ImageSize(name=image, height=file.size[0], width=file.size[1])


def _file_objects(file: AnnotationFile, image: str) -> Iterator[AnnotatedObject]:
    if file.faults:
        raise DataError(file.faults[0])
    for box in file.boxes:
        yield AnnotatedObject(
            image=image,
            category=box.category,
            x_px=box.xmin_px,
            y_px=box.ymin_px,
            width_px=box.xmax_px - box.xmin_px,
            height_px=box.ymax_px - box.ymin_px,
            is_difficult=box.is_difficult,
        )


def _coco_object(item: Mapping[str, Any]) -> AnnotatedObject:
    x, y, width, height = (float(value) for value in item["bbox"])
    numbers = [x, y, width, height, float(item.get("area", 0)), float(item.get("iscrowd", 0))]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"bbox {item['bbox']}, area or iscrowd is not finite")
    return AnnotatedObject(
        image=str(item["image_id"]),
        category=str(item["category_id"]),
        x_px=x,
        y_px=y,
        width_px=width,
        height_px=height,
        is_difficult=float(item.get("iscrowd", 0)) != 0,
        area_px=float(item["area"]) if "area" in item else None,
    )


def _record_objects(
    annotations: Annotations, image: ImageSize, names: Mapping[int, str]
) -> Iterator[AnnotatedObject]:
    size = np.array([image.width, image.height] * 2, np.float64)
    corners = np.round(annotations.boxes.astype(np.float64) * size, _DECIMALS_PX)
    rows = zip(
        corners.tolist(), annotations.labels.tolist(), annotations.difficult.tolist(), strict=True
    )
    for (xmin, ymin, xmax, ymax), label, is_difficult in rows:
        if label not in names:
            raise DataError(f"has an object of label {label}, which is not in the label map")
        yield AnnotatedObject(
            image=image.name,
            category=names[label],
            x_px=xmin,
            y_px=ymin,
            width_px=xmax - xmin,
            height_px=ymax - ymin,
            is_difficult=is_difficult,
        )


def _name_of(word: str) -> str:
    path = PurePosixPath(word)
    return path.stem if path.suffix.lower() in _PICTURE_ENDINGS else path.name
