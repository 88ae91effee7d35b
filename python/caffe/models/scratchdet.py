"""The bodies of ScratchDet: residual, with a root that keeps the image's resolution.

A ResNet starts with a 7x7 convolution of stride 2; a Root-ResNet with three 3x3 convolutions of
stride 1, so that small objects keep their pixels. Blocks are pre-activated and so are the extra
layers behind them:

    root, pool                    1/2 of the image
    conv2_1 ... conv2_6           1/2    three blocks of two convolutions
    conv3_1 ... conv3_8           1/4
    conv4_1 ... conv4_12          1/8    the first map to predict from
    conv5_1 ... conv5_6           1/16   the second
    conv6_1, conv6_2              1/32   the third, and so on: a block each

Spec: ssd-layers.md section 10.
Source: Zhu et al., "ScratchDet: Training Single-Shot Object Detectors from Scratch".
Quirk: predictions are made from the last convolution of a stage, before its shortcut is added.
Quirk: the last two extra maps of a 300 px image are both 5x5, with the steps of 3x3 and 1x1.
"""

from caffe import layers as L
from caffe.models.backbone import freeze
from caffe.models.blocks import NormedChain, batch_norm, bn_relu, max_pool
from caffe.models.records import record

NUM_STAGES = 4


class RootResNetBody(
    record(
        "RootResNetBody",
        ("root", (64, 64, 64)),
        ("blocks", (3, 4, 6, 3)),
        ("widths", (64, 128, 256, 512)),
        ("extras", (128, 128, 128, 128)),
        ("extra_strides", (2, 2, 1, 1)),
        ("root_stride", 1),
    )
):
    """A Root-ResNet with residual extra layers.

    root: channels of the 3x3 convolutions at full resolution.
    blocks: residual blocks in each of the four stages.
    widths: channels of the four stages.
    extras: channels of conv6_2, conv7_2, ...
    extra_strides: of the same; 1 keeps the size.
    root_stride: 2 halves the image in the root's first convolution, as a ResNet does, rather than
        by pooling behind the root.
    """

    @property
    def sources(self):
        """Names of the maps to predict from, finest first."""
        stages = [(4, self.blocks[2]), (5, self.blocks[3])]
        stages += [(6 + index, 1) for index in range(len(self.extras))]
        return tuple("conv{}_{}".format(stage, 2 * num_blocks) for stage, num_blocks in stages)

    def add_to(self, net, from_layer="data"):
        """Add the body to a net and return its coarsest map.

        Args:
            net: has `from_layer`; gets the maps named in `sources`.
            from_layer: name of the image blob.

        Raises:
            ValueError: the description has not four stages, no root, or unequal extras.
        """
        _check(self)
        trunk = _Trunk(net, self._add_root(net, from_layer), self.root[-1])
        for index, (num_blocks, width) in enumerate(zip(self.blocks, self.widths)):
            trunk.add_stage(2 + index, num_blocks, width, stride=None if index == 0 else 2)
        for index, (width, stride) in enumerate(zip(self.extras, self.extra_strides)):
            trunk.add_stage(6 + index, 1, width, stride)
        return net[self.sources[-1]]

    def _add_root(self, net, from_layer):
        return add_root(net, from_layer, self.root, stride=self.root_stride)


ROOT_RESNET34 = RootResNetBody()
ROOT_RESNET18 = RootResNetBody(blocks=(2, 2, 2, 2))

# Not published: seven maps of a 512 px image, from 64x64 to 1x1, as SSD512 has them.
EXTRAS_512 = (128, 128, 128, 128, 128)
ROOT_RESNET34_512 = ROOT_RESNET34._replace(extras=EXTRAS_512, extra_strides=(2, 2, 2, 2, 2))
ROOT_RESNET18_512 = ROOT_RESNET18._replace(extras=EXTRAS_512, extra_strides=(2, 2, 2, 2, 2))

# Four maps of a 96 px to 128 px image, under a hundredth of ScratchDet's work: for demos and tests.
# Learns fastest with L2 normalisation on every map, as `DetectorSpec` has it by default.
TINY_ROOT_RESNET = RootResNetBody(
    root=(16, 16, 16),
    blocks=(1, 1, 1, 1),
    widths=(16, 32, 64, 96),
    extras=(64, 64),
    extra_strides=(2, 2),
)


