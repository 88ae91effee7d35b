"""Upgrade of V1 nets: enum layer types and one list per learning-rate setting.

Spec: caffe-net.md section 2, steps 2 and 3.
Quirk: SOFTMAX_LOSS becomes `SoftmaxWithLoss`, NONE an empty type.
"""

from __future__ import annotations

from google.protobuf.message import Message

from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, ParamSpec, V1LayerParameter

_TRANSFORM_FIELDS = ("scale", "mean_file", "crop_size", "mirror")
_DATA_PARAMS = {
    V1LayerParameter.DATA: "data_param",
    V1LayerParameter.IMAGE_DATA: "image_data_param",
    V1LayerParameter.WINDOW_DATA: "window_data_param",
}
_TYPES = {
    V1LayerParameter.NONE: "",
    V1LayerParameter.ABSVAL: "AbsVal",
    V1LayerParameter.ACCURACY: "Accuracy",
    V1LayerParameter.ARGMAX: "ArgMax",
    V1LayerParameter.BNLL: "BNLL",
    V1LayerParameter.CONCAT: "Concat",
    V1LayerParameter.CONTRASTIVE_LOSS: "ContrastiveLoss",
    V1LayerParameter.CONVOLUTION: "Convolution",
    V1LayerParameter.DATA: "Data",
    V1LayerParameter.DECONVOLUTION: "Deconvolution",
    V1LayerParameter.DROPOUT: "Dropout",
    V1LayerParameter.DUMMY_DATA: "DummyData",
    V1LayerParameter.EUCLIDEAN_LOSS: "EuclideanLoss",
    V1LayerParameter.ELTWISE: "Eltwise",
    V1LayerParameter.EXP: "Exp",
    V1LayerParameter.FLATTEN: "Flatten",
    V1LayerParameter.HDF5_DATA: "HDF5Data",
    V1LayerParameter.HDF5_OUTPUT: "HDF5Output",
    V1LayerParameter.HINGE_LOSS: "HingeLoss",
    V1LayerParameter.IM2COL: "Im2col",
    V1LayerParameter.IMAGE_DATA: "ImageData",
    V1LayerParameter.INFOGAIN_LOSS: "InfogainLoss",
    V1LayerParameter.INNER_PRODUCT: "InnerProduct",
    V1LayerParameter.LRN: "LRN",
    V1LayerParameter.MEMORY_DATA: "MemoryData",
    V1LayerParameter.MULTINOMIAL_LOGISTIC_LOSS: "MultinomialLogisticLoss",
    V1LayerParameter.MVN: "MVN",
    V1LayerParameter.POOLING: "Pooling",
    V1LayerParameter.POWER: "Power",
    V1LayerParameter.RELU: "ReLU",
    V1LayerParameter.SIGMOID: "Sigmoid",
    V1LayerParameter.SIGMOID_CROSS_ENTROPY_LOSS: "SigmoidCrossEntropyLoss",
    V1LayerParameter.SILENCE: "Silence",
    V1LayerParameter.SOFTMAX: "Softmax",
    V1LayerParameter.SOFTMAX_LOSS: "SoftmaxWithLoss",
    V1LayerParameter.SPLIT: "Split",
    V1LayerParameter.SLICE: "Slice",
    V1LayerParameter.TANH: "TanH",
    V1LayerParameter.WINDOW_DATA: "WindowData",
    V1LayerParameter.THRESHOLD: "Threshold",
}
_SHARE_MODES = {
    V1LayerParameter.STRICT: ParamSpec.STRICT,
    V1LayerParameter.PERMISSIVE: ParamSpec.PERMISSIVE,
}
# These become entries of `param` and `type`; every other field keeps its name.
_REWRITTEN = frozenset({"type", "param", "blob_share_mode", "blobs_lr", "weight_decay", "layer"})


def move_data_transforms(net: NetParameter) -> None:
    """Move scale, mean_file, crop_size and mirror of V1 data layers to `transform_param`.

    Args:
        net: changed; only its `layers` are looked at.
    """
    for layer in net.layers:
        name = _DATA_PARAMS.get(layer.type)
        if name is None or not layer.HasField(name):
            continue
        param = getattr(layer, name)
        for field in _TRANSFORM_FIELDS:
            if param.HasField(field):
                setattr(layer.transform_param, field, getattr(param, field))
                param.ClearField(field)


def upgrade_v1(net: NetParameter) -> None:
    """Turn every entry of `layers` into one of `layer`.

    Args:
        net: changed; has no `layer` yet.
    """
    for old in net.layers:
        _upgrade_layer(old, net.layer.add())
    net.ClearField("layers")


def _upgrade_layer(old: V1LayerParameter, new: LayerParameter) -> None:
    for field, value in old.ListFields():
        if field.name in _REWRITTEN:
            continue
        if isinstance(value, Message):
            getattr(new, field.name).CopyFrom(value)
        elif isinstance(value, str):
            setattr(new, field.name, value)
        else:
            getattr(new, field.name).extend(value)
    if old.HasField("type"):
        new.type = _TYPES[old.type]
    _upgrade_params(old, new)


def _upgrade_params(old: V1LayerParameter, new: LayerParameter) -> None:
    """Parallel lists, one per setting, become one message per blob."""
    lists = (old.param, old.blob_share_mode, old.blobs_lr, old.weight_decay)
    for _ in range(max(len(values) for values in lists)):
        new.param.add()
    for spec, name in zip(new.param, old.param, strict=False):
        spec.name = name
    for spec, mode in zip(new.param, old.blob_share_mode, strict=False):
        spec.share_mode = _SHARE_MODES[mode]
    for spec, lr_mult in zip(new.param, old.blobs_lr, strict=False):
        spec.lr_mult = lr_mult
    for spec, decay_mult in zip(new.param, old.weight_decay, strict=False):
        spec.decay_mult = decay_mult
