"""The multibox head: box, class and prior layers on every source map.

Spec: ssd-layers.md section 10.
Quirk: layers are called after their source with `_norm` and `_inter` appended.
Quirk: `flip` reaches a PriorBox only together with aspect ratios.
Quirk: priors are clipped unless told not to; all published scripts tell it.
"""

from collections import OrderedDict

from caffe import layers as L
from caffe.models.named_layers import ConvBNLayer, UnpackVariable
from caffe.models.records import record


class SourceMap(
    record(
        "SourceMap",
        "name",
        "min_sizes",
        "max_sizes",
        "aspect_ratios",
        "step",
        "normalization",
        "inter_layer_depth",
    )
):
    """What the head needs to know of one map to predict from.

    name: of the blob.
    min_sizes: prior sizes in pixels.
    max_sizes: as many, or none; each adds a square prior of the geometric mean of both.
    aspect_ratios: without 1.
    step: pixels between priors as [height, width], or none for image / map.
    normalization: initial scale of an L2 normalisation, -1 for none.
    inter_layer_depth: channels of a 3x3 convolution in front, 0 for none.
    """

    def num_priors(self, flip):
        """Return the number of priors at each position."""
        squares = 2 if self.max_sizes else 1
        return len(self.min_sizes) * (squares + len(self.aspect_ratios) * (2 if flip else 1))

    def prior_fields(self, flip):
        """Return the fields of PriorBoxParameter that differ between maps."""
        fields = {"min_size": self.min_sizes}
        if self.max_sizes:
            fields["max_size"] = self.max_sizes
        if self.aspect_ratios:
            fields.update(aspect_ratio=self.aspect_ratios, flip=flip)
        if self.step:
            height, width = self.step
            same = height == width
            fields.update({"step": height} if same else {"step_h": height, "step_w": width})
        return fields


def CreateMultiBoxHead(
    net,
    data_layer="data",
    num_classes=[],
    from_layers=[],
    use_objectness=False,
    normalizations=[],
    use_batchnorm=True,
    lr_mult=1,
    use_scale=True,
    min_sizes=[],
    max_sizes=[],
    prior_variance=[0.1],
    aspect_ratios=[],
    steps=[],
    img_height=0,
    img_width=0,
    share_location=True,
    flip=True,
    clip=True,
    offset=0.5,
    inter_layer_depth=[],
    kernel_size=1,
    pad=0,
    conf_postfix="",
    loc_postfix="",
    **bn_param
):  # fmt: skip
    """Add box, class and prior layers for each source map and join them over the maps.

    Args:
        net: has `data_layer` and all `from_layers`.
        data_layer: name of the image blob.
        num_classes: with the background.
        from_layers: names of the maps to predict from.
        use_objectness: also predict object or not.
        normalizations: per map the initial scale of an L2 normalisation, -1 for none.
        use_batchnorm: see `ConvBNLayer`, as are `lr_mult`, `use_scale` and `bn_param`.
        lr_mult: see `use_batchnorm`.
        use_scale: see `use_batchnorm`.
        min_sizes: per map the prior size in pixels, or a list of them.
        max_sizes: the same; adds a square prior of the geometric mean of both.
        prior_variance: one number or four (x, y, width, height).
        aspect_ratios: per map a ratio or a list, without 1.
        steps: per map the pixels between priors, or [height, width]; default image / map.
        img_height: image size in pixels that the priors use instead of the data's.
        img_width: see `img_height`.
        share_location: predict one box for all classes.
        flip: also use 1 / ratio.
        clip: clip priors to the image.
        offset: place of the first prior in steps.
        inter_layer_depth: per map the channels of a 3x3 convolution in front, 0 for none.
        kernel_size: of the predicting convolutions.
        pad: of the predicting convolutions.
        conf_postfix: appended to the names of the class layers.
        loc_postfix: appended to the names of the box layers.

    Returns:
        [mbox_loc, mbox_conf, mbox_priorbox], and mbox_objectness if asked for.

    Raises:
        ValueError: no classes or maps, an unknown layer, or lists of different lengths.
    """
    per_map = {
        "min_sizes": min_sizes,
        "max_sizes": max_sizes,
        "normalizations": normalizations,
        "aspect_ratios": aspect_ratios,
        "steps": steps,
        "inter_layer_depth": inter_layer_depth,
    }
    _check_head(net, data_layer, num_classes, from_layers, per_map)
    head = _Head(net, use_objectness)
    head.conv = dict(bn_param, use_bn=use_batchnorm, lr_mult=lr_mult, use_scale=use_scale)
    head.predict = dict(head.conv, use_relu=False, kernel_size=kernel_size, pad=pad, stride=1)
    head.prior = {"clip": clip, "variance": _as_list(prior_variance), "offset": offset}
    head.prior.update(_image_size(img_height, img_width))
    for source in _source_maps(from_layers, per_map):
        name = head.add_front(source)
        num_priors = source.num_priors(flip)
        num_boxes = num_priors * (1 if share_location else num_classes)
        head.add_prediction(name, "loc", loc_postfix, num_boxes * 4)
        head.add_prediction(name, "conf", conf_postfix, num_priors * num_classes)
        head.add_priors(name, data_layer, source.prior_fields(flip))
        if use_objectness:
            head.add_prediction(name, "objectness", "", num_priors * 2)
    return head.join()


