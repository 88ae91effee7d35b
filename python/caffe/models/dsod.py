"""The bodies of DSOD: densely connected, trained from scratch (DS/A-B-k-theta).

A body is a stem, dense blocks with a transition after each, and a front end whose layers halve the
map. The maps to predict from are called First, Second, Third, ...:

    stem, pool, block 1, transition, pool, block 2, transition = First   1/8 of the image
    pool, block 3, transition, block 4, transition
        + 1x1 convolution of the pooled First                  = Second  1/16
    half of it 1x1 after pooling, half 3x3 with stride 2       = Third   1/32, and so on

The paper's ablations are bodies too: a single 7x7 convolution for a stem, a plain front end (SSD's
pairs of 1x1 and 3x3 convolutions, nothing reused), and no block beyond the third, which exists
only because its transition does not pool.

`conv`, where functions have it, is a convolution with its batch norm and ReLU in some order; it is
called with (bottom, num_output, kernel_size, stride).

Source: Shen et al., "DSOD: Learning Deeply Supervised Object Detectors from Scratch", tables 1, 3.
Quirk: DSOD300's last transition has 256 channels whatever theta says (the table prints 1568).
"""

import re

from caffe.models.blocks import bn_relu, bn_relu_conv, concat, conv_bn_relu, convolution, max_pool
from caffe.models.records import record

MAP_NAMES = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth", "Seventh", "Eighth")
FEWEST_BLOCKS = 3
NOTATION = re.compile(r"DS/(\d+)-(\d+)-(\d+)-(\d+(?:\.\d+)?)\Z")


class DenseBody(
    record(
        "DenseBody",
        ("stem", (64, 64, 128)),
        ("stem_kernel", 3),
        ("bottleneck", 192),
        ("growth", 48),
        ("blocks", (6, 8, 8, 8)),
        ("compression", 1.0),
        ("last_transition", 256),
        ("extras", (256, 128, 128, 128)),
        ("dense_front", True),
        ("late_suffix", ""),
    )
):
    """A body in the notation of the paper, DS/A-B-k-theta.

    stem: channels of the stem's convolutions; the first (A) has stride 2.
    stem_kernel: size of its convolutions.
    bottleneck: channels B of the 1x1 convolution in a dense layer.
    growth: channels k that a dense layer adds.
    blocks: dense layers in each block. The first two transitions are followed by pooling, those
        after the third block are not.
    compression: theta, what a transition keeps of its channels.
    last_transition: channels after the last block, and of the pooled First that joins them; none
        for what theta says.
    extras: half the channels of Third, Fourth, ...
    dense_front: maps from Second on keep the previous map, pooled, as half of their channels.
    late_suffix: of the names of the fifth map and those after it.
    """

    @property
    def notation(self):
        """`DS/A-B-k-theta`."""
        return "DS/{}-{}-{}-{:g}".format(
            self.stem[0], self.bottleneck, self.growth, self.compression
        )

    @property
    def sources(self):
        """Names of the maps to predict from, finest first."""
        names = MAP_NAMES[: 2 + len(self.extras)]
        return names[:4] + tuple(name + self.late_suffix for name in names[4:])

    @property
    def transitions(self):
        """Channels after each block."""
        channels = self.stem[-1]
        widths = []
        for num_layers in self.blocks:
            channels = int((channels + num_layers * self.growth) * self.compression)
            widths.append(channels)
        if self.last_transition is not None:
            widths[-1] = self.last_transition
        return tuple(widths)

    def check(self):
        """Raise a ValueError if no body can be made of this description."""
        if len(self.blocks) < FEWEST_BLOCKS:
            fewest = "blocks must be {} or more numbers of layers".format(FEWEST_BLOCKS)
            raise ValueError("{}, got {}".format(fewest, self.blocks))
        if not self.stem:
            raise ValueError("stem must have at least one convolution")
        most = len(MAP_NAMES) - 2
        if len(self.extras) > most:
            raise ValueError("extras may be up to {} widths, got {}".format(most, self.extras))

    def add_to(self, net, from_layer="data"):
        """Add the body to a net and return its coarsest map.

        Args:
            net: has `from_layer`; gets the maps named in `sources`.
            from_layer: name of the image blob.

        Raises:
            ValueError: the description has too few blocks, no stem, or too many maps.
        """
        self.check()
        widths = self.transitions
        x = max_pool(add_stem(net[from_layer], self.stem, kernel_size=self.stem_kernel))
        x = add_dense_block(x, self.blocks[0], self.growth, self.bottleneck)
        x = max_pool(transition(x, widths[0]))
        x = add_dense_block(x, self.blocks[1], self.growth, self.bottleneck)
        first = net[MAP_NAMES[0]] = transition(x, widths[1])
        x = max_pool(first)
        for num_layers, width in zip(self.blocks[2:], widths[2:]):
            x = transition(add_dense_block(x, num_layers, self.growth, self.bottleneck), width)
        if self.dense_front:
            x = concat(x, bn_relu_conv(max_pool(first), widths[-1]))
        net[MAP_NAMES[1]] = x
        for name, num_output in zip(self.sources[2:], self.extras):
            add = add_downsampling if self.dense_front else add_plain_downsampling
            x = net[name] = add(x, num_output)
        return x


