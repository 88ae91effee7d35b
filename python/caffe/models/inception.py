"""Inception V3 as a body.

Layers have the names of the classifier released with TensorFlow, with Caffe's `/` between scopes:
`mixed_8/tower_1/conv_2`. Batch norm has a bias and no scale, as that classifier has.

Spec: ssd-layers.md section 10.
Source: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision".
Quirk: the pooling of the last module is MAX, that of the module before it AVE.
Quirk: pooling rounds sizes up and convolution down, so that towers only meet again for images of
32 n + 5 to 32 n + 12 px, such as 299 and 300.
"""

from caffe import layers as L
from caffe import params as P
from caffe.models.named_layers import ConvBNLayer
from caffe.models.records import record
from caffe.models.resnet import AddPooledExtraLayers


class InceptionBody(
    record(
        "InceptionBody",
        ("extras_batch_norm", True),
        ("eps", 0.001),
    )
):
    """Inception V3 with SSD's extra layers; not a published detector.

    extras_batch_norm: in the extra layers.
    eps: of BatchNorm.
    """

    @property
    def sources(self):
        """Names of the maps to predict from, finest first."""
        last = "mixed_10/join"
        extras = ["{}/conv{}_2".format(last, index) for index in (1, 2)]
        return tuple(["mixed_2/join", "mixed_7/join", last] + extras + ["pool6"])

    def add_to(self, net, from_layer="data"):
        """Add the body to a net and return its coarsest map.

        Args:
            net: has `from_layer`; gets the maps named in `sources`.
            from_layer: name of the image blob.
        """
        InceptionV3Body(net, from_layer, eps=self.eps)
        AddPooledExtraLayers(net, self.extras_batch_norm)
        return net.pool6


def InceptionTower(net, from_layer, tower_name, layer_params, **bn_param):
    """Add convolutions and poolings in a chain.

    Args:
        net: has `from_layer`.
        from_layer: name of the first bottom.
        tower_name: the layers are called `<tower_name>/<name>`.
        layer_params: keywords of each layer and its `name`; one with `pool` in its name is a
            Pooling, others are arguments of `ConvBNLayer`. They are not changed.
        bn_param: see `ConvBNLayer`.

    Returns:
        The last layer's top.
    """
    for layer in layer_params:
        given = {key: value for key, value in layer.items() if key != "name"}
        name = "{}/{}".format(tower_name, layer["name"])
        if "pool" in layer["name"]:
            net[name] = L.Pooling(net[from_layer], **given)
        else:
            given.update(bn_param, use_bn=True, use_relu=True, use_scale=False)
            ConvBNLayer(net, from_layer, name, **given)
        from_layer = name
    return net[from_layer]


def InceptionV3Body(net, from_layer, output_pred=False, **bn_param):
    """Add Inception V3 to a net.

    Args:
        net: has `from_layer`.
        from_layer: name of the image blob; the classifier takes 299x299.
        output_pred: end in the probabilities of its 1008 classes.
        bn_param: see `ConvBNLayer`.

    Returns:
        The net; its coarsest map is `mixed_10/join`.
    """
    modules = _Modules(net, _add_stem(net, from_layer, bn_param), bn_param)
    for name, pooled in (("mixed", 32), ("mixed_1", 64), ("mixed_2", 64)):
        modules.add(name, _square_towers(pooled))
    modules.add("mixed_3", _first_reduction())
    for name, width in (("mixed_4", 128), ("mixed_5", 160), ("mixed_6", 160), ("mixed_7", 192)):
        modules.add(name, _long_towers(width))
    modules.add("mixed_8", _second_reduction())
    modules.add_wide("mixed_9", P.Pooling.AVE)
    modules.add_wide("mixed_10", P.Pooling.MAX)
    if output_pred:
        net.pool_3 = L.Pooling(
            net[modules.below], pool=P.Pooling.AVE, kernel_size=8, pad=0, stride=1
        )
        net.softmax = L.InnerProduct(net.pool_3, num_output=1008)
        net.softmax_prob = L.Softmax(net.softmax)
    return net


def _add_stem(net, from_layer, bn_param):
    """Add what precedes the modules and return the name of its last layer."""
    plain = dict(bn_param, use_bn=True, use_relu=True, use_scale=False)
    layers = (
        ("conv", {"num_output": 32, "kernel_size": 3, "pad": 0, "stride": 2}),
        ("conv_1", {"num_output": 32, "kernel_size": 3, "pad": 0, "stride": 1}),
        ("conv_2", {"num_output": 64, "kernel_size": 3, "pad": 1, "stride": 1}),
        ("pool", {"kernel_size": 3, "stride": 2, "pad": 0}),
        ("conv_3", {"num_output": 80, "kernel_size": 1, "pad": 0, "stride": 1}),
        ("conv_4", {"num_output": 192, "kernel_size": 3, "pad": 0, "stride": 1}),
        ("pool_1", {"kernel_size": 3, "stride": 2, "pad": 0}),
    )
    for name, given in layers:
        if name.startswith("pool"):
            net[name] = L.Pooling(net[from_layer], pool=P.Pooling.MAX, **given)
        else:
            ConvBNLayer(net, from_layer, name, **dict(plain, **given))
        from_layer = name
    return from_layer


