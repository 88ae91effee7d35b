"""WindowData: random windows of images, as R-CNN trains on them, and their classes.

Spec: caffe-layers.md section H; the reading is data/windows.py.
Quirk: scale is that of window_data_param; crop_size, mirror and the mean are those of
    transform_param. Whatever else stands in transform_param is ignored.
Quirk: mirroring takes place in both phases.
Quirk: any crop_mode but "square" is "warp".

On several devices each process draws for itself, as nothing that they share is random.
"""

from __future__ import annotations

import logging

import numpy as np

from caffe_ssd.data.loader import BatchLoader
from caffe_ssd.data.transform import Transform
from caffe_ssd.data.window_list import CHANNELS, read_windows
from caffe_ssd.data.windows import Warp, WindowReader
from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.data import RecordLayer, draw_transformer_seed
from caffe_ssd.layers.registry import LayerSpec, register_layer
from caffe_ssd.proto.caffe_pb2 import LayerParameter

_log = logging.getLogger(__name__)


@register_layer("WindowData", bottoms=0, tops=2)
def _build(spec: LayerSpec) -> RecordLayer:
    _check(spec.param)
    param, side = spec.param.window_data_param, spec.param.transform_param.crop_size
    rng, batch_size = spec.runtime.rng, param.batch_size
    transform = Transform.from_param(
        spec.param.transform_param, is_train=spec.is_train, augment=False
    )
    # The reference draws in this order, and layers built later draw from the same stream.
    draw_transformer_seed(spec, transform)
    seed = rng.word()
    draw_transformer_seed(spec, transform)
    rng.word()  # for the prefetch thread
    reader = WindowReader(
        windows=read_windows(
            param.source,
            root_folder=param.root_folder,
            fg_threshold=param.fg_threshold,
            bg_threshold=param.bg_threshold,
        ),
        warp=Warp(
            crop_size=side,
            context_pad=param.context_pad,
            square=param.crop_mode == "square",
        ),
        mean=transform.mean,
        scale=param.scale,
        mirror=transform.mirror,
        batch_size=batch_size,
        num_foreground=int(np.float32(batch_size) * np.float32(param.fg_fraction)),
        seed=seed,
        cached=param.cache_images,
    )
    loader = BatchLoader(reader, workers=spec.runtime.data_workers)
    return RecordLayer(loader, ((batch_size, CHANNELS, side, side), (batch_size,)))


def _check(layer: LayerParameter) -> None:
    param, side = layer.window_data_param, layer.transform_param.crop_size
    if not param.source:
        raise LayerParamError("window_data_param.source is not set; it names a window file")
    if param.batch_size == 0:
        raise LayerParamError("window_data_param.batch_size must be > 0")
    if side == 0:
        raise LayerParamError(
            "transform_param.crop_size must be > 0; it is the size of the windows in the blob"
        )
    if 2 * param.context_pad >= side:
        raise LayerParamError(
            "window_data_param.context_pad must be less than half of transform_param.crop_size, "
            f"got {param.context_pad} and {side}"
        )
    if not 0 <= param.fg_fraction <= 1:
        raise LayerParamError(
            f"window_data_param.fg_fraction must lie in 0..1, got {param.fg_fraction:g}"
        )
    if param.crop_mode not in ("warp", "square"):
        _log.warning(
            "layer %r: crop_mode %r is neither warp nor square and counts as warp",
            layer.name,
            param.crop_mode,
        )
