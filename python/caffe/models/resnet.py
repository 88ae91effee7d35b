"""ResNet-50, -101 and -152 as bodies, and the extra layers of SSD on ResNet-101.

Layers have the names of the released classifiers (res4b22_branch2c, bn4b22_branch2c,
scale4b22_branch2c), so their weights load by name. Those nets were trained with Caffe's default
`eps` of 1e-5 in BatchNorm, the SSD scripts use 1e-3: give `eps=1e-5` for the classifier's numbers.

    ResNet101Body(net, from_layer="data", use_pool5=False, use_dilation_conv5=True)
    AddPooledExtraLayers(net)

is `RESNET101_SSD.add_to(net)`.

Spec: ssd-layers.md section 10.
Sources: He et al., "Deep Residual Learning for Image Recognition"; Liu et al., "SSD".
Quirk: the released ResNet-50 has a bias in conv1, the deeper ones have not.
Quirk: the released nets have their stride in the 1x1 convolutions (branch1 and branch2a).
"""

from caffe import layers as L
from caffe import params as P
from caffe.models.named_layers import ConvBNLayer
from caffe.models.records import record

# Blocks in each of the four stages, res2 to res5.
DEPTHS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# Names as in res3b2 rather than res3c: stages that would need many letters.
NUMBERED_STAGES = {50: (), 101: (3, 4), 152: (3, 4)}


class ResNetBody(
    record(
        "ResNetBody",
        ("depth", 101),
        ("dilated", True),
        ("extras_batch_norm", True),
        ("eps", 0.001),
    )
):
    """A ResNet with SSD's extra layers.

    depth: 50, 101 or 152.
    dilated: the last stage keeps its size and is spread out instead.
    extras_batch_norm: in the extra layers.
    eps: of BatchNorm.
    """

    @property
    def sources(self):
        """Names of the maps to predict from, finest first: the ends of res3 and res5, and extras.

        Raises:
            ValueError: an unknown depth.
        """
        last_of_3 = list(block_names(self.depth, stage=3))[-1]
        extras = ["res5c_relu/conv{}_2".format(index) for index in (1, 2, 3)]
        return tuple(["res{}_relu".format(last_of_3), "res5c_relu"] + extras + ["pool6"])

    def add_to(self, net, from_layer="data"):
        """Add the body to a net and return its coarsest map.

        Args:
            net: has `from_layer`; gets the maps named in `sources`.
            from_layer: name of the image blob.

        Raises:
            ValueError: an unknown depth.
        """
        _add_resnet(net, from_layer, self.depth, False, self.dilated, {"eps": self.eps})
        AddPooledExtraLayers(net, self.extras_batch_norm)
        return net.pool6


RESNET50_SSD = ResNetBody(depth=50)
RESNET101_SSD = ResNetBody()
RESNET152_SSD = ResNetBody(depth=152)


def block_names(depth, stage):
    """Yield the names of a stage's blocks, `3a`, `3b1`, `3b2`, ... or `3a`, `3b`, `3c`, ...

    Raises:
        ValueError: an unknown depth.
    """
    if depth not in DEPTHS:
        known = ", ".join(str(known) for known in sorted(DEPTHS))
        raise ValueError("depth of a ResNet must be one of {}, got {!r}".format(known, depth))
    for index in range(DEPTHS[depth][stage - 2]):
        if index == 0 or stage not in NUMBERED_STAGES[depth]:
            yield "{}{}".format(stage, chr(ord("a") + index))
        else:
            yield "{}b{}".format(stage, index)


def ResNet50Body(net, from_layer, use_pool5=True, use_dilation_conv5=False, **bn_param):
    """Add ResNet-50 to a net.

    Args:
        net: has `from_layer`.
        from_layer: name of the image blob.
        use_pool5: end in the global average of res5c.
        use_dilation_conv5: res5 keeps the size of res4 and is spread out instead.
        bn_param: see `ConvBNLayer`.

    Returns:
        The net.
    """
    return _add_resnet(net, from_layer, 50, use_pool5, use_dilation_conv5, bn_param)


def ResNet101Body(net, from_layer, use_pool5=True, use_dilation_conv5=False, **bn_param):
    """Add ResNet-101 to a net; see `ResNet50Body`."""
    return _add_resnet(net, from_layer, 101, use_pool5, use_dilation_conv5, bn_param)


def ResNet152Body(net, from_layer, use_pool5=True, use_dilation_conv5=False, **bn_param):
    """Add ResNet-152 to a net; see `ResNet50Body`."""
    return _add_resnet(net, from_layer, 152, use_pool5, use_dilation_conv5, bn_param)


