"""What VGG16 and ZFNet are made of, under the names of the released classifiers.

Weights learn once, biases twice as fast and without decay; weights are filled by Xavier unless
another filler is asked for.
"""

from caffe import layers as L
from caffe import params as P
from caffe.models.blocks import FROZEN_STATISTICS

VGG16_DEPTHS = (2, 2, 3, 3, 3)  # convolutions in each stage

WEIGHTS = {"lr_mult": 1, "decay_mult": 1}
BIAS = {"lr_mult": 2, "decay_mult": 0}
FROZEN = {"lr_mult": 0, "decay_mult": 0}


class Backbone:
    """Adds layers to the end of a net.

    Args:
        net: gets the layers.
        bottom: of the first of them.
        use_batchnorm: BatchNorm and Scale between each convolution and its ReLU.
        dropout: behind fc6 and fc7.
        depths: convolutions in each of VGG16's stages.
        filler: of the weights in front of ReLUs.
    """

    def __init__(
        self,
        net,
        bottom,
        use_batchnorm=False,
        dropout=True,
        depths=VGG16_DEPTHS,
        filler="xavier",
    ):
        self.net = net
        self.bottom = bottom
        self.use_batchnorm = use_batchnorm
        self.dropout = dropout
        self.depths = depths
        self.filler = filler

    def add_convolution(self, name, relu, num_output, kernel_size, **geometry):
        """Add a convolution, batch norm if the net has it, and a ReLU."""
        net = self.net
        geometry.update(num_output=num_output, kernel_size=kernel_size)
        geometry.update(_filling(bias=not self.use_batchnorm, filler=self.filler))
        net[name] = L.Convolution(self.bottom, **geometry)
        if self.use_batchnorm:
            norm, scale = name + "_bn", name + "_scale"
            net[norm] = L.BatchNorm(net[name], in_place=True, param=FROZEN_STATISTICS)
            net[scale] = L.Scale(net[norm], in_place=True, **_scale_filling())
        net[relu] = L.ReLU(net[name], in_place=True)
        self.bottom = net[relu]

    def add_stage(self, stage, num_output, pad=1, **geometry):
        """Add the 3x3 convolutions of one of VGG16's stages."""
        for index in range(1, self.depths[stage - 1] + 1):
            name = "{}_{}".format(stage, index)
            self.add_convolution("conv" + name, "relu" + name, num_output, 3, pad=pad, **geometry)

    def add_reduction(self, stage, num_output, nopool, keep_size):
        """Add what follows one of VGG16's stages: pooling, or a bare convolution in its place."""
        stride = 1 if keep_size else 2
        if nopool:
            name = "conv{}_{}".format(stage, self.depths[stage - 1] + 1)
            geometry = {"num_output": num_output, "kernel_size": 3, "pad": 1, "stride": stride}
            geometry.update(_filling())
            self.net[name] = self.bottom = L.Convolution(self.bottom, **geometry)
        elif keep_size:
            self.add_pooling("pool{}".format(stage), kernel_size=3, stride=1, pad=1)
        else:
            self.add_pooling("pool{}".format(stage), kernel_size=2, stride=2)

    def add_pooling(self, name, **geometry):
        """Add max pooling."""
        self.net[name] = self.bottom = L.Pooling(self.bottom, pool=P.Pooling.MAX, **geometry)

    def add_local_norm(self, name):
        """Add ZFNet's normalisation over 3x3 positions of a channel."""
        self.net[name] = self.bottom = L.LRN(
            self.bottom,
            local_size=3,
            alpha=0.00005,
            beta=0.75,
            norm_region=P.LRN.WITHIN_CHANNEL,
            engine=P.LRN.CAFFE,
        )

    def add_fc_convolutions(self, num_output, kernel_size, **geometry):
        """Add fc6 and fc7 as convolutions; the geometry is fc6's."""
        self.add_convolution("fc6", "relu6", num_output, kernel_size, **geometry)
        self._add_dropout("drop6")
        self.add_convolution("fc7", "relu7", num_output, 1)
        self._add_dropout("drop7")

    def add_inner_products(self, num_output):
        """Add fc6 and fc7 as they are in the classifier."""
        net = self.net
        for index in (6, 7):
            fc, relu = "fc{}".format(index), "relu{}".format(index)
            net[fc] = L.InnerProduct(self.bottom, num_output=num_output, **_filling())
            net[relu] = self.bottom = L.ReLU(net[fc], in_place=True)
            self._add_dropout("drop{}".format(index))

    def add_classes(self, fully_conv, num_output=1000):
        """Add fc8 and the probabilities of ImageNet's classes."""
        given = dict(_filling(), num_output=num_output)
        if fully_conv:
            self.net.fc8 = L.Convolution(self.bottom, kernel_size=1, **given)
        else:
            self.net.fc8 = L.InnerProduct(self.bottom, **given)
        self.net.prob = L.Softmax(self.net.fc8)

    def _add_dropout(self, name):
        if self.dropout:
            self.net[name] = L.Dropout(self.bottom, dropout_ratio=0.5, in_place=True)


def freeze(net, names):
    """Stop layers from learning.

    Raises:
        ValueError: the net has no such layer.
    """
    for name in names:
        if name not in net.keys():  # noqa: SIM118  (the original's NetSpec has no `in`)
            known = ", ".join(net.keys())
            raise ValueError(
                "freeze_layers: the net has no layer {!r}; it has {}".format(name, known)
            )
        num_blobs = 1 if net[name].fn.params.get("bias_term") is False else 2
        net.update(name, {"param": [FROZEN] * num_blobs})


def _filling(bias=True, filler="xavier"):
    if not bias:
        return {"param": [WEIGHTS], "weight_filler": {"type": filler}, "bias_term": False}
    return {
        "param": [WEIGHTS, BIAS],
        "weight_filler": {"type": filler},
        "bias_filler": {"type": "constant", "value": 0},
    }


def _scale_filling():
    return {
        "param": [{"lr_mult": 1, "decay_mult": 0}] * 2,
        "filler": {"type": "constant", "value": 1},
        "bias_term": True,
        "bias_filler": {"type": "constant", "value": 0},
    }
