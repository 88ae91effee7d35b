"""What a net's classes are called.

Spec: ssd-data.md section 6. The reference's log calls them class1, class2, ...; here their names
are those of the label map that the net itself names: in `save_output_param`, or for its data.
"""

from __future__ import annotations

from collections.abc import Iterator

from caffe_ssd.errors import CaffeError
from caffe_ssd.net import Net
from caffe_ssd.proto.caffe_pb2 import LayerParameter
from caffe_ssd.proto.label_map import read_label_map


def class_names(net: Net) -> dict[int, str]:
    """The names for people of the classes a net detects, by label, without the background.

    A class that no label map names is `class` and its label; nothing for a net that detects none.
    """
    labels = sorted({label for step in net.steps for label in _labels(step.param)})
    named = mapped_names(net)
    return {label: named.get(label, f"class{label}") for label in labels}


def mapped_names(net: Net) -> dict[int, str]:
    """The names for people in the first label map that the net names; empty without one."""
    files = _map_files([step.param for step in net.steps])
    return next((names for names in map(_names, files) if names), {})


def _labels(layer: LayerParameter) -> Iterator[int]:
    """The labels of the classes that a layer tells apart."""
    for field in ("multibox_loss_param", "detection_output_param", "detection_evaluate_param"):
        if layer.HasField(field):
            param = getattr(layer, field)
            yield from (c for c in range(param.num_classes) if c != param.background_label_id)


def _map_files(layers: list[LayerParameter]) -> Iterator[str]:
    for layer in layers:
        yield layer.detection_output_param.save_output_param.label_map_file
    for layer in layers:
        yield layer.annotated_data_param.label_map_file


def _names(path: str) -> dict[int, str]:
    """The names in a label map; nothing if it cannot be read, for the layer does not need it."""
    if not path:
        return {}
    try:
        return dict(read_label_map(path).label_to_display_name)
    except CaffeError:
        return {}
