"""Builds nets and logs how they were put together, in the reference's words.

Spec: caffe-net.md section 20. The lines come once the whole net is built, not while it is being
built. Layers inside layers (the softmax of a SoftmaxWithLoss) are mentioned where the reference
makes them; here they do not exist. The nets inside of RNN and LSTM are not.
"""

from __future__ import annotations

import logging
import math

from caffe_ssd import log
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.plan import Step
from caffe_ssd.net.state import filter_net
from caffe_ssd.proto.caffe_pb2 import (
    LayerParameter,
    MultiBoxLossParameter,
    NetParameter,
    NetState,
)

_FLOAT_BYTES = 4
_DATA_SIZES = {"Data": log.DATA_SIZE, "AnnotatedData": log.ANNOTATED_DATA_SIZE}
_LOC_LOSSES = {
    MultiBoxLossParameter.L2: "l2_loc",
    MultiBoxLossParameter.SMOOTH_L1: "smooth_L1_loc",
}


def build_logged_net(param: NetParameter, state: NetState, runtime: Runtime) -> Net:
    """Build the net that an upgraded message describes in this state, and log its construction.

    Raises:
        NetError: the graph cannot be run.
        LayerError: one layer is refused.
    """
    filtered = filter_net(param, state, lambda text: log.RULE_NOT_MET.write(text=text))
    if log.logger.isEnabledFor(logging.INFO):
        log.NET_PARAMETERS.write(text=log.message_text(filtered))
    net = build_net(filtered, state, runtime)
    log_construction(net)
    return net


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
    if step.param.type in _DATA_SIZES:
        sizes = ",".join(map(str, net.blob_shapes[step.tops[0].blob]))
        _DATA_SIZES[step.param.type].write(sizes=sizes)
    for name in inner_layers(step.param):
        log.CREATING.write(layer=name)
    log.SETTING_UP.write(layer=layer)


def inner_layers(param: LayerParameter) -> list[str]:
    """Names of the layers that the reference makes inside a layer, in order."""
    if param.type == "SoftmaxWithLoss":
        return [param.name]
    if param.type != "MultiBoxLoss":
        return []
    multibox = param.multibox_loss_param
    loc = f"{param.name}_{_LOC_LOSSES[multibox.loc_loss_type]}"
    if multibox.conf_loss_type == MultiBoxLossParameter.LOGISTIC:
        return [loc, f"{param.name}_logistic_conf"]
    return [loc, *[f"{param.name}_softmax_conf"] * 2]  # the loss, and its own softmax


def _log_tops(net: Net, step: Step) -> int:
    num_bytes = 0
    for value, weight in zip(step.tops, step.loss_weights, strict=True):
        shape = net.blob_shapes[value.blob]
        log.TOP_SHAPE.write(shape=log.shape_text(shape))
        if weight:
            log.LOSS_WEIGHT.write(weight=float(weight))
        num_bytes += _FLOAT_BYTES * math.prod(shape)
    return num_bytes