class _Head:
    """Adds layers to a net and remembers what has to be joined."""

    def __init__(self, net, use_objectness):
        self.net = net
        kinds = ["loc", "conf", "priorbox"] + ["objectness"] * use_objectness
        self.outputs = OrderedDict((kind, []) for kind in kinds)
        self.conv = {}
        self.predict = {}
        self.prior = {}

    def add_front(self, source):
        """Add what stands between a map and its predictions; return the name of the result."""
        name = source.name
        if source.normalization != -1:
            self.net[name + "_norm"] = L.Normalize(
                self.net[name],
                scale_filler={"type": "constant", "value": source.normalization},
                across_spatial=False,
                channel_shared=False,
            )
            name += "_norm"
        depth = source.inter_layer_depth
        if depth > 0:
            inter = dict(self.conv, use_relu=True, kernel_size=3, pad=1, stride=1)
            ConvBNLayer(self.net, name, name + "_inter", num_output=depth, **inter)
            name += "_inter"
        return name

    def add_prediction(self, source, kind, postfix, num_output):
        """Add a convolution whose outputs end up ordered by position, then by prior."""
        net = self.net
        name = "{}_mbox_{}{}".format(source, kind, postfix)
        ConvBNLayer(net, source, name, num_output=num_output, **self.predict)
        net[name + "_perm"] = L.Permute(net[name], order=[0, 2, 3, 1])
        net[name + "_flat"] = L.Flatten(net[name + "_perm"], axis=1)
        self.outputs[kind].append(net[name + "_flat"])

    def add_priors(self, source, data_layer, fields):
        """Add the map's PriorBox."""
        net = self.net
        name = source + "_mbox_priorbox"
        net[name] = L.PriorBox(net[source], net[data_layer], **dict(self.prior, **fields))
        self.outputs["priorbox"].append(net[name])

    def join(self):
        """Concatenate each kind of output over the maps."""
        for kind, tops in self.outputs.items():
            axis = 2 if kind == "priorbox" else 1  # priors: [1, 2, 4 * num_priors]
            self.net["mbox_" + kind] = L.Concat(*tops, axis=axis)
        return [self.net["mbox_" + kind] for kind in self.outputs]


def _check_head(net, data_layer, num_classes, from_layers, per_map):
    if not num_classes or num_classes < 1:
        raise ValueError(
            "num_classes must be at least 1 (the background), got {}".format(num_classes)
        )
    if not from_layers:
        raise ValueError("from_layers must name at least one map")
    for name in [data_layer] + list(from_layers):
        if name not in net.keys():  # noqa: SIM118  (the original's NetSpec has no `in`)
            raise ValueError(
                "the net has no top {!r}; it has {}".format(name, ", ".join(net.keys()))
            )
    for keyword, values in per_map.items():
        optional = keyword != "min_sizes"
        if len(values) != len(from_layers) and not (optional and len(values) == 0):
            raise ValueError(
                "{} has {} values for {} from_layers".format(keyword, len(values), len(from_layers))
            )


def _source_maps(from_layers, per_map):
    maps = []
    for index, name in enumerate(from_layers):
        given = {keyword: values[index] for keyword, values in per_map.items() if len(values)}
        step = given.get("steps")
        source = SourceMap(
            name=name,
            min_sizes=_as_list(given["min_sizes"]),
            max_sizes=_as_list(given.get("max_sizes")),
            aspect_ratios=_as_list(given.get("aspect_ratios")),
            step=UnpackVariable(step, 2) if step else [],
            normalization=given.get("normalizations", -1),
            inter_layer_depth=given.get("inter_layer_depth", 0),
        )
        if source.max_sizes and len(source.max_sizes) != len(source.min_sizes):
            raise ValueError(
                "{}: {} max_sizes for {} min_sizes".format(
                    name, len(source.max_sizes), len(source.min_sizes)
                )
            )
        maps.append(source)
    return maps


def _as_list(value):
    """Return a list of one value, of several, or of none (None)."""
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _image_size(height, width):
    if height == 0 or width == 0:
        return {}
    return {"img_size": height} if height == width else {"img_h": height, "img_w": width}
