"""Multi-scale testing on a test net's own database.

The net's data layer, DetectionOutput and DetectionEvaluate do their work as in a plain pass; only
what lies between the pictures and the detections is run once per size and mirrored. So scores,
protocols and result files are made as always. A single look gives the plain result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import torch
from torch import Tensor

from caffe_ssd.data.batches import BatchReader
from caffe_ssd.data.loader import BatchLoader
from caffe_ssd.data.sizes import at_sizes, resize_of
from caffe_ssd.errors import UsageError
from caffe_ssd.layers.data import RecordLayer
from caffe_ssd.layers.detection_evaluate import DetectionEvaluate
from caffe_ssd.layers.detection_output import DetectionOutput, detection_rows
from caffe_ssd.layers.registry import Layer
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.net import Net, NetResult
from caffe_ssd.net.part import NetPart
from caffe_ssd.net.plan import Step
from caffe_ssd.proto.caffe_pb2 import ResizeParameter
from caffe_ssd.scoring.multi_scale import MultiScaleRule
from caffe_ssd.scoring.whole_set import record_readers

_Kind = TypeVar("_Kind", bound=Layer)


def own_size(net: Net) -> tuple[int, int]:
    """(height, width) to which the net's data layer brings pictures.

    Raises:
        UsageError: it does not read pictures from a database, or cannot bring them to other sizes.
    """
    _, reader = _only_reader(net)
    resize = resize_of(reader.transform)
    return resize.height, resize.width


class MultiScalePasses:
    """Passes over a test net's records, each batch at several sizes.

    Result files are saved here rather than by the net's DetectionOutput layer, which would save
    every look.

    Args:
        net: a detector that reads a database.
        rule: the looks.

    Raises:
        UsageError: the net is another, or its data layer cannot make one of the sizes.
        NetError: the net does not take one of them.
    """

    def __init__(self, net: Net, rule: MultiScaleRule) -> None:
        self._rule = rule
        self._own_size = own_size(net)
        self._data, reader = _only_reader(net)
        self._output, output_step = _only(net, DetectionOutput)
        self._judge, judge_step = (None, None)
        if any(isinstance(layer, DetectionEvaluate) for layer in net.layers):
            self._judge, judge_step = _only(net, DetectionEvaluate)
        self._found_name, self._judged_name = (
            net.blob_names[step.tops[0].blob] if step is not None else ""
            for step in (output_step, judge_step)
        )
        self._check_outputs(net)
        data_step = net.steps[net.layers.index(self._data)]
        self._part = NetPart(net, fed=data_step.tops[0], wanted=output_step.tops[0])
        self._check_sizes(reader)
        others = [size for size in rule.sizes if size != self._own_size]
        self._others = BatchLoader(at_sizes(reader, others), workers=net.runtime.data_workers)
        self._writer, self._output.writer = self._output.writer, None

    def forward(self) -> NetResult:
        """The next pass: the outputs of the plain net, for the merged detections."""
        made = self._data()
        data, label = (made, None) if isinstance(made, Tensor) else made
        rows = self._rule.detections(self._part, self._sizes_of(data))
        if self._writer is not None:
            self._writer.add(rows.float().cpu().numpy(), len(data))
        found = detection_rows(rows, len(data))
        blobs = {self._found_name: found}
        if self._judge is not None:
            context = RunContext(device=found.device, batch_size=len(data))
            blobs[self._judged_name] = self._judge(found, label, context=context)
        return NetResult(loss=torch.zeros(()), blobs=blobs)

    def _sizes_of(self, data: Tensor) -> Iterator[Tensor]:
        """The next batch, which is `data` at the net's own size, at each size.

        Where the records end `data` may be shorter than what the reader of the others gives.
        """
        has_others = any(size != self._own_size for size in self._rule.sizes)
        others = iter(self._others.next() if has_others else ())
        for size in self._rule.sizes:
            yield data if size == self._own_size else next(others)[: len(data)]

    def _check_sizes(self, reader: BatchReader) -> None:
        if resize_of(reader.transform).mode == ResizeParameter.FIT_SMALL_SIZE:
            return  # every picture has its own size
        channels = self._data.shapes[0][1]
        for size in self._rule.sizes:
            self._part.check_size((reader.batch_size, channels, *size))

    def _check_outputs(self, net: Net) -> None:
        for name in net.outputs:
            if name not in (self._found_name, self._judged_name):
                raise UsageError(
                    f"several scales and mirrored pictures give detections only, but the net has "
                    f"the output {name!r}, too; consume it with a Silence layer"
                )


def _only_reader(net: Net) -> tuple[RecordLayer, BatchReader]:
    readers = list(record_readers(net))
    if len(readers) != 1:
        raise UsageError(
            "several scales and mirrored pictures need a net with one layer that reads a database; "
            f"this one has {len(readers)}"
        )
    return readers[0]


def _only(net: Net, kind: type[_Kind]) -> tuple[_Kind, Step]:
    """The only layer of a kind, and its place."""
    found = [
        (layer, step)
        for layer, step in zip(net.layers, net.steps, strict=True)
        if isinstance(layer, kind)
    ]
    if len(found) != 1:
        raise UsageError(
            f"several scales and mirrored pictures need a net with one {kind.__name__} layer; "
            f"this one has {len(found)}"
        )
    return found[0]
