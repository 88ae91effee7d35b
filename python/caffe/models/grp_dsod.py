"""The bodies of GRP-DSOD (GFR-DSOD): DSOD with a pyramid of maps and a gate on each.

The backbone has DSOD's widths and depths, but every convolution comes before its batch norm and
ReLU. Stem and block 1 join First; then each map takes the next coarser one, and a gate:

    First = block 2, stem, block 1                      at 1/8 of the image
    Second, Third, ... as in DSOD; the coarsest is called Recurrent<n>
    RecurrentI = twice as large next coarser map, map I   no copy for the coarsest
    RecurrentI_gate = RecurrentI + global * ReLU(channels * RecurrentI)

`channels` (a factor per channel) and `global` (one per image) are sigmoids of what a squeezed
global average of the map says.

Source: Shen et al., "Improving Object Detection from Scratch via Gated Feature Reuse".
Quirk: maps grow by frozen deconvolutions of stride 2. Caffe's bilinear filler makes a kernel of 2
    a single 1 in the corner, and they are not grouped: the sum of all channels goes to every
    second row and column, alike in each output, and the rest is zero, until batch norm.
Quirk: kernels are 2 or 1 only to hit the finer map's size, even or odd.
Quirk: the inner products of the gates have no filler, so they start at zero and only the biases
    of the two sigmoids ever learn: unless its weights are set, a trained gate is a constant.
Quirk: batch norm runs in place with an eps of 1e-4 (DSOD: 1e-5, in a blob of its own).
"""

from caffe import layers as L
from caffe import params as P
from caffe.models.blocks import batch_norm, concat, convolution, max_pool
from caffe.models.dsod import (
    MAP_NAMES,
    TINY,
    DenseBody,
    add_dense_block,
    add_downsampling,
    add_stem,
)
from caffe.models.records import record

EPS = 1e-4
SQUEEZE = 16  # a gate squeezes the averages of its channels to a 16th of their number


