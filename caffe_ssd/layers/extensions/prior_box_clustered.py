"""PriorBoxClustered: priors of given widths and heights, in pixels.

Spec: other-forks.md section 11.1. From Intel's and OpenVINO's models. A PriorBox with `width` and
`height`, as OpenCV reads it, is the same.
Quirk: sizes are not cut to whole pixels, as PriorBox's are.
"""

from __future__ import annotations

import logging

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.prior_box import PriorBox, prior_box
from caffe_ssd.layers.registry import LayerSpec, register_layer
from caffe_ssd.proto.caffe_pb2 import LayerParameter

logger = logging.getLogger(__name__)

_FOREIGN = ("min_size", "max_size", "aspect_ratio", "offset_w", "offset_h")


def _has_sizes(param: LayerParameter) -> bool:
    return bool(param.prior_box_param.width or param.prior_box_param.height)


def _build(spec: LayerSpec) -> PriorBox:
    param = spec.param.prior_box_param
    given = [name for name in _FOREIGN if getattr(param, name)]
    given += [name for name in ("flip", "denser_prior_boxes") if param.HasField(name)]
    if given:
        raise LayerParamError(f"priors of given width and height take no {', '.join(given)}")
    if not param.width or len(param.width) != len(param.height):
        raise LayerParamError(
            "needs as many height as width, at least one, "
            f"got {len(param.width)} width and {len(param.height)} height"
        )
    for size in (*param.width, *param.height):
        if not size > 0:
            raise LayerParamError(f"width and height must be positive, got {size:g}")
    if not param.HasField("clip"):
        logger.warning(
            "layer %r: clip is not given; false here, but true in OpenVINO and OpenCV",
            spec.param.name,
        )
    return prior_box(spec, tuple(zip(param.width, param.height, strict=True)), param.offset)


register_layer("PriorBoxClustered", bottoms=2)(_build)
register_layer("PriorBox", bottoms=2, when=_has_sizes, told_by="width and height")(_build)