def _check(body):
    for keyword in ("blocks", "widths"):
        value = getattr(body, keyword)
        if len(value) != NUM_STAGES:
            raise ValueError("{} must be {} numbers, got {}".format(keyword, NUM_STAGES, value))
    if not body.root:
        raise ValueError("root must have at least one convolution")
    if len(body.extras) != len(body.extra_strides):
        raise ValueError(
            "extras {} need as many strides, got {}".format(body.extras, body.extra_strides)
        )


def _bn_relu_in_place(bottom):
    return L.ReLU(batch_norm(bottom, in_place=True), in_place=True)


def add_root(net, from_layer, widths, norm=_bn_relu_in_place, stride=1):
    """Add the 3x3 convolutions stem_1, stem_2, ... and return a map of half the image's size.

    With stride 1 a pooling behind them halves it, with stride 2 the first convolution.
    """
    x = net[from_layer]
    for index, num_output in enumerate(widths, 1):
        name = "stem_{}".format(index)
        net[name] = _convolution(x, num_output, 3, stride=stride if index == 1 else None)
        x = norm(net[name])
    if stride != 1:
        return x
    pool = net.pool1 = max_pool(x)
    return pool


class _Trunk:
    """A growing chain of residual blocks.

    Args:
        net: gets the blocks.
        bottom: of the first block; its batch norm and ReLU are already done.
        channels: of `bottom`.
        norm: batch norm and ReLU inside of blocks.
    """

    def __init__(self, net, bottom, channels, norm=_bn_relu_in_place):
        self.net = net
        self.total = bottom  # what shortcuts carry on
        self.active = bottom  # the same after batch norm and ReLU: what convolutions read
        self.channels = channels
        self.norm = norm

    def add_stage(self, stage, num_blocks, width, stride):
        """Add blocks of one width; the first may have a stride."""
        for block in range(num_blocks):
            names = (
                "conv{}_{}".format(stage, 2 * block + 1),
                "conv{}_{}".format(stage, 2 * block + 2),
            )
            self._add_block(names, width, stride if block == 0 else None)

    def _add_block(self, names, width, stride):
        first, second = names
        net = self.net
        net[first] = _convolution(self.active, width, 3, stride)
        net[second] = _convolution(self.norm(net[first]), width, 3)
        shortcut = self.total
        if width != self.channels or stride not in (None, 1):
            shortcut = _convolution(self.active, width, 1, stride)
        # Layers without a name are only made once a later one reads them: the last sum never is.
        self.total = L.Eltwise(shortcut, net[second])
        self.active = bn_relu(self.total)
        self.channels = width


def _convolution(bottom, num_output, kernel_size, stride=None):
    fields = {
        "param": [{"lr_mult": 1, "decay_mult": 1}],
        "num_output": num_output,
        "kernel_size": kernel_size,
        "pad": kernel_size // 2,
        "bias_term": False,
        "weight_filler": {"type": "xavier"},
    }
    if stride is not None:
        fields["stride"] = stride
    return L.Convolution(bottom, **fields)


def Resnet34rootV2_res(net, from_layer, freeze_layers=[]):
    """Add ScratchDet's body to a net, under the name the original scripts use.

    Args:
        net: see `RootResNetBody.add_to`.
        from_layer: see `RootResNetBody.add_to`.
        freeze_layers: names of convolutions that do not learn.

    Returns:
        The net.

    Raises:
        ValueError: an unknown layer to freeze.
    """
    ROOT_RESNET34.add_to(net, from_layer)
    freeze(net, freeze_layers)
    return net


def Resnet18rootV2(net, from_layer, freeze_layers=[]):
    """Add ScratchDet's smaller body to a net: two blocks in each stage, SSD's extra layers.

    Quirk: its batch norm has blobs of its own, unlike that of `Resnet34rootV2_res`, and the pooled
        root is normalised once more.

    Args:
        net: has `from_layer`.
        from_layer: name of the image blob.
        freeze_layers: names of convolutions that do not learn.

    Returns:
        The net.

    Raises:
        ValueError: an unknown layer to freeze.
    """
    pool = add_root(net, from_layer, ROOT_RESNET18.root, bn_relu)
    trunk = _Trunk(net, pool, ROOT_RESNET18.root[-1], bn_relu)
    trunk.active = bn_relu(pool)
    for index, (num_blocks, width) in enumerate(zip(ROOT_RESNET18.blocks, ROOT_RESNET18.widths)):
        trunk.add_stage(2 + index, num_blocks, width, stride=None if index == 0 else 2)
    NormedChain(net, trunk.active, in_place=False).add_extras()
    freeze(net, freeze_layers)
    return net