class GatedPyramid(
    record(
        "GatedPyramid",
        ("backbone", DenseBody(last_transition=171, extras=(86, 86, 86, 128))),
        ("shallow", 128),
        ("kernels", (2, 2, 2, 1, 1)),
    )
):
    """A body of GRP-DSOD.

    backbone: widths and depths; see `DenseBody`.
    shallow: channels of each of stem, block 1 and enlarged Second in Recurrent1.
    kernels: of the deconvolutions, finest first: 2 gives maps of an even size, 1 of an odd one.
    """

    def for_image(self, image_size):
        """Return this body with the kernels that square images of `image_size` pixels need."""
        size = -(-image_size // 8)
        kernels = []
        for _ in self.backbone.sources[1:]:
            kernels.append(1 if size % 2 else 2)
            size = -(-size // 2)
        return self._replace(kernels=tuple(kernels))

    @property
    def sources(self):
        """Names of the maps to predict from, finest first."""
        return tuple(_pyramid_name(level) + "_gate" for level in range(1, self.num_maps + 1))

    @property
    def num_maps(self):
        """Number of maps to predict from."""
        return len(self.backbone.sources)

    @property
    def enlarged(self):
        """Channels that each map but the coarsest takes of the next coarser one."""
        return ((self.shallow, self.backbone.transitions[-1]) + self.backbone.extras)[:-1]

    @property
    def channels(self):
        """Channels of each map to predict from."""
        first = self.backbone.transitions[1] + 2 * self.shallow
        halves = (self.backbone.transitions[-1],) + self.backbone.extras
        own = (first,) + tuple(2 * half for half in halves)
        return tuple(width + extra for width, extra in zip(own, self.enlarged + (0,)))

    def check(self):
        """Raise a ValueError if no body can be made of this description."""
        self.backbone.check()
        if not self.backbone.dense_front:
            raise ValueError("a pyramid needs a backbone with a dense front end")
        wanted = self.num_maps - 1
        if len(self.kernels) != wanted or not set(self.kernels) <= {1, 2}:
            raise ValueError(
                "kernels must be {} numbers, each 1 or 2, got {}".format(wanted, self.kernels)
            )

    def add_to(self, net, from_layer="data"):
        """Add the body to a net and return its coarsest map.

        Args:
            net: has `from_layer`; gets the maps named in `sources`.
            from_layer: name of the image blob.

        Raises:
            ValueError: a description that no body fits; see `check`.
        """
        self.check()
        maps = self._add_maps(net, from_layer)
        steps = zip(maps, maps[1:], self.enlarged, self.kernels)
        for level, (finer, coarser, num_output, kernel_size) in enumerate(steps, 1):
            enlarged = enlarge(coarser, num_output, kernel_size)
            net[_pyramid_name(level)] = concat(enlarged, finer)
        for level, width in enumerate(self.channels, 1):
            gated = add_gate(net, _pyramid_name(level), width)
        return gated

    def _add_maps(self, net, from_layer):
        """Add the backbone and return its maps, finest first."""
        body, widths, conv = self.backbone, self.backbone.transitions, conv_bn_relu_in_place

        def block(x, index):
            """Return dense block `index` and the convolution that follows it."""
            x = add_dense_block(x, body.blocks[index], body.growth, body.bottleneck, conv)
            return conv(x, widths[index])

        stem = add_stem(net[from_layer], body.stem, conv, body.stem_kernel)
        block_1 = block(max_pool(stem), 0)
        block_2 = block(max_pool(block_1), 1)
        shallow = [
            conv(max_pool(stem, kernel_size=4, stride=4), self.shallow),
            conv(max_pool(block_1), self.shallow),
        ]
        names = MAP_NAMES[: self.num_maps - 1] + (_pyramid_name(self.num_maps),)
        first = net[names[0]] = concat(block_2, *shallow)
        x = max_pool(block_2)
        for index in range(2, len(widths)):
            x = block(x, index)
        x = net[names[1]] = concat(x, conv(max_pool(first), widths[-1]))
        maps = [first, x]
        for name, num_output in zip(names[2:], body.extras):
            x = net[name] = add_downsampling(x, num_output, conv)
            maps.append(x)
        return maps


GRP_DSOD320 = GatedPyramid()
GRP_DSOD300 = GRP_DSOD320.for_image(300)

# Four maps of a 128 px image, for demos and tests. For 96 px: GRP_TINY.for_image(96).
GRP_TINY = GatedPyramid(backbone=TINY, shallow=16).for_image(128)


def _pyramid_name(level):
    return "Recurrent{}".format(level)


def _norm_relu(bottom):
    return L.ReLU(batch_norm(bottom, in_place=True, eps=EPS), in_place=True)


def conv_bn_relu_in_place(bottom, num_output, kernel_size=1, stride=1):
    """Return convolution, batch norm and ReLU in one blob."""
    return _norm_relu(convolution(bottom, num_output, kernel_size, stride))


def enlarge(bottom, num_output, kernel_size):
    """Return a map of (n - 1) * 2 + kernel_size rows for one of n, with batch norm and ReLU."""
    grown = L.Deconvolution(
        bottom,
        param=[{"lr_mult": 0, "decay_mult": 0}],
        convolution_param={
            "num_output": num_output,
            "kernel_size": kernel_size,
            "stride": 2,
            "bias_term": False,
            "weight_filler": {"type": "bilinear"},
        },
    )
    return _norm_relu(grown)


def Gated_module(net, channel_nums=[], from_layers=[]):
    """Add a gate to each of several maps (see `add_gate`) and return the net.

    Args:
        net: has the maps.
        channel_nums: channels of each.
        from_layers: their names.

    Raises:
        ValueError: not one number for each map, or too few channels.
    """
    if len(channel_nums) != len(from_layers):
        raise ValueError(
            "{} channel_nums for {} from_layers".format(len(channel_nums), len(from_layers))
        )
    for from_layer, num_output in zip(from_layers, channel_nums):
        add_gate(net, from_layer, num_output)
    return net


def add_gate(net, from_layer, num_output):
    """Add a gate to a map: channels scaled, then the whole, then the map itself added.

    Args:
        net: has `from_layer`; gets `<from_layer>_gate` and the named layers before it.
        from_layer: name of the map (N, C, H, W).
        num_output: its channels C, at least 16.

    Returns:
        The gated map (N, C, H, W).

    Raises:
        ValueError: too few channels.
    """
    if num_output < SQUEEZE:
        raise ValueError(
            "{}: a gate needs {} channels or more, got {}".format(from_layer, SQUEEZE, num_output)
        )
    x = net[from_layer]
    pool = net[from_layer + "_pool"] = L.Pooling(x, pool=P.Pooling.AVE, global_pooling=True)
    squeezed = net[from_layer + "_fc"] = L.InnerProduct(pool, num_output=num_output // SQUEEZE)
    squeezed = net[from_layer + "_relu"] = L.ReLU(squeezed, in_place=True)
    per_channel = _sigmoid_of(squeezed, num_output)  # (N, C)
    scaled = net[from_layer + "_att"] = L.ReLU(_times(x, per_channel), in_place=True)
    per_image = L.Reshape(_sigmoid_of(squeezed, 1), shape={"dim": [-1]})  # (N,)
    gated = L.Eltwise(x, _times(scaled, per_image))
    net[from_layer + "_gate"] = gated
    return gated


def _sigmoid_of(bottom, num_output):
    return L.Sigmoid(L.InnerProduct(bottom, num_output=num_output), in_place=True)


def _times(bottom, factor):
    """Return the product with a factor that has the bottom's first axes."""
    return L.Scale(bottom, factor, axis=0, bias_term=False, bias_filler={"value": 0})


def GRP_DSOD320_V6_Recurrent_Pyramid(net, from_layer):
    """Add GRP-DSOD320's body to a net (see `GatedPyramid.add_to`) and return the net."""
    GRP_DSOD320.add_to(net, from_layer)
    return net
