"""Other normalisers than batch norm, put into finished nets.

GroupNorm is an extension of the format: these nets run here, not on a build of SSD-Caffe.
"""

import re

from caffe.proto import caffe_pb2

# Layers whose top has as many channels as their first bottom.
KEEP_CHANNELS = [
    "AbsVal",
    "BatchNorm",
    "Bias",
    "BNLL",
    "Crop",
    "Dropout",
    "Eltwise",
    "ELU",
    "Exp",
    "GroupNorm",
    "Log",
    "LRN",
    "MVN",
    "Normalize",
    "Pooling",
    "Power",
    "PReLU",
    "ReLU",
    "Scale",
    "Sigmoid",
    "Split",
    "TanH",
    "Threshold",
]
# Fields of the layers whose message says how many channels they make, on axis `axis`.
NUM_OUTPUT = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "InnerProduct": "inner_product_param",
}

_SHORT_NAME = re.compile("(?<![A-Za-z])bn(?![A-Za-z])")


def with_group_norm(param, num_groups=32):
    """Return a copy of a net with GroupNorm in the place of BatchNorm.

    The scales and shifts behind stay. A layer gets the most groups that divide both `num_groups`
    and its channels: DSOD's 176 channels get 16 groups of 11 where 32 are asked for. `eps` stays
    too. Layers, and blobs named like them, get new names (BatchNorm1 -> GroupNorm1, conv1_bn ->
    conv1_gn, norm -> norm_gn), so that no statistics are looked for in trained weights.

    A BatchNorm with `use_global_stats: true` belongs to frozen trained weights and stays as it is.

    Args:
        param: a NetParameter in the current format.
        num_groups: the number of groups to aim at; a power of two divides most widths.

    Raises:
        ValueError: this Caffe has no GroupNorm, the net is in an old format, `num_groups` is not
            positive, or the channels of a blob cannot be told.
    """
    if "group_norm_param" not in caffe_pb2.LayerParameter.DESCRIPTOR.fields_by_name:
        raise ValueError("this build of Caffe has no GroupNorm")
    if num_groups < 1:
        raise ValueError("num_groups must be at least 1, got {}".format(num_groups))
    if len(param.layers) > 0:
        raise ValueError("the net is in an old format: upgrade it with `caffe upgrade_net`")
    net = caffe_pb2.NetParameter()
    net.CopyFrom(param)
    channels = input_channels(net)
    names = _new_names(net)
    for layer in net.layer:
        tops = top_channels(layer, channels)
        if _is_replaced(layer):
            if tops[0] is None:
                raise ValueError(
                    (
                        "layer {!r}: the channels of its bottom {!r} cannot be told from the net"
                    ).format(layer.name, layer.bottom[0])
                )
            _replace(layer, common_divisor(num_groups, tops[0]))
        channels.update(zip(layer.top, tops))
    _rename(net, names)
    return net


def input_channels(net):
    """Return the channels of a net's `input` fields by blob name."""
    if len(net.input_shape) > 0:
        shapes = [list(shape.dim) for shape in net.input_shape]
    else:
        shapes = [list(net.input_dim[i : i + 4]) for i in range(0, len(net.input_dim), 4)]
    return {name: _second(shape) for name, shape in zip(net.input, shapes)}


def top_channels(layer, channels):
    """Return the channels of each top; None where they cannot be told.

    Args:
        layer: a LayerParameter.
        channels: what is known of its bottoms.
    """
    bottoms = [channels.get(name) for name in layer.bottom]
    count = None
    if layer.type in NUM_OUTPUT:
        settings = getattr(layer, NUM_OUTPUT[layer.type])
        count = settings.num_output if settings.axis == 1 else None
    elif layer.type == "Concat":
        concat = layer.concat_param
        axis = concat.concat_dim if concat.HasField("concat_dim") else concat.axis
        known = [bottom for bottom in bottoms if bottom is not None]
        if axis != 1:
            count = bottoms[0]
        elif len(known) == len(bottoms):
            count = sum(known)
    elif layer.type in KEEP_CHANNELS:
        count = bottoms[0]
    elif layer.type == "Input":
        shapes = [list(shape.dim) for shape in layer.input_param.shape]
        shapes = shapes * len(layer.top) if len(shapes) == 1 else shapes
        return [_second(shape) for shape in shapes]
    return [count] * len(layer.top)


def _second(shape):
    return shape[1] if len(shape) > 1 else None


def _is_replaced(layer):
    return bool(layer.type == "BatchNorm" and not layer.batch_norm_param.use_global_stats)


def _replace(layer, num_groups):
    eps = layer.batch_norm_param.eps if layer.batch_norm_param.HasField("eps") else None
    for field in ("batch_norm_param", "param", "blobs"):  # GroupNorm has no blobs
        layer.ClearField(field)
    layer.type = "GroupNorm"
    layer.group_norm_param.num_groups = num_groups
    if eps is not None:
        layer.group_norm_param.eps = eps


def _new_names(net):
    """New names of the layers that are replaced, by their old ones."""
    taken = {layer.name for layer in net.layer}
    taken.update(*(layer.top for layer in net.layer))
    names = {}
    for layer in net.layer:
        if not _is_replaced(layer) or layer.name in names:
            continue
        new = _SHORT_NAME.sub("gn", layer.name.replace("BatchNorm", "GroupNorm"))
        new = new if new != layer.name else "{}_gn".format(layer.name)
        while new in taken:
            new += "_"
        taken.add(new)
        names[layer.name] = new
    return names


def _rename(net, names):
    for layer in net.layer:
        if layer.type == "GroupNorm":
            layer.name = names.get(layer.name, layer.name)
        for blobs in (layer.bottom, layer.top):
            blobs[:] = [names.get(blob, blob) for blob in blobs]


def common_divisor(first, second):
    """Return the greatest common divisor (`math.gcd`, which Python 2.7 does not have)."""
    while second:
        first, second = second, first % second
    return first
