"""PriorBox with `offset_w` and `offset_h`: several centres in a cell.

Spec: other-forks.md section 11.2. From julimueller's tl_ssd.
Quirk: every offset_w goes with every offset_h. OpenCV has fields of these names that are pairs.
Quirk: only the ratios given are used: there is no square unless it is asked for by size, and
max_size is counted, not used.
"""

from __future__ import annotations

import math

import numpy as np

from caffe_ssd.boxes.priors import expand_ratios
from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.prior_box import PriorBox, check_sizes, prior_box
from caffe_ssd.layers.registry import LayerSpec, register_layer
from caffe_ssd.proto.caffe_pb2 import LayerParameter, PriorBoxParameter


def _is_meant(param: LayerParameter) -> bool:
    return bool(param.prior_box_param.offset_w or param.prior_box_param.offset_h)


def _sizes(param: PriorBoxParameter) -> list[tuple[float, float]]:
    """Widths and heights in pixels for one centre."""
    check_sizes(param)
    if not param.aspect_ratio:
        raise LayerParamError("aspect_ratio is missing: with offset_w and offset_h none is implied")
    if any(ratio == 1 for ratio in param.aspect_ratio):
        raise LayerParamError("aspect_ratio 1 leaves priors unset with offset_w and offset_h")
    roots = [math.sqrt(ratio) for ratio in expand_ratios(param.aspect_ratio, flip=param.flip)[1:]]
    sizes = [(int(low) * root, int(low) / root) for low in param.min_size for root in roots]
    return [(float(np.float32(width)), float(np.float32(height))) for width, height in sizes]


@register_layer("PriorBox", bottoms=2, when=_is_meant, told_by="offset_w and offset_h")
def _build(spec: LayerSpec) -> PriorBox:
    param = spec.param.prior_box_param
    for name in ("offset_w", "offset_h"):
        values = list(getattr(param, name))
        if not values:
            raise LayerParamError("offset_w and offset_h must be given together")
        if any(not 0 <= value <= 1 for value in values):
            raise LayerParamError(f"{name} must be from 0 to 1, got {values}")
    if param.HasField("offset"):
        raise LayerParamError("give either offset or offset_w and offset_h")
    sizes = _sizes(param)
    centers = [(down, across) for across in param.offset_w for down in param.offset_h]
    return prior_box(spec, sizes * len(centers), [center for center in centers for _ in sizes])
