"""Upgrade of V0 nets: one flat message for the settings of every layer type.

Spec: caffe-net.md section 2, step 1.
Quirk: scale, meanfile, cropsize and mirror become `transform_param` whatever the layer's type is.
Quirk: a setting that the layer's type does not use is reported and dropped.
Quirk: of the net's own fields only name, input, input_dim and force_backward survive.
"""

from __future__ import annotations

import logging
from difflib import get_close_matches

from google.protobuf.message import Message

from caffe_ssd.errors import ProtoError
from caffe_ssd.proto.caffe_pb2 import (
    NetParameter,
    V0LayerParameter,
    V1LayerParameter,
)

logger = logging.getLogger(__name__)

_PADDING = "padding"
_PADDED = ("conv", "pool")
_TYPES = {
    "accuracy": V1LayerParameter.ACCURACY,
    "bnll": V1LayerParameter.BNLL,
    "concat": V1LayerParameter.CONCAT,
    "conv": V1LayerParameter.CONVOLUTION,
    "data": V1LayerParameter.DATA,
    "dropout": V1LayerParameter.DROPOUT,
    "euclidean_loss": V1LayerParameter.EUCLIDEAN_LOSS,
    "flatten": V1LayerParameter.FLATTEN,
    "hdf5_data": V1LayerParameter.HDF5_DATA,
    "hdf5_output": V1LayerParameter.HDF5_OUTPUT,
    "im2col": V1LayerParameter.IM2COL,
    "images": V1LayerParameter.IMAGE_DATA,
    "infogain_loss": V1LayerParameter.INFOGAIN_LOSS,
    "innerproduct": V1LayerParameter.INNER_PRODUCT,
    "lrn": V1LayerParameter.LRN,
    "multinomial_logistic_loss": V1LayerParameter.MULTINOMIAL_LOGISTIC_LOSS,
    "pool": V1LayerParameter.POOLING,
    "relu": V1LayerParameter.RELU,
    "sigmoid": V1LayerParameter.SIGMOID,
    "softmax": V1LayerParameter.SOFTMAX,
    "softmax_loss": V1LayerParameter.SOFTMAX_LOSS,
    "split": V1LayerParameter.SPLIT,
    "tanh": V1LayerParameter.TANH,
    "window_data": V1LayerParameter.WINDOW_DATA,
}
# V0 field -> {layer type: (sub-message of V1, its field)}
_Places = dict[str, tuple[str, str]]
_CONV, _FC, _POOL = "convolution_param", "inner_product_param", "pooling_param"
_DATA_PARAMS = {
    "data": "data_param",
    "hdf5_data": "hdf5_data_param",
    "images": "image_data_param",
    "window_data": "window_data_param",
}
_PLACES: dict[str, _Places] = {
    "num_output": {"conv": (_CONV, "num_output"), "innerproduct": (_FC, "num_output")},
    "biasterm": {"conv": (_CONV, "bias_term"), "innerproduct": (_FC, "bias_term")},
    "weight_filler": {"conv": (_CONV, "weight_filler"), "innerproduct": (_FC, "weight_filler")},
    "bias_filler": {"conv": (_CONV, "bias_filler"), "innerproduct": (_FC, "bias_filler")},
    "pad": {"conv": (_CONV, "pad"), "pool": (_POOL, "pad")},
    "kernelsize": {"conv": (_CONV, "kernel_size"), "pool": (_POOL, "kernel_size")},
    "stride": {"conv": (_CONV, "stride"), "pool": (_POOL, "stride")},
    "group": {"conv": (_CONV, "group")},
    "pool": {"pool": (_POOL, "pool")},
    "dropout_ratio": {"dropout": ("dropout_param", "dropout_ratio")},
    "local_size": {"lrn": ("lrn_param", "local_size")},
    "alpha": {"lrn": ("lrn_param", "alpha")},
    "beta": {"lrn": ("lrn_param", "beta")},
    "k": {"lrn": ("lrn_param", "k")},
    "source": {
        **{kind: (param, "source") for kind, param in _DATA_PARAMS.items()},
        "infogain_loss": ("infogain_loss_param", "source"),
    },
    "batchsize": {kind: (param, "batch_size") for kind, param in _DATA_PARAMS.items()},
    "rand_skip": {kind: (_DATA_PARAMS[kind], "rand_skip") for kind in ("data", "images")},
    "shuffle_images": {"images": ("image_data_param", "shuffle")},
    "new_height": {"images": ("image_data_param", "new_height")},
    "new_width": {"images": ("image_data_param", "new_width")},
    "concat_dim": {"concat": ("concat_param", "concat_dim")},
    "det_fg_threshold": {"window_data": ("window_data_param", "fg_threshold")},
    "det_bg_threshold": {"window_data": ("window_data_param", "bg_threshold")},
    "det_fg_fraction": {"window_data": ("window_data_param", "fg_fraction")},
    "det_context_pad": {"window_data": ("window_data_param", "context_pad")},
    "det_crop_mode": {"window_data": ("window_data_param", "crop_mode")},
}
_TRANSFORM = {
    "scale": "scale",
    "meanfile": "mean_file",
    "cropsize": "crop_size",
    "mirror": "mirror",
}
_KEPT_NET_FIELDS = frozenset({"name", "input", "input_dim", "force_backward", "layers"})


