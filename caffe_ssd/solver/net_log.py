"""Logs how a net was put together, in the reference's words.

Spec: caffe-net.md section 20. The lines come once the whole net is built, not while it is being
built; a layer inside a layer (the softmax of a SoftmaxWithLoss) is not mentioned.
"""

from __future__ import annotations

import logging
import math

from caffe_ssd.net import Net
from caffe_ssd.net.plan import Step
from caffe_ssd.proto.caffe_pb2 import NetParameter
from caffe_ssd.solver import log

_FLOAT_BYTES = 4


def log_parameters(filtered: NetParameter) -> None:
    """Log a net's definition, as filtered for its state."""
    if log.logger.isEnabledFor(logging.INFO):
        log.NET_PARAMETERS.write(text=log.message_text(filtered))


def log_construction(net: Net) -> None:
    """Log every layer's wiring, shapes and memory, who runs backward, and the net's outputs."""
    if not log.logger.isEnabledFor(logging.INFO):
        return
    num_bytes = 0
    for step in net.steps:
        _log_wiring(net, step)
        num_bytes += _log_tops(net, step)
        log.MEMORY.write(bytes=num_bytes)
    for step in reversed(net.steps):
        line = log.NEEDS_BACKWARD if step.needs_backward else log.NO_BACKWARD
        line.write(layer=step.param.name)
    for name in net.outputs:
        log.NET_OUTPUT.write(blob=name)
    log.NET_DONE.write()


def _log_wiring(net: Net, step: Step) -> None:
    layer = step.param.name
    log.CREATING.write(layer=layer)
    log.CREATING_LAYER.write(layer=layer)
    for value in step.bottoms:
        log.BOTTOM.write(layer=layer, blob=net.blob_names[value.blob])
    for value in step.tops:
        in_place = value.version > 0
        line = log.TOP_IN_PLACE if in_place else log.TOP
        line.write(layer=layer, blob=net.blob_names[value.blob])
    log.SETTING_UP.write(layer=layer)


def _log_tops(net: Net, step: Step) -> int:
    num_bytes = 0
    for value, weight in zip(step.tops, step.loss_weights, strict=True):
        shape = net.blob_shapes[value.blob]
        log.TOP_SHAPE.write(shape=log.shape_text(shape))
        if weight:
            log.LOSS_WEIGHT.write(weight=float(weight))
        num_bytes += _FLOAT_BYTES * math.prod(shape)
    return num_bytes
