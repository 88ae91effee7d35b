"""The bodies of DSOD: densely connected, trained from scratch (DS/A-B-k-theta).

A body is a stem, four dense blocks with a transition after each, and extra layers that halve the
map. The maps to predict from are called First, Second, Third, ...:

    stem, pool, block 1, transition, pool, block 2, transition = First   1/8 of the image
    pool, block 3, transition, block 4, transition
        + 1x1 convolution of the pooled First                  = Second  1/16
    half of it 1x1 after pooling, half 3x3 with stride 2       = Third   1/32, and so on

`conv`, where functions have it, is a convolution with its batch norm and ReLU in some order; it is
called with (bottom, num_output, kernel_size, stride).

Source: Shen et al., "DSOD: Learning Deeply Supervised Object Detectors from Scratch", table 1.
Quirk: the last transition has 256 channels whatever theta says (the paper's table prints 1568).
"""

# ruff: noqa: B905  (zip has no `strict` in Python 3.6)

from collections.abc import Callable
from typing import NamedTuple

from caffe import NetSpec
from caffe.models.blocks import bn_relu, bn_relu_conv, concat, conv_bn_relu, convolution, max_pool
from caffe.net_spec import Top

MAP_NAMES = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth")
NUM_BLOCKS = 4


class DenseBody(NamedTuple):
    """A body in the notation of the paper, DS/A-B-k-theta.

    stem: channels of the stem's convolutions; the first (A) has stride 2.
    bottleneck: channels B of the 1x1 convolution in a dense layer.
    growth: channels k that a dense layer adds.
    blocks: dense layers in each of the four blocks.
    compression: theta, what a transition keeps of its channels.
    last_transition: channels after block 4, and of the pooled First that joins them.
    extras: half the channels of Third, Fourth, ...
    """

    stem: "tuple[int, ...]" = (64, 64, 128)
    bottleneck: int = 192
    growth: int = 48
    blocks: "tuple[int, ...]" = (6, 8, 8, 8)
    compression: float = 1.0
    last_transition: int = 256
    extras: "tuple[int, ...]" = (256, 128, 128, 128)

    @property
    def sources(self) -> "tuple[str, ...]":
        """Names of the maps to predict from, finest first."""
        return MAP_NAMES[: 2 + len(self.extras)]

    @property
    def transitions(self) -> "tuple[int, ...]":
        """Channels after each block."""
        channels = self.stem[-1]
        widths = []
        for num_layers in self.blocks[:-1]:
            channels = int((channels + num_layers * self.growth) * self.compression)
            widths.append(channels)
        return (*widths, self.last_transition)

    def check(self) -> None:
        """Raise a ValueError if no body can be made of this description."""
        if len(self.blocks) != NUM_BLOCKS:
            raise ValueError(f"blocks must be {NUM_BLOCKS} numbers of layers, got {self.blocks}")
        if not self.stem:
            raise ValueError("stem must have at least one convolution")
        most = len(MAP_NAMES) - 2
        if len(self.extras) > most:
            raise ValueError(f"extras may be up to {most} widths, got {self.extras}")

    def add_to(self, net: NetSpec, from_layer: str = "data") -> Top:
        """Add the body to a net and return its coarsest map.

        Args:
            net: has `from_layer`; gets the maps named in `sources`.
            from_layer: name of the image blob.

        Raises:
            ValueError: the description has not four blocks, no stem, or too many maps.
        """
        self.check()
        widths = self.transitions
        x = max_pool(add_stem(net[from_layer], self.stem))
        x = add_dense_block(x, self.blocks[0], self.growth, self.bottleneck)
        x = max_pool(transition(x, widths[0]))
        x = add_dense_block(x, self.blocks[1], self.growth, self.bottleneck)
        first = net[MAP_NAMES[0]] = transition(x, widths[1])
        x = max_pool(first)
        for num_layers, width in zip(self.blocks[2:], widths[2:]):
            x = transition(add_dense_block(x, num_layers, self.growth, self.bottleneck), width)
        pooled_first = bn_relu_conv(max_pool(first), self.last_transition)
        x = net[MAP_NAMES[1]] = concat(x, pooled_first)
        for name, num_output in zip(MAP_NAMES[2:], self.extras):
            x = net[name] = add_downsampling(x, num_output)
        return x


DSOD300 = DenseBody()  # DS/64-192-48-1
DSOD300_LITE = DenseBody(bottleneck=256, growth=64, blocks=(3, 4, 4, 4))  # DS/64-256-64-1
DSOD300_SMALLEST = DenseBody(bottleneck=64, growth=16)  # DS/64-64-16-1

# Four maps of a 96 px to 128 px image, under a hundredth of DSOD300's work: for demos and tests.
TINY = DenseBody(
    stem=(16, 16, 32),
    bottleneck=32,
    growth=8,
    blocks=(2, 2, 2, 2),
    last_transition=32,
    extras=(32, 32),
)


def add_stem(
    bottom: Top, widths: "tuple[int, ...]", conv: "Callable[..., Top]" = conv_bn_relu
) -> Top:
    """Return 3x3 convolutions with batch norm and ReLU, the first with stride 2."""
    for index, num_output in enumerate(widths):
        bottom = conv(bottom, num_output, 3, stride=2 if index == 0 else 1)
    return bottom


def bl_layer(
    bottom: Top,
    growth: int,
    bottleneck: int,
    stride: int = 1,
    conv: "Callable[..., Top]" = bn_relu_conv,
) -> Top:
    """Return the new channels of a dense layer: 1x1 to `bottleneck`, then 3x3 to `growth`."""
    return conv(conv(bottom, bottleneck), growth, 3, stride)


def add_bl_layer(
    bottom: Top, growth: int, bottleneck: int, conv: "Callable[..., Top]" = bn_relu_conv
) -> Top:
    """Return a dense layer: its bottom with `bl_layer` of it appended."""
    return concat(bottom, bl_layer(bottom, growth, bottleneck, conv=conv))


def add_dense_block(
    bottom: Top,
    num_layers: int,
    growth: int,
    bottleneck: int,
    conv: "Callable[..., Top]" = bn_relu_conv,
) -> Top:
    """Return `num_layers` dense layers on each other."""
    for _ in range(num_layers):
        bottom = add_bl_layer(bottom, growth, bottleneck, conv)
    return bottom


def transition(bottom: Top, num_output: int) -> Top:
    """Return batch norm, ReLU and 1x1 convolution, without the pooling that may follow."""
    return convolution(bn_relu(bottom, in_place=False), num_output)


def add_downsampling(
    bottom: Top, num_output: int, conv: "Callable[..., Top]" = bn_relu_conv
) -> Top:
    """Return a map of half the size: `num_output` pooled and `num_output` strided channels."""
    pooled = conv(max_pool(bottom), num_output)
    return concat(pooled, bl_layer(bottom, num_output, num_output, stride=2, conv=conv))


def DSOD300_V3_Body(net: NetSpec, from_layer: str = "data", body: DenseBody = DSOD300) -> NetSpec:
    """Add DSOD300's body (or another) to a net, under the name the original scripts use.

    Args:
        net: see `DenseBody.add_to`.
        from_layer: see `DenseBody.add_to`.
        body: which one.

    Returns:
        The net.
    """
    body.add_to(net, from_layer)
    return net
