"""Which blobs of a file fit a layer, old files and those of other forks included.

Spec: caffe-net.md section 11; other-forks.md, general rules and section 9.3.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from math import prod

from caffe_ssd.layers.registry import Shape
from caffe_ssd.proto.blobs import LEGACY_AXES, blob_shape, is_legacy
from caffe_ssd.proto.caffe_pb2 import BlobProto, LayerParameter

logger = logging.getLogger(__name__)

# BatchNorm with a scale inside: mean, variance, factor, scale, bias. An early fork wrote scale,
# bias, mean, variance, factor.
_SCALED_BATCH_NORM_BLOBS = 5
_FACTOR, _OLD_FACTOR = 2, 4
_FROM_OLD_ORDER = (2, 3, 4, 0, 1)


def fits(blob: BlobProto, shape: Shape) -> bool:
    """Whether a blob of a file is one of the net of this shape."""
    have = blob_shape(blob)
    if have == shape or (
        _is_per_channel(have) and _is_per_channel(shape) and prod(have) == prod(shape)
    ):
        return True
    missing = len(LEGACY_AXES) - len(shape)
    return is_legacy(blob) and missing >= 0 and have == (1,) * missing + shape


def _is_per_channel(shape: Shape) -> bool:
    """(C), (1, C) or (1, C, 1, 1): three ways to say a number per channel."""
    return len(shape) == 1 or (len(shape) in (2, 4) and shape[0] == 1 and set(shape[2:]) <= {1})


def arranged(layer: LayerParameter, wanted: Sequence[Shape]) -> Sequence[BlobProto]:
    """A layer's blobs in the order of the net's.

    Args:
        layer: of a file, with as many blobs as the net's layer.
        wanted: shapes of the net's blobs.
    """
    blobs = layer.blobs
    if len(blobs) != _SCALED_BATCH_NORM_BLOBS or layer.type != "BatchNorm":
        return blobs
    counts = [prod(blob_shape(blob)) for blob in blobs]
    if counts[_FACTOR] == 1:
        if set(counts) == {1}:
            logger.warning(
                "layer %r: with one channel the order of the 5 blobs cannot be told; taken for "
                "mean, variance, factor, scale, bias",
                layer.name,
            )
        return blobs
    is_old = counts[_OLD_FACTOR] == 1 and prod(wanted[_FACTOR]) == 1
    return [blobs[i] for i in _FROM_OLD_ORDER] if is_old else blobs


def count_hint(layer: LayerParameter, wanted: int) -> str:
    """What another number of blobs may mean, as the end of a message; often nothing."""
    if layer.type == "BatchNorm" and (len(layer.blobs), wanted) == (_SCALED_BATCH_NORM_BLOBS, 3):
        return " It is a BatchNorm with a scale: batch_norm_param { scale_bias: true }."
    return ""
