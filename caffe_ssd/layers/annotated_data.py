"""AnnotatedData: batches of augmented images and their boxes, from a database of convert_annoset.

Spec: ssd-layers.md section 8, ssd-data.md section 4.
Quirk: the number of rows of the label changes from batch to batch.
Quirk: where the first record has no `type` and anno_type is not set, the label is the class.
Quirk: annotated_data_param.label_map_file is not read, data_param.rand_skip is ignored.
"""

from __future__ import annotations

from caffe_ssd.data.batches import LabelKind
from caffe_ssd.data.records import open_source
from caffe_ssd.data.samples import (
    LABEL_COLUMNS,
    is_detection_record,
    parse_classification,
    parse_detection,
)
from caffe_ssd.data.transform import Transform
from caffe_ssd.errors import DataError
from caffe_ssd.layers.data import RecordLayer, build_record_layer
from caffe_ssd.layers.registry import LayerSpec, register_layer


@register_layer("AnnotatedData", bottoms=0, tops=range(1, 3))
def _build(spec: LayerSpec) -> RecordLayer:
    param, annotated = spec.param, spec.param.annotated_data_param
    source = open_source(param.data_param)
    transform = Transform.from_param(
        param.transform_param,
        is_train=spec.is_train,
        batch_samplers=annotated.batch_sampler,
        recompress=spec.runtime.jpeg_roundtrip,
    )
    try:
        has_boxes = annotated.HasField("anno_type") or is_detection_record(source.first())
    except DataError as error:
        raise DataError(f"{source.where(0)} {error}") from None
    return build_record_layer(
        spec,
        source=source,
        parse=parse_detection if has_boxes else parse_classification,
        transform=transform,
        label=LabelKind.BOXES if has_boxes else LabelKind.CLASS,
        label_shape=(1, 1, 1, LABEL_COLUMNS) if has_boxes else (param.data_param.batch_size,),
    )
