"""The bodies of the first SSD: VGG16, ZFNet, and the extra layers behind them.

SSD's VGG16 is "fully convolutional, reduced, dilated": fc6 and fc7 are convolutions of 1024
channels, pool5 keeps the size, and fc6 is spread out to see as much as before. Layers have the
names of the released classifiers, so their weights load by name.

    VGGNetBody(net, from_layer="data", fully_conv=True, reduced=True, dilated=True, dropout=False)
    AddExtraLayers(net, use_batchnorm=False)

is `VGG_SSD300.add_to(net)`. Batch norm in the backbone is for training from scratch.

Spec: ssd-layers.md section 10.
Sources: Liu et al., "SSD: Single Shot MultiBox Detector"; Zhu et al., "ScratchDet".
"""

from caffe.models.backbone import VGG16_DEPTHS, Backbone, freeze
from caffe.models.blocks import NormedChain
from caffe.models.named_layers import ConvBNLayer
from caffe.models.records import record

VGG16_WIDTHS = (64, 128, 256, 512, 512)
VGG16_FC_WIDTH = {False: 4096, True: 1024}  # by whether it is reduced

# Geometry of fc6 by (dilated, reduced). It sees about the same part of the image in each case.
VGG16_FC6 = {
    (False, False): (7, 1),  # kernel size, dilation
    (False, True): (3, 3),
    (True, False): (7, 2),
    (True, True): (3, 6),
}
ZF_FC6 = {
    (False, False): {"kernel_size": 6, "pad": 2},
    (False, True): {"kernel_size": 3, "pad": 2, "dilation": 2},
    (True, False): {"kernel_size": 6, "pad": 5, "dilation": 2},
    (True, True): {"kernel_size": 3, "pad": 5, "dilation": 5},
}


class Extra(
    record(
        "Extra",
        "num_output",
        ("kernel_size", 3),
        ("pad", 1),
        ("stride", 2),
    )
):
    """A map behind a backbone: 1x1 to half of `num_output`, then a convolution to `num_output`.

    kernel_size: of the second convolution, as are `pad` and `stride`.
    """


EXTRAS_300 = (Extra(512), Extra(256), Extra(256, pad=0, stride=1), Extra(256, pad=0, stride=1))
EXTRAS_512 = (Extra(512), Extra(256), Extra(256), Extra(256), Extra(256, kernel_size=4, stride=1))
EXTRAS = {300: EXTRAS_300, 512: EXTRAS_512}


class VGGBody(
    record(
        "VGGBody",
        ("widths", VGG16_WIDTHS),
        ("fc_width", 1024),
        ("extras", EXTRAS_300),
        ("batch_norm", False),
        ("extras_batch_norm", False),
        ("depths", VGG16_DEPTHS),
        ("filler", "xavier"),
    )
):
    """SSD's VGG16 with its extra layers.

    widths: channels of the five stages.
    fc_width: channels of fc6 and fc7.
    extras: the maps conv6_2, conv7_2, ...
    batch_norm: in the backbone.
    extras_batch_norm: in the extra layers, which count as head where SSD is varied.
    depths: convolutions in each of the five stages.
    filler: of the backbone's weights.
    """

    @property
    def sources(self):
        """Names of the maps to predict from, finest first."""
        extras = ["conv{}_2".format(6 + i) for i in range(len(self.extras))]
        return tuple(["conv4_{}".format(self.depths[3]), "fc7"] + extras)

    def add_to(self, net, from_layer="data"):
        """Add the body to a net and return its coarsest map.

        Args:
            net: has `from_layer`; gets the maps named in `sources`.
            from_layer: name of the image blob.

        Raises:
            ValueError: not five widths, or not five depths.
        """
        stages = len(VGG16_DEPTHS)
        if len(self.widths) != stages:
            raise ValueError("widths must be {} numbers, got {}".format(stages, self.widths))
        if len(self.depths) != stages or min(self.depths) < 1:
            raise ValueError(
                "depths must be {} numbers of at least 1, got {}".format(stages, self.depths)
            )
        backbone = Backbone(net, net[from_layer], self.batch_norm, False, self.depths, self.filler)
        body = _Stages(self.widths)
        body.add_to(backbone)
        body.add_fc_to(backbone, self.fc_width, fully_conv=True, reduced=True, dilated=True)
        _add_extras(net, self.extras, self.extras_batch_norm, lr_mult=1)
        return net[self.sources[-1]]