def dense_body(notation, **fields):
    """Return DSOD300's body with the sizes of another notation, and other fields changed.

    Args:
        notation: DS/A-B-k-theta, e.g. `DS/64-36-48-1`.
        fields: of `DenseBody`.

    Raises:
        ValueError: the notation is not of that form.
    """
    match = NOTATION.match(notation)
    if match is None:
        raise ValueError(
            "notation must be like DS/64-192-48-1 (DS/A-B-k-theta), got {!r}".format(notation)
        )
    first, bottleneck, growth = (int(number) for number in match.groups()[:3])
    sizes = DenseBody(
        stem=(first, first, 2 * first),
        bottleneck=bottleneck,
        growth=growth,
        compression=float(match.group(4)),
    )
    return sizes._replace(**fields)


DSOD300 = DenseBody()  # DS/64-192-48-1
DSOD300_LITE = dense_body("DS/64-256-64-1", blocks=(3, 4, 4, 4))
DSOD300_SMALLEST = dense_body("DS/64-64-16-1")
DSOD300_PLAIN = DenseBody(last_transition=None, dense_front=False)
DSOD512 = DenseBody(extras=(256, 128, 128, 128, 128), late_suffix="_")

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
    bottom,
    widths,
    conv=conv_bn_relu,
    kernel_size=3,
):
    """Return convolutions with batch norm and ReLU, the first with stride 2."""
    for index, num_output in enumerate(widths):
        bottom = conv(bottom, num_output, kernel_size, stride=2 if index == 0 else 1)
    return bottom


def bl_layer(
    bottom,
    growth,
    bottleneck,
    stride=1,
    conv=bn_relu_conv,
):
    """Return the new channels of a dense layer: 1x1 to `bottleneck`, then 3x3 to `growth`."""
    return conv(conv(bottom, bottleneck), growth, 3, stride)


def add_bl_layer(bottom, growth, bottleneck, conv=bn_relu_conv):
    """Return a dense layer: its bottom with `bl_layer` of it appended."""
    return concat(bottom, bl_layer(bottom, growth, bottleneck, conv=conv))


def add_dense_block(
    bottom,
    num_layers,
    growth,
    bottleneck,
    conv=bn_relu_conv,
):
    """Return `num_layers` dense layers on each other."""
    for _ in range(num_layers):
        bottom = add_bl_layer(bottom, growth, bottleneck, conv)
    return bottom


def transition(bottom, num_output):
    """Return batch norm, ReLU and 1x1 convolution, without the pooling that may follow."""
    return convolution(bn_relu(bottom, in_place=False), num_output)


def add_downsampling(bottom, num_output, conv=bn_relu_conv):
    """Return a map of half the size: `num_output` pooled and `num_output` strided channels."""
    pooled = conv(max_pool(bottom), num_output)
    return concat(pooled, bl_layer(bottom, num_output, num_output, stride=2, conv=conv))


def add_plain_downsampling(bottom, num_output):
    """Return a map of half the size as SSD does: `num_output` channels, then twice as many."""
    return bn_relu_conv(bn_relu_conv(bottom, num_output), 2 * num_output, 3, stride=2)


def DSOD300_V3_Body(net, from_layer):
    """Add DSOD300's body to a net (see `DenseBody.add_to`) and return the net."""
    DSOD300.add_to(net, from_layer)
    return net


def DSOD512_V3_Body(net, from_layer):
    """Add DSOD512's body to a net (see `DenseBody.add_to`) and return the net."""
    DSOD512.add_to(net, from_layer)
    return net