def is_v0(net: NetParameter) -> bool:
    """Whether any layer still has its settings in a nested V0 message."""
    return any(connection.HasField("layer") for connection in net.layers)


def upgrade_v0(net: NetParameter) -> None:
    """Turn the V0 messages nested in `layers` into V1 settings.

    Args:
        net: changed.

    Raises:
        ProtoError: an unknown layer type; a padding layer that does not feed a convolution or a
            pooling, or has not exactly one bottom and top; an unknown bottom.
    """
    upgraded = [_upgrade_layer(connection) for connection in _fold_padding(net)]
    for field, _ in net.ListFields():
        if field.name not in _KEPT_NET_FIELDS:
            logger.warning("V0 nets have no field %s: it is dropped", field.name)
            net.ClearField(field.name)
    net.ClearField("layers")
    net.layers.extend(upgraded)


def _fold_padding(net: NetParameter) -> list[V1LayerParameter]:
    """The layers without padding layers, whose `pad` has moved to the layers they fed."""
    producer: dict[str, V1LayerParameter | None] = dict.fromkeys(net.input)
    kept = []
    for original in net.layers:
        connection = original
        for index, bottom in enumerate(original.bottom):
            if bottom not in producer:
                raise ProtoError(
                    f"layer {original.layer.name!r}: bottom {bottom!r} is produced by no layer "
                    "before it"
                )
            source = producer[bottom]
            if source is None or source.layer.type != _PADDING:
                continue
            _check_padding(source, original)
            if connection is original:
                connection = V1LayerParameter()
                connection.CopyFrom(original)
            connection.layer.pad = source.layer.pad
            connection.bottom[index] = source.bottom[0]
        producer.update(dict.fromkeys(original.top, original))
        if original.layer.type != _PADDING:
            kept.append(connection)
    return kept


def _check_padding(source: V1LayerParameter, consumer: V1LayerParameter) -> None:
    name, kind = source.layer.name, consumer.layer.type
    if kind not in _PADDED:
        raise ProtoError(
            f"padding layer {name!r} feeds layer {consumer.layer.name!r} of type {kind!r}; "
            f"only {' and '.join(_PADDED)} can be padded"
        )
    if len(source.bottom) != 1 or len(source.top) != 1:
        raise ProtoError(
            f"padding layer {name!r} has {len(source.bottom)} bottoms and {len(source.top)} tops; "
            "it must have one of each"
        )


def _upgrade_layer(connection: V1LayerParameter) -> V1LayerParameter:
    new = V1LayerParameter()
    if not connection.HasField("layer"):
        new.CopyFrom(connection)
        return new
    old = connection.layer
    new.bottom.extend(connection.bottom)
    new.top.extend(connection.top)
    if old.HasField("name"):
        new.name = old.name
    if old.HasField("type"):
        new.type = _v1_type(old)
    new.blobs.extend(old.blobs)
    new.blobs_lr.extend(old.blobs_lr)
    new.weight_decay.extend(old.weight_decay)
    for field, value in old.ListFields():
        _move_setting(old, field.name, value, new)
    return new


def _v1_type(old: V0LayerParameter) -> V1LayerParameter.LayerType:
    try:
        return _TYPES[old.type]
    except KeyError:
        close = get_close_matches(old.type, _TYPES, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise ProtoError(
            f"layer {old.name!r}: unknown V0 layer type {old.type!r}; "
            f"{hint}known types: {', '.join(_TYPES)}"
        ) from None


def _move_setting(old: V0LayerParameter, field: str, value: object, new: V1LayerParameter) -> None:
    if field in ("name", "type", "blobs", "blobs_lr", "weight_decay"):
        return
    if field in _TRANSFORM:
        setattr(new.transform_param, _TRANSFORM[field], value)
        return
    if field == "hdf5_output_param" and old.type == "hdf5_output":
        new.hdf5_output_param.CopyFrom(old.hdf5_output_param)
        return
    place = _PLACES.get(field, {}).get(old.type)
    if place is None:
        logger.error(
            "layer %r: %s means nothing to a V0 layer of type %r; it is dropped",
            old.name,
            field,
            old.type,
        )
        return
    param = getattr(new, place[0])
    if isinstance(value, Message):
        getattr(param, place[1]).CopyFrom(value)
    elif hasattr(getattr(param, place[1]), "append"):  # pad, kernel_size, stride of a convolution
        getattr(param, place[1]).append(value)
    else:
        setattr(param, place[1], value)