class ZFBody(record("ZFBody", ("extras", EXTRAS_300))):
    """ZFNet with SSD's extra layers; its second convolution has the size of VGG16's conv4_3.

    extras: the maps conv6_2, conv7_2, ...
    """

    @property
    def sources(self):
        """Names of the maps to predict from, finest first."""
        return ("conv2", "fc7") + tuple("conv{}_2".format(6 + i) for i in range(len(self.extras)))

    def add_to(self, net, from_layer="data"):
        """Add the body to a net and return its coarsest map; see `VGGBody.add_to`."""
        ZFNetBody(net, from_layer, fully_conv=True, reduced=True, dilated=True, dropout=False)
        _add_extras(net, self.extras, use_batchnorm=False, lr_mult=1)
        return net[self.sources[-1]]


VGG_SSD300 = VGGBody()
VGG_SSD512 = VGGBody(extras=EXTRAS_512)

# Four maps of a 96 px to 128 px image, under a hundredth of SSD300's work: for demos and tests.
# VGG16's thirteen convolutions in a row, this narrow, do not learn the synthetic shapes from
# scratch even with batch norm: their maps become the same at all positions. Five learn them.
# Learns fastest with L2 normalisation on every map, as `DetectorSpec` has it by default.
TINY_VGG = VGGBody(
    widths=(24, 48, 64, 96, 96),
    fc_width=128,
    extras=(Extra(64), Extra(64)),
    batch_norm=True,
    extras_batch_norm=True,
    depths=(1, 1, 1, 1, 1),
    filler="msra",
)


def VGGNetBody(
    net,
    from_layer,
    need_fc=True,
    fully_conv=False,
    reduced=False,
    dilated=False,
    nopool=False,
    dropout=True,
    freeze_layers=[],
    dilate_pool4=False,
):
    """Add VGG16 to a net.

    Args:
        net: has `from_layer`.
        from_layer: name of the image blob.
        need_fc: go on behind conv5_3 to fc7.
        fully_conv: fc6 and fc7 are convolutions, so that any image size fits.
        reduced: they have 1024 channels and fc6 is 3x3, rather than 4096 and 7x7.
        dilated: pool5 keeps the size and fc6 is spread out.
        nopool: a convolution with stride in place of each pooling.
        dropout: behind fc6 and fc7.
        freeze_layers: names of layers that do not learn.
        dilate_pool4: pool4 keeps the size and what follows is spread out; not with `nopool`.

    Returns:
        The net.

    Raises:
        ValueError: an unknown layer to freeze.
    """
    backbone = Backbone(net, net[from_layer], dropout=dropout)
    stages = _Stages(VGG16_WIDTHS, nopool, dilate_pool4 and not nopool)
    stages.add_to(backbone)
    if need_fc:
        width = VGG16_FC_WIDTH[fully_conv and reduced]
        stages.add_fc_to(backbone, width, fully_conv, reduced, dilated)
    freeze(net, freeze_layers)
    return net


class _Stages:
    """What VGG16 is made of: five stages, and two fully connected layers.

    Args:
        widths: channels of the stages.
        nopool: see `VGGNetBody`.
        spread_pool4: pool4 keeps the size and what follows is spread out.
    """

    def __init__(self, widths, nopool=False, spread_pool4=False):
        self.widths = widths
        self.nopool = nopool
        self.spread_pool4 = spread_pool4
        self.dilation = 2 if spread_pool4 else 1

    def add_to(self, backbone):
        """Add the stages, with a reduction between them."""
        for stage, width in enumerate(self.widths[:4], 1):
            backbone.add_stage(stage, width)
            keep_size = self.spread_pool4 and stage == 4
            backbone.add_reduction(stage, width, self.nopool, keep_size=keep_size)
        backbone.add_stage(5, self.widths[4], dilation=self.dilation, pad=self.dilation)

    def add_fc_to(self, backbone, width, fully_conv, reduced, dilated):
        """Add the last reduction, fc6 and fc7 of `width` channels; see `VGGNetBody`."""
        backbone.add_reduction(5, self.widths[4], self.nopool, keep_size=dilated)
        if not fully_conv:
            backbone.add_inner_products(width)
            return
        kernel_size, spread = VGG16_FC6[(dilated, reduced)]
        dilation = self.dilation * spread
        pad = dilation * (kernel_size - 1) // 2
        backbone.add_fc_convolutions(width, kernel_size, pad=pad, dilation=dilation)