def _chain(*convolutions, **given):
    """Return layers conv, conv_1, ... of (channels, kernel size or (height, width)).

    Only the last has the `stride` given (1), and then no padding.
    """
    stride = given.get("stride", 1)
    layers = []
    for index, (num_output, kernel) in enumerate(convolutions):
        step = stride if index == len(convolutions) - 1 else 1
        kernels = list(kernel) if isinstance(kernel, tuple) else [kernel]
        pads = [0 if step > 1 else size // 2 for size in kernels]
        name = "conv" if index == 0 else "conv_{}".format(index)
        layer = {"name": name, "num_output": num_output, "stride": step}
        layers.append(dict(layer, kernel_size=kernels, pad=pads))
    return layers


def _pool(method, stride=1):
    pad = 0 if stride > 1 else 1
    return {"name": "pool", "pool": method, "kernel_size": 3, "pad": pad, "stride": stride}


def _square_towers(pooled):
    """Return 1x1, 5x5 and two 3x3, and `pooled` channels of the average."""
    return [
        ("", _chain((64, 1))),
        ("/tower", _chain((48, 1), (64, 5))),
        ("/tower_1", _chain((64, 1), (96, 3), (96, 3))),
        ("/tower_2", [_pool(P.Pooling.AVE)] + _chain((pooled, 1))),
    ]


def _long_towers(width):
    """Return towers in which 7x7 is made of 1x7 and 7x1, `width` channels inside."""
    row, column = (1, 7), (7, 1)
    twice = ((width, 1), (width, column), (width, row), (width, column), (192, row))
    return [
        ("", _chain((192, 1))),
        ("/tower", _chain((width, 1), (width, row), (192, column))),
        ("/tower_1", _chain(*twice)),
        ("/tower_2", [_pool(P.Pooling.AVE)] + _chain((192, 1))),
    ]


def _first_reduction():
    return [
        ("", _chain((384, 3), stride=2)),
        ("/tower", _chain((64, 1), (96, 3), (96, 3), stride=2)),
        ("", [_pool(P.Pooling.MAX, stride=2)]),
    ]


def _second_reduction():
    return [
        ("/tower", _chain((192, 1), (320, 3), stride=2)),
        ("/tower_1", _chain((192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3), stride=2)),
        ("", [_pool(P.Pooling.MAX, stride=2)]),
    ]


class _Modules:
    """Adds modules, towers side by side, to the end of a net.

    Args:
        net: gets the modules.
        below: name of the first module's bottom; later the name of the last layer.
        bn_param: see `ConvBNLayer`.
    """

    def __init__(self, net, below, bn_param):
        self.net = net
        self.below = below
        self.bn_param = bn_param

    def add(self, name, towers):
        """Add the towers, each given as what follows the module's name, and its layers."""
        tops = [self._tower(name + suffix, layers) for suffix, layers in towers]
        self._join(name, tops)

    def add_wide(self, name, pool):
        """Add a module whose towers spread into 1x3 and 3x1 at their ends."""
        tops = [self._tower(name, _chain((320, 1)))]
        for suffix, chain in (
            ("/tower", _chain((384, 1))),
            ("/tower_1", _chain((448, 1), (384, 3))),
        ):
            self._tower(name + suffix, chain)
            tops.append(self._spread(name + suffix, chain[-1]["name"]))
        tops.append(self._tower(name + "/tower_2", [_pool(pool)] + _chain((192, 1))))
        self._join(name, tops)

    def _tower(self, name, layers):
        return InceptionTower(self.net, self.below, name, layers, **self.bn_param)

    def _spread(self, tower, last):
        name = tower + "/mixed"
        row, column = _chain((384, (1, 3)), (384, (3, 1)))
        tops = [
            InceptionTower(self.net, "{}/{}".format(tower, last), name, [layer], **self.bn_param)
            for layer in (row, column)
        ]
        joined = L.Concat(*tops, axis=1)
        self.net[name + "/join"] = joined
        return joined

    def _join(self, name, tops):
        self.below = name + "/join"
        self.net[self.below] = L.Concat(*tops, axis=1)
