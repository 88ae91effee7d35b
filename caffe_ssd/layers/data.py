"""Data: batches of images and their classes from a database of Datum records.

Spec: caffe-layers.md section H, ssd-data.md section 4.
Quirk: distort_param, expand_param and the transformation fields inside data_param are ignored.
"""

from __future__ import annotations

import logging

from torch import Tensor

from caffe_ssd.data.batches import BatchReader, LabelKind
from caffe_ssd.data.loader import BatchLoader
from caffe_ssd.data.records import RecordSource, open_source
from caffe_ssd.data.samples import RecordParser, parse_datum
from caffe_ssd.data.transform import Transform
from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.layers.registry import LayerSpec, Shape, SourceLayer, register_layer
from caffe_ssd.layers.run_context import RunContext
from caffe_ssd.proto.caffe_pb2 import ResizeParameter

_log = logging.getLogger(__name__)


class RecordLayer(SourceLayer):
    """A layer whose tops are the batches of a reader.

    Args:
        loader: reads the batches.
        shapes: of the tops, before the first batch.
        boxes_top: see `SourceLayer`.
    """

    takes_context = True

    def __init__(
        self, loader: BatchLoader, shapes: tuple[Shape, ...], boxes_top: int | None = None
    ) -> None:
        super().__init__()
        self.loader = loader
        self.shapes = shapes
        self.boxes_top = boxes_top

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return self.shapes

    def forward(self, context: RunContext | None = None) -> Tensor | tuple[Tensor, ...]:
        batch = self.loader.next(None if context is None else context.device)
        return batch if len(batch) > 1 else batch[0]

    def seek(self, batch: int) -> None:
        self.loader.seek(batch)

    def start(self) -> None:
        self.loader.start()

    def read_ahead(self, batches: int) -> None:
        self.loader.ahead = max(self.loader.ahead, batches)


def build_record_layer(
    spec: LayerSpec,
    *,
    source: RecordSource,
    parse: RecordParser,
    transform: Transform,
    label: LabelKind,
    label_shape: Shape,
    reader_thread: bool = True,
) -> RecordLayer:
    """The layer for records; looks at the first one to know the shape of the data.

    Args:
        spec: the layer's message and surroundings.
        source: the records.
        parse: reads a record.
        transform: what happens to it.
        label: kind of the second top, where there is one.
        label_shape: shape of that top before the first batch.
        reader_thread: the reference reads the records in a thread of its own, which takes a seed.

    Raises:
        DataError: the first record is wrong.
        LayerParamError: the batch size is.
    """
    batch_size = _batch_size(spec, transform)
    record = source.first()
    try:
        first = parse(record)
        shape = transform.output_shape(first)
    except DataError as error:
        raise DataError(f"{source.where(0)} {error}") from None
    if transform.distort is not None and not first.datum.encoded:
        _log.warning("layer %r: images that are not encoded are not distorted", spec.param.name)
    runtime = spec.runtime
    # The reference's transformer takes a seed, and one more right before the prefetch thread takes
    # its own, which is `seed` here. Initial values of later layers depend on how many are drawn.
    draw_transformer_seed(spec, transform)
    draw_transformer_seed(spec, transform)
    if reader_thread:
        runtime.rng.word()
    reader = BatchReader(
        source=source,
        parse=parse,
        transform=transform,
        label=label if spec.num_tops > 1 else LabelKind.NONE,
        batch_size=batch_size,
        seed=runtime.rng.word(),
        # A test set is read by one device only.
        rank=runtime.rank if spec.is_train else 0,
        world_size=runtime.world_size if spec.is_train else 1,
    )
    loader = BatchLoader(reader, workers=runtime.data_workers)
    shapes = ((batch_size, *shape), label_shape)[: spec.num_tops]
    boxes_top = 1 if reader.label is LabelKind.BOXES else None
    layer = RecordLayer(loader, shapes, boxes_top)
    layer.identity = b"%d " % len(source) + record
    return layer


def draw_transformer_seed(spec: LayerSpec, transform: Transform) -> None:
    """Draw what the reference seeds mirroring and cropping with, though nothing here uses it."""
    if transform.mirror or (spec.is_train and transform.crop_size is not None):
        spec.runtime.rng.word()


def _batch_size(spec: LayerSpec, transform: Transform) -> int:
    batch_size = spec.param.data_param.batch_size
    if batch_size == 0:
        raise LayerParamError("data_param.batch_size must be > 0")
    resize = transform.resize
    if resize is not None and resize.mode == ResizeParameter.FIT_SMALL_SIZE and batch_size != 1:
        raise LayerParamError(
            "resize_mode FIT_SMALL_SIZE gives every image its own size, so data_param.batch_size "
            f"must be 1, got {batch_size}"
        )
    return batch_size


@register_layer("Data", bottoms=0, tops=range(1, 3))
def _build(spec: LayerSpec) -> RecordLayer:
    param = spec.param
    return build_record_layer(
        spec,
        source=open_source(param.data_param),
        parse=parse_datum,
        transform=Transform.from_param(
            param.transform_param, is_train=spec.is_train, augment=False
        ),
        label=LabelKind.CLASS,
        label_shape=(param.data_param.batch_size,),
    )