def VGGNetBNBody(
    net,
    from_layer,
    need_fc=True,
    fully_conv=False,
    reduced=False,
    dilated=False,
    nopool=False,
    dropout=True,
    freeze_layers=[],
    dilate_pool4=False,
):
    """Add ScratchDet's VGG16 to a net: batch norm behind every convolution and every pooling.

    Quirk: it always is fully convolutional, reduced and dilated, without dropout, and has SSD's
        extra layers; those keywords are taken and change nothing.

    Args:
        net: has `from_layer`.
        from_layer: name of the image blob.
        need_fc: see `VGGNetBody`, as are the others.
        fully_conv: without effect.
        reduced: without effect.
        dilated: without effect.
        nopool: refused.
        dropout: without effect.
        freeze_layers: refused.
        dilate_pool4: refused.

    Returns:
        The net.

    Raises:
        ValueError: a keyword of whose effect nothing is known.
    """
    if not need_fc or nopool or freeze_layers or dilate_pool4:
        raise ValueError(
            "VGGNetBNBody takes need_fc, nopool, freeze_layers and dilate_pool4 as they are"
        )
    chain = NormedChain(net, net[from_layer])
    for stage, width in enumerate(VGG16_WIDTHS, 1):
        spread = {"dilation": 1} if stage == 5 else {}
        for index in range(1, VGG16_DEPTHS[stage - 1] + 1):
            chain.add("conv{}_{}".format(stage, index), width, 3, pad=1, **spread)
        geometry = {"kernel_size": 3, "stride": 1, "pad": 1} if stage == 5 else {}
        chain.add_pooling("pool{}".format(stage), **geometry)
    chain.add("fc6", 1024, 3, pad=6, dilation=6)
    chain.add("fc7", 1024, 1)
    chain.add_extras()
    return net


def ZFNetBody(
    net,
    from_layer,
    need_fc=True,
    fully_conv=False,
    reduced=False,
    dilated=False,
    dropout=True,
    need_fc8=False,
    freeze_layers=[],
):
    """Add ZFNet (the smaller of Faster R-CNN's two nets) to a net.

    Args:
        net: has `from_layer`.
        from_layer: name of the image blob.
        need_fc: go on behind conv5 to fc7.
        fully_conv: fc6 and fc7 are convolutions, so that any image size fits.
        reduced: they have 1024 channels and fc6 is 3x3, rather than 4096 and 6x6.
        dilated: pool5 keeps the size and fc6 is spread out.
        dropout: behind fc6 and fc7.
        need_fc8: end in ImageNet's 1000 classes, `prob`.
        freeze_layers: names of layers that do not learn.

    Returns:
        The net.

    Raises:
        ValueError: `need_fc8` without `need_fc`, or an unknown layer to freeze.
    """
    if need_fc8 and not need_fc:
        raise ValueError("need_fc8 needs need_fc")
    backbone = Backbone(net, net[from_layer], dropout=dropout)
    for index, (num_output, kernel_size) in enumerate(((96, 7), (256, 5)), 1):
        pad = kernel_size // 2
        names = ("conv{}".format(index), "relu{}".format(index))
        backbone.add_convolution(names[0], names[1], num_output, kernel_size, pad=pad, stride=2)
        backbone.add_local_norm("norm{}".format(index))
        backbone.add_pooling("pool{}".format(index), kernel_size=3, stride=2, pad=1)
    for index, num_output in enumerate((384, 384, 256), 3):
        backbone.add_convolution(
            "conv{}".format(index), "relu{}".format(index), num_output, 3, pad=1
        )
    if need_fc:
        backbone.add_pooling("pool5", kernel_size=3, stride=1 if dilated else 2, pad=1)
        if fully_conv:
            width = 1024 if reduced else 4096
            backbone.add_fc_convolutions(width, **ZF_FC6[(dilated, reduced)])
        else:
            backbone.add_inner_products(4096)
    if need_fc8:
        backbone.add_classes(fully_conv)
    freeze(net, freeze_layers)
    return net


def AddExtraLayers(net, use_batchnorm=True, lr_mult=1, image_size=300):
    """Add SSD's extra maps, conv6_2 and on, behind the last layer of a net.

    Args:
        net: ends in the backbone's coarsest map.
        use_batchnorm: see `ConvBNLayer`, as is `lr_mult`.
        lr_mult: see `use_batchnorm`.
        image_size: 300 px end in conv9_2, 512 px in conv10_2.

    Returns:
        The net.

    Raises:
        ValueError: another image size.
    """
    if image_size not in EXTRAS:
        sizes = " or ".join(str(size) for size in sorted(EXTRAS))
        raise ValueError("image_size must be {}, got {!r}".format(sizes, image_size))
    _add_extras(net, EXTRAS[image_size], use_batchnorm, lr_mult)
    return net


def _add_extras(net, extras, use_batchnorm, lr_mult):
    given = {"use_bn": use_batchnorm, "use_relu": True, "lr_mult": lr_mult}
    below = list(net.keys())[-1]
    for index, extra in enumerate(extras, 6):
        first, second = "conv{}_1".format(index), "conv{}_2".format(index)
        half = extra.num_output // 2
        ConvBNLayer(net, below, first, num_output=half, kernel_size=1, pad=0, stride=1, **given)
        ConvBNLayer(net, first, second, **dict(given, **extra._asdict()))
        below = second
