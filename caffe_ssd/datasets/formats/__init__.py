"""The formats of annotations, one file each: `FORMATS`."""

from __future__ import annotations

from collections.abc import Mapping

from caffe_ssd.datasets.formats import coco, cvat, labelme, tables, voc, yolo
from caffe_ssd.datasets.formats.entries import Entry, Format, Reading

FORMATS: Mapping[str, Format] = {
    each.name: each
    for each in (voc.VOC, coco.COCO, yolo.YOLO, cvat.CVAT, labelme.LABELME, tables.CSV)
}

__all__ = ["FORMATS", "Entry", "Format", "Reading"]