def _add_resnet(
    net,
    from_layer,
    depth,
    use_pool5,
    use_dilation_conv5,
    bn_param,
):
    names = {"bn_prefix": "bn_", "bn_postfix": "", "scale_prefix": "scale_", "scale_postfix": ""}
    conv1 = dict(names, num_output=64, kernel_size=7, pad=3, stride=2, **bn_param)
    ConvBNLayer(net, from_layer, "conv1", use_bn=True, use_relu=True, **conv1)
    if depth == 50:
        learning = [{"lr_mult": 1, "decay_mult": 1}, {"lr_mult": 2, "decay_mult": 0}]
        net.update("conv1", {"bias_term": True, "param": learning})
    net.pool1 = L.Pooling(net.conv1, pool=P.Pooling.MAX, kernel_size=3, stride=2)
    below = "pool1"
    for stage in (2, 3, 4, 5):
        spread = use_dilation_conv5 and stage == 5
        width = 64 * 2 ** (stage - 2)
        for index, name in enumerate(block_names(depth, stage)):
            stride = 2 if index == 0 and stage > 2 and not spread else 1
            dilation = 2 if spread else 1
            ends = (stride, index == 0, dilation)
            ResBody(net, below, name, width, width, 4 * width, *ends, **bn_param)
            below = "res" + name
    if use_pool5:
        net.pool5 = L.Pooling(net[below], pool=P.Pooling.AVE, global_pooling=True)
    return net


def ResBody(
    net, from_layer, block_name, out2a, out2b, out2c, stride, use_branch1, dilation=1, **bn_param
):
    """Add a residual block of three convolutions: 1x1, 3x3, 1x1.

    Args:
        net: has `from_layer`; gets `res<block_name>` and `res<block_name>_relu`.
        from_layer: name of the bottom.
        block_name: such as `2a`.
        out2a: channels of the first convolution.
        out2b: channels of the second.
        out2c: channels of the third and of the sum.
        stride: of the first 1x1 convolution, and of the shortcut's.
        use_branch1: the shortcut is a 1x1 convolution; without it `from_layer` itself is added.
        dilation: of the 3x3 convolution.
        bn_param: see `ConvBNLayer`.
    """
    names = {
        "conv_prefix": "res{}_".format(block_name),
        "bn_prefix": "bn{}_".format(block_name),
        "bn_postfix": "",
        "scale_prefix": "scale{}_".format(block_name),
        "scale_postfix": "",
    }

    def add(below, branch, num_output, use_relu=True, **given):
        geometry = dict({"kernel_size": 1, "pad": 0, "stride": 1}, **given)
        geometry.update(names, **bn_param)
        ConvBNLayer(net, below, branch, True, use_relu, num_output, **geometry)
        return "res{}_{}".format(block_name, branch)

    shortcut = from_layer
    if use_branch1:
        shortcut = add(from_layer, "branch1", out2c, use_relu=False, stride=stride)
    branch2 = add(from_layer, "branch2a", out2a, stride=stride)
    branch2 = add(branch2, "branch2b", out2b, kernel_size=3, pad=dilation, dilation=dilation)
    branch2 = add(branch2, "branch2c", out2c, use_relu=False)
    total = "res{}".format(block_name)
    net[total] = L.Eltwise(net[shortcut], net[branch2])
    net[total + "_relu"] = L.ReLU(net[total], in_place=True)


def AddPooledExtraLayers(net, use_batchnorm=True):
    """Add the extra maps of SSD on ResNet-101 behind the last layer of a net.

    Three maps, each half of the one before, and the average of the last. Names begin with the name
    of the layer that they stand on: `res5c_relu/conv1_2`, ..., and `pool6`. (The original script
    calls this AddExtraLayers too.)

    Args:
        net: ends in the backbone's coarsest map.
        use_batchnorm: see `ConvBNLayer`.

    Returns:
        The net.
    """
    base = below = list(net.keys())[-1]
    for index, half in enumerate((256, 128, 128), 1):
        first, second = "{}/conv{}_1".format(base, index), "{}/conv{}_2".format(base, index)
        ConvBNLayer(net, below, first, use_batchnorm, True, half, 1, 0, 1)
        ConvBNLayer(net, first, second, use_batchnorm, True, 2 * half, 3, 1, 2)
        below = second
    net.pool6 = L.Pooling(net[below], pool=P.Pooling.AVE, global_pooling=True)
    return net
