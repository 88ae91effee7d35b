"""Named layers as SSD's scripts write them: data, and convolution with batch norm.

Spec: ssd-layers.md section 10.
"""

from caffe import layers as L
from caffe import params as P
from caffe.models.blocks import FROZEN_STATISTICS
from caffe.proto import caffe_pb2

BATCH_NORM_KEYWORDS = ("eps", "moving_average_fraction", "use_global_stats")


def UnpackVariable(var, num):
    """Return `num` values: those of a list of that length, or one value repeated.

    Raises:
        ValueError: a list of another length, except one.
    """
    if not isinstance(var, (list, tuple)):
        return [var] * num
    if len(var) == num:
        return list(var)
    if len(var) == 1:
        return [var[0]] * num
    raise ValueError("expected one value or {}, got {!r}".format(num, var))


def CreateAnnotatedDataLayer(
    source,
    batch_size=32,
    backend=P.Data.LMDB,
    output_label=True,
    train=True,
    label_map_file="",
    anno_type=None,
    transform_param={},
    batch_sampler=[{}],
):
    """Return the layer `data` that reads annotated images.

    Args:
        source: the database.
        batch_size: images per device and iteration.
        backend: P.Data.LMDB or P.Data.LEVELDB.
        output_label: give the boxes as a second top.
        train: for phase TRAIN rather than TEST.
        label_map_file: the label map that made the database.
        anno_type: overrides the records' annotation type.
        transform_param: fields of TransformationParameter.
        batch_sampler: fields of each BatchSampler; an empty one means the whole image, and no
            sampler spares it the crop.

    Returns:
        The data top, or (data, label).
    """
    annotated = {"label_map_file": label_map_file}
    if batch_sampler:
        annotated["batch_sampler"] = [dict(sampler) for sampler in batch_sampler]
    if anno_type is not None:
        annotated["anno_type"] = anno_type
    phase = caffe_pb2.Phase.Value("TRAIN" if train else "TEST")
    return L.AnnotatedData(
        name="data",
        ntop=2 if output_label else 1,
        include={"phase": phase},
        transform_param=dict(transform_param),
        data_param={"source": source, "batch_size": batch_size, "backend": backend},
        annotated_data_param=annotated,
    )


def ConvBNLayer(
    net,
    from_layer,
    out_layer,
    use_bn,
    use_relu,
    num_output,
    kernel_size,
    pad,
    stride,
    dilation=1,
    use_scale=True,
    lr_mult=1,
    conv_prefix="",
    conv_postfix="",
    bn_prefix="",
    bn_postfix="_bn",
    scale_prefix="",
    scale_postfix="_scale",
    bias_prefix="",
    bias_postfix="_bias",
    bbbb=False,
    **bn_params
):  # fmt: skip
    """Add a convolution and, if asked for, batch norm and ReLU, to a net.

    Without batch norm the convolution is filled by Xavier and has a bias that learns twice as fast
    and does not decay; with it the weights are Gaussian (0.01) and there is no bias.

    Args:
        net: has `from_layer`.
        from_layer: name of the bottom.
        out_layer: name of the new layers, between the prefix and postfix of each.
        use_bn: add BatchNorm and a Scale (or only a Bias).
        use_relu: add an in-place ReLU.
        num_output: channels.
        kernel_size: a number or [height, width], as are `pad` and `stride`.
        pad: see `kernel_size`.
        stride: see `kernel_size`.
        dilation: distance of the kernel's taps.
        use_scale: follow BatchNorm by a Scale rather than a Bias.
        lr_mult: learning rate of the weights.
        bbbb: a keyword of ScratchDet's release, of which only the default is known.
        bn_params: `eps` (default 0.001), `moving_average_fraction` (0.999), `use_global_stats`.

    Raises:
        ValueError: an unknown keyword, or `bbbb`.
    """
    if bbbb:
        raise ValueError("{}: what bbbb=True does is not known".format(out_layer))
    unknown = sorted(set(bn_params) - set(BATCH_NORM_KEYWORDS))
    if unknown:
        allowed = ", ".join(BATCH_NORM_KEYWORDS)
        raise ValueError(
            "{}: unknown keyword {!r}; allowed: {}".format(out_layer, unknown[0], allowed)
        )
    conv_name = conv_prefix + out_layer + conv_postfix
    fields = dict(_geometry(kernel_size, pad, stride), num_output=num_output)
    fields.update(_conv_filling(use_bn, lr_mult))
    net[conv_name] = L.Convolution(net[from_layer], **fields)
    if dilation > 1:
        net.update(conv_name, {"dilation": dilation})
    if use_bn:
        bn_name = bn_prefix + out_layer + bn_postfix
        net[bn_name] = L.BatchNorm(net[conv_name], in_place=True, **_batch_norm(bn_params))
        # With fixed statistics the reference also fixes the scale that belongs to them.
        scale_lr = 0 if bn_params.get("use_global_stats", False) else lr_mult
        if use_scale:
            name = scale_prefix + out_layer + scale_postfix
            net[name] = L.Scale(net[bn_name], in_place=True, **_scale(scale_lr))
        else:
            name = bias_prefix + out_layer + bias_postfix
            net[name] = L.Bias(net[bn_name], in_place=True, **_bias(scale_lr))
    if use_relu:
        net[conv_name + "_relu"] = L.ReLU(net[conv_name], in_place=True)


def _geometry(kernel_size, pad, stride):
    kernel_h, kernel_w = UnpackVariable(kernel_size, 2)
    pad_h, pad_w = UnpackVariable(pad, 2)
    stride_h, stride_w = UnpackVariable(stride, 2)
    if (kernel_h, pad_h, stride_h) == (kernel_w, pad_w, stride_w):
        return {"kernel_size": kernel_h, "pad": pad_h, "stride": stride_h}
    return {
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "pad_h": pad_h,
        "pad_w": pad_w,
        "stride_h": stride_h,
        "stride_w": stride_w,
    }


def _conv_filling(use_bn, lr_mult):
    weights = {"lr_mult": lr_mult, "decay_mult": 1}
    if use_bn:
        return {
            "param": [weights],
            "weight_filler": {"type": "gaussian", "std": 0.01},
            "bias_term": False,
        }
    return {
        "param": [weights, {"lr_mult": 2 * lr_mult, "decay_mult": 0}],
        "weight_filler": {"type": "xavier"},
        "bias_filler": {"type": "constant", "value": 0},
    }


def _batch_norm(bn_params):
    keywords = {"param": FROZEN_STATISTICS, "eps": bn_params.get("eps", 0.001)}
    if bn_params.get("use_global_stats", False):
        keywords["use_global_stats"] = True  # the moving average is then never updated
    else:
        keywords["moving_average_fraction"] = bn_params.get("moving_average_fraction", 0.999)
    return keywords


def _scale(lr_mult):
    return {
        "bias_term": True,
        "param": [{"lr_mult": lr_mult, "decay_mult": 0}] * 2,
        "filler": {"type": "constant", "value": 1},
        "bias_filler": {"type": "constant", "value": 0},
    }


def _bias(lr_mult):
    return {
        "param": [{"lr_mult": lr_mult, "decay_mult": 0}],
        "filler": {"type": "constant", "value": 0},
    }
