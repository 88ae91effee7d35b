"""Convolution, batch norm and ReLU in the orders that the detectors use.

Layers get no names here: a net's body names only the maps that others need.
"""

from caffe import layers as L
from caffe import params as P

# BatchNorm keeps three blobs (mean, variance, factor); the solver must touch none of them.
FROZEN_STATISTICS = [{"lr_mult": 0, "decay_mult": 0}] * 3


def convolution(bottom, num_output, kernel_size=1, stride=1):
    """Return a Xavier-filled convolution without bias that keeps the size at stride 1."""
    return L.Convolution(
        bottom,
        num_output=num_output,
        kernel_size=kernel_size,
        stride=stride,
        pad=kernel_size // 2,
        bias_term=False,
        weight_filler={"type": "xavier"},
        bias_filler={"type": "constant"},
    )


def batch_norm(bottom, in_place=False, eps=None):
    """Return BatchNorm with the learnt scale and shift that Caffe keeps in a Scale layer.

    Args:
        bottom: the blob to normalise.
        in_place: write over it.
        eps: added to the variances; Caffe's 1e-5 where it is not given.
    """
    fields = {} if eps is None else {"eps": eps}
    norm = L.BatchNorm(bottom, in_place=in_place, param=FROZEN_STATISTICS, **fields)
    return L.Scale(
        norm, in_place=True, filler={"value": 1}, bias_term=True, bias_filler={"value": 0}
    )


def bn_relu(bottom, in_place=True):
    """Return batch norm and ReLU; `in_place=False` gives the ReLU a blob of its own."""
    return L.ReLU(batch_norm(bottom), in_place=in_place)


def bn_relu_conv(bottom, num_output, kernel_size=1, stride=1):
    """Return batch norm, ReLU, convolution: the order of DenseNet and DSOD."""
    return convolution(bn_relu(bottom), num_output, kernel_size, stride)


def conv_bn_relu(bottom, num_output, kernel_size=1, stride=1):
    """Return convolution, batch norm, ReLU: the order of the stems."""
    return bn_relu(convolution(bottom, num_output, kernel_size, stride))


def max_pool(bottom, kernel_size=2, stride=2):
    """Return max pooling; Caffe rounds the output size up."""
    return L.Pooling(bottom, pool=P.Pooling.MAX, kernel_size=kernel_size, stride=stride)


def concat(*bottoms):
    """Return the channels of all bottoms, in order."""
    return L.Concat(*bottoms, axis=1)


class NormedChain:
    """Named convolutions in a row, each followed by batch norm and ReLU without names.

    These are read by what comes next, or not made at all. SSD's extra layers end such bodies.

    Args:
        net: gets the convolutions.
        bottom: of the first of them.
        in_place: batch norm writes over the convolution.
    """

    def __init__(self, net, bottom, in_place=True):
        self.net = net
        self.active = bottom
        self.in_place = in_place

    def add(self, name, num_output, kernel_size, **geometry):
        """Add a convolution."""
        fields = dict(geometry, num_output=num_output, kernel_size=kernel_size, bias_term=False)
        fields["param"] = [{"lr_mult": 1, "decay_mult": 1}]
        fields["weight_filler"] = {"type": "xavier"}
        self.net[name] = L.Convolution(self.active, **fields)
        self._normalise(self.net[name])

    def add_pooling(self, name, kernel_size=2, stride=2, **geometry):
        """Add max pooling, normalised like a convolution."""
        fields = dict(geometry, pool=P.Pooling.MAX, kernel_size=kernel_size, stride=stride)
        self.net[name] = L.Pooling(self.active, **fields)
        self._normalise(self.net[name])

    def add_extras(self):
        """Add SSD's extra layers for 300 px, conv6_1 to conv9_2."""
        shrink = {"pad": 1, "stride": 2}
        keep = {"pad": 0, "stride": 1}
        for index, width, geometry in (
            (6, 512, shrink),
            (7, 256, shrink),
            (8, 256, keep),
            (9, 256, keep),
        ):
            self.add("conv{}_1".format(index), width // 2, 1, pad=0)
            self.add("conv{}_2".format(index), width, 3, **geometry)

    def _normalise(self, top):
        norm = batch_norm(top, in_place=self.in_place)
        self.active = L.ReLU(norm, in_place=True)
