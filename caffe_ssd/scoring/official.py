"""Official numbers from the pass over the test set that gives the reference's mAP.

The truth comes from the net's database rather than from its label blob, so that nothing of the
input transformation is in it. Each protocol sees the detections as result files of its format hold
them: `caffe evaluate` gives the same numbers for the files that DetectionOutput writes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from caffe_ssd.boxes.image_space import AppliedResize
from caffe_ssd.data.batches import LabelKind
from caffe_ssd.data.records import RecordSource
from caffe_ssd.errors import DataError, UsageError
from caffe_ssd.evaluate.annotations import read_lmdb_annotations
from caffe_ssd.evaluate.result_writer import ResultWriter, result_boxes_px
from caffe_ssd.evaluate.results import ImageSize
from caffe_ssd.evaluate.score import ProtocolScore
from caffe_ssd.evaluate.test_set import Found, TestSet
from caffe_ssd.layers.detection_evaluate import DetectionEvaluate
from caffe_ssd.layers.detection_output import DetectionOutput
from caffe_ssd.net import Net
from caffe_ssd.proto.label_map import LabelMap
from caffe_ssd.scoring.class_names import mapped_names
from caffe_ssd.scoring.protocols import score
from caffe_ssd.scoring.whole_set import record_readers

_LABEL = 1
_NOTHING = -1


class OfficialScores:
    """Listens to a net while every record passes through it once.

    Names and sizes of the images are those of DetectionEvaluate, else those with which
    DetectionOutput saves results, else the sizes of the stored pictures.

    Args:
        net: a test net with one DetectionEvaluate layer and a database with boxes.
        label_map: names of the labels; None takes those of DetectionOutput, or numbers.

    Attributes:
        names: name in result files by label.
        source: the records.
        test_set: the truth.

    Raises:
        UsageError: the net is another.
        DataError: the database does not fit the sizes or the labels.
    """

    def __init__(self, net: Net, label_map: LabelMap | None = None) -> None:
        judge = _only_judge(net)
        self.source, self._batch_size = _records(net)
        writer = _result_writer(net)
        if label_map is None:
            label_map = own_names(net)
        self.names = label_map.label_to_name
        sizes: Sequence[ImageSize] | None = judge.sizes
        if sizes is None and writer is not None:
            sizes = writer.sizes
        self._resize: AppliedResize | None = judge.resize
        if self._resize is None and writer is not None:
            self._resize = writer.resize
        self.test_set: TestSet = read_lmdb_annotations(self.source, label_map, sizes)
        self._parts: list[NDArray[np.float64]] = []
        self._num_seen = 0
        judge.register_forward_pre_hook(self._take)

    def scores(self, protocols: Sequence[str]) -> list[ProtocolScore]:
        """Score what passed so far.

        Args:
            protocols: official ones.
        """
        found = self.found()
        in_voc_files = found.as_in_voc_files()
        return [
            score(name, self.test_set, found if name == "coco" else in_voc_files)
            for name in protocols
        ]

    def found(self) -> Found:
        """The detections of what passed so far."""
        table = np.concatenate([np.empty((0, 7)), *self._parts])
        return Found(
            image=table[:, 0].astype(np.int64),
            category=table[:, 1].astype(np.int64),
            scores=table[:, 2],
            boxes_px=table[:, 3:],
        )

    def _take(self, layer: nn.Module, bottoms: tuple[Tensor, ...]) -> None:
        rows = bottoms[0][0, 0].detach().float().cpu().numpy()
        rows = rows[rows[:, _LABEL] != _NOTHING]
        for item in range(self._batch_size):
            part = rows[rows[:, 0] == item]
            if len(part):
                self._parts.append(self._columns(part, self._num_seen + item))
        self._num_seen += self._batch_size

    def _columns(self, rows: NDArray[np.float32], image: int) -> NDArray[np.float64]:
        """Columns (image, category, score, x, y, width, height), [D, 7]."""
        boxes_px = result_boxes_px(rows[:, 3:], self.test_set.images[image], self._resize)
        index = self.test_set.category_index
        labels = rows[:, _LABEL].astype(np.int64).tolist()
        try:
            categories = [index[self.names[label]] for label in labels]
        except KeyError:
            strange = next(x for x in labels if self.names.get(x) not in index)
            raise DataError(f"label {strange} was detected but is not in the label map") from None
        return np.column_stack(
            [np.full(len(rows), image), np.array(categories), rows[:, 2], boxes_px]
        ).astype(np.float64)


def own_names(net: Net) -> LabelMap:
    """The names of a net's classes.

    In result files they are those with which DetectionOutput saves results, or numbers; for people
    those of any label map that the net names.
    """
    writer = _result_writer(net)
    judges = [layer for layer in net.layers if isinstance(layer, DetectionEvaluate)]
    names = {c: str(c) for judge in judges for c in judge.classes}
    if writer is not None:
        names = dict(writer.names)
    mapped = mapped_names(net)
    shown = {label: mapped.get(label, name) for label, name in names.items()}
    return LabelMap(
        name_to_label={name: label for label, name in names.items()},
        label_to_name=names,
        label_to_display_name=shown,
    )


def _result_writer(net: Net) -> ResultWriter | None:
    for layer in net.layers:
        if isinstance(layer, DetectionOutput) and layer.writer is not None:
            return layer.writer
    return None


def _only_judge(net: Net) -> DetectionEvaluate:
    judges = [layer for layer in net.layers if isinstance(layer, DetectionEvaluate)]
    if len(judges) != 1:
        raise UsageError(
            "an official protocol needs a net with one DetectionEvaluate layer; "
            f"this one has {len(judges)}"
        )
    return judges[0]


def _records(net: Net) -> tuple[RecordSource, int]:
    """The database with the boxes, and how many records make a batch."""
    for _, reader in record_readers(net):
        if reader.label is LabelKind.BOXES:
            return reader.source, reader.batch_size
    raise UsageError(
        "an official protocol needs a net with an AnnotatedData layer, which holds the truth"
    )
