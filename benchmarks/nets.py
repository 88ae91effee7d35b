"""Nets for the benchmarks, with random weights of one seed.

DSOD and SSD come from the generators. MobileNet-SSD is written here, after Howard et al.,
"MobileNets", with the six prediction maps and the 1917 priors of its well-known SSD version; and so
is a small residual net with one class, such as find faces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from caffe.models.dsod_recipes import DSOD
from caffe.models.grp_dsod_recipes import GRP_DSOD
from caffe.models.recipe import Recipe, make_nets
from caffe.models.ssd_recipes import SSD

from caffe_ssd.layers.batch_norm import BatchNorm
from caffe_ssd.layers.convolution import Convolution
from caffe_ssd.layers.scale import Scale
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.without_data import fed_by_hand, images, label_blob, objects
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState
from caffe_ssd.proto.text import parse_text
from caffe_ssd.proto.upgrade import upgrade_net

__all__ = ["dsod300", "dsod300_param", "fed_by_hand", "images", "label_blob", "objects"]

SIZE = 300
NUM_CLASSES = 21
BACKGROUND = 7.0
_LAST = re.compile(r"mbox_(loc|conf)(_scale|_raw)?$")  # layers that make predictions


def dsod300_param(kind: str, *, variant: str = "DSOD300", data: str = "VOC0712") -> NetParameter:
    """The `train`, `test` or `deploy` net of DSOD300 for VOC07+12; no data are read."""
    return _generated(DSOD.recipe(data, variant), kind)


def train_param(variant: str) -> NetParameter:
    """The `train` net of one of `TRAINED` for VOC07+12; no data are read."""
    return _generated(TRAINED[variant].recipe("VOC0712", variant), "train")


TRAINED = {
    "DSOD300": DSOD,
    "smallest": DSOD,
    "GRP_DSOD320": GRP_DSOD,
    "SSD300": SSD,
}
"""Variants whose training is measured, and their families."""


def _generated(recipe: Recipe, kind: str) -> NetParameter:
    made = make_nets(recipe, "")[kind]
    param = upgrade_net(NetParameter.FromString(made.SerializeToString()))
    for layer in param.layer:
        if layer.type == "DetectionOutput":
            layer.detection_output_param.ClearField("save_output_param")
    return param


def dsod300(*, variant: str = "DSOD300", data: str = "VOC0712", batch: int = 1) -> Net:
    """The deploy net, with weights under which signals neither die nor explode.

    See `with_weights`.
    """
    param = dsod300_param("deploy", variant=variant, data=data)
    for layer in param.layer:
        if layer.type == "Input":
            layer.input_param.shape[0].dim[0] = batch
    return with_weights(param)


def with_weights(param: NetParameter) -> Net:
    """A deploy net with weights under which signals neither die nor explode.

    The background's scores are raised, so that candidates are rare.
    """
    num_classes = param.layer[-1].detection_output_param.num_classes
    net = build_net(param, NetState(phase="TEST"))
    rng = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, Convolution):
                weight = layer.blobs[0]
                weight.normal_(0, (2 / weight[0].numel()) ** 0.5, generator=rng)
            elif isinstance(layer, BatchNorm):
                layer.blobs[0].normal_(0, 0.1, generator=rng)
                layer.blobs[1].uniform_(0.5, 1.5, generator=rng)
                layer.blobs[2].fill_(1)
            elif isinstance(layer, Scale):
                layer.blobs[0].uniform_(0.5, 1.5, generator=rng)
                layer.blobs[1].normal_(0, 0.1, generator=rng)
        last = {
            step.param.top[0]: layer
            for step, layer in zip(net.steps, net.layers, strict=True)
            if _LAST.search(step.param.name) and len(layer.blobs) == 2
        }
        blobs = net({"data": images()}, keep=list(last)).blobs
        for top, layer in last.items():
            if isinstance(layer, Convolution):  # no batch norm follows
                layer.blobs[0] /= blobs[top].std()
            if "conf" in top:
                layer.blobs[1][::num_classes] += BACKGROUND
    return net


# (outputs, stride) of the depthwise-separable blocks, then of the extra pairs 1x1, 3x3 / 2.
_BLOCKS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2))
_EXTRAS = ((256, 512), (128, 256), (128, 256), (64, 128))
_SIZES = ((60, None), (105, 150), (150, 195), (195, 240), (240, 285), (285, 300))
# (outputs, stride) of the face net's residual blocks.
_RESIDUAL = ((32, 1), (128, 2), (256, 2), (256, 2))


def conv(
    name: str,
    bottom: str,
    outputs: int,
    *,
    kernel: int = 1,
    stride: int = 1,
    group: int = 1,
    relu: bool = True,
) -> str:
    """Convolution, batch norm and ReLU as text; the top is called `name`."""
    text = (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} stride: {stride} "
        f"pad: {kernel // 2} group: {group} bias_term: false }} }}"
        f'layer {{ name: "{name}/bn" type: "BatchNorm" bottom: "{name}" top: "{name}" }}'
        f'layer {{ name: "{name}/scale" type: "Scale" bottom: "{name}" top: "{name}" '
        f"scale_param {{ bias_term: true }} }}"
    )
    relu_text = f'layer {{ name: "{name}/relu" type: "ReLU" bottom: "{name}" top: "{name}" }}'
    return text + relu_text if relu else text


def mobilenet_ssd_param(num_classes: int = NUM_CLASSES) -> NetParameter:
    """The deploy net of MobileNet-SSD at 300 x 300."""
    text = [_INPUT, conv("conv0", "data", 32, kernel=3, stride=2)]
    top, channels, maps = "conv0", 32, []
    for i, (outputs, stride) in enumerate((*_BLOCKS, (1024, 1)), start=1):
        wise = f"conv{i}/dw"
        text.append(conv(wise, top, channels, kernel=3, stride=stride, group=channels))
        text.append(conv(f"conv{i}", wise, outputs))
        top, channels = f"conv{i}", outputs
        maps += [top] if i in (11, 13) else []
    text += _extras(maps, _EXTRAS, first=14) + _heads(maps, num_classes, kernel=1)
    return upgrade_net(parse_text("\n".join(text), NetParameter()))


def face_param() -> NetParameter:
    """The deploy net of a small residual detector with one class, such as find faces."""
    text = [_INPUT, conv("conv0", "data", 32, kernel=7, stride=2), _POOL]
    top, channels, maps = "pool", 32, []
    for i, (outputs, stride) in enumerate(_RESIDUAL, start=1):
        inner, last, shortcut = f"res{i}_1", f"res{i}_2", top
        text.append(conv(inner, top, outputs, kernel=3, stride=stride))
        text.append(conv(last, inner, outputs, kernel=3, relu=False))
        if outputs != channels or stride > 1:
            shortcut = f"res{i}_shortcut"
            text.append(conv(shortcut, top, outputs, stride=stride, relu=False))
        top, channels = f"res{i}", outputs
        text.append(
            f'layer {{ name: "{top}" type: "Eltwise" bottom: "{last}" bottom: "{shortcut}" '
            f'top: "{top}" }}'
            f'layer {{ name: "{top}/relu" type: "ReLU" bottom: "{top}" top: "{top}" }}'
        )
        maps += [top] if stride > 1 else []
    text += _extras(maps, ((128, 256), (64, 128)), first=5) + _heads(maps, 2, kernel=3)
    return upgrade_net(parse_text("\n".join(text), NetParameter()))


_INPUT = f'input: "data" input_shape {{ dim: 1 dim: 3 dim: {SIZE} dim: {SIZE} }}'
_POOL = (
    'layer { name: "pool" type: "Pooling" bottom: "conv0" top: "pool" '
    "pooling_param { pool: MAX kernel_size: 2 stride: 2 } }"
)


def _extras(maps: list[str], pairs: Sequence[tuple[int, int]], *, first: int) -> list[str]:
    """Pairs of convolutions that halve the last map; each pair's map is appended to `maps`."""
    text = []
    for i, (middle, outputs) in enumerate(pairs, start=first):
        text.append(conv(f"conv{i}_1", maps[-1], middle))
        text.append(conv(f"conv{i}_2", f"conv{i}_1", outputs, kernel=3, stride=2))
        maps.append(f"conv{i}_2")
    return text


def _heads(maps: list[str], num_classes: int, *, kernel: int) -> list[str]:
    """Predictions, priors and DetectionOutput over the maps."""
    text, made = [], {"loc": [], "conf": [], "prior": []}
    for name, (smallest, largest) in zip(maps, _SIZES[: len(maps)], strict=True):
        priors = 3 if largest is None else 6
        for kind, outputs in (("loc", 4 * priors), ("conf", num_classes * priors)):
            head = f"{name}_mbox_{kind}"
            raw = f"{head}_raw" if kind == "conf" else head
            text.append(
                f'layer {{ name: "{raw}" type: "Convolution" bottom: "{name}" top: "{raw}" '
                f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} "
                f"pad: {kernel // 2} }} }}"
                f'layer {{ name: "{head}_perm" type: "Permute" bottom: "{raw}" top: "{head}_perm" '
                f"permute_param {{ order: 0 order: 2 order: 3 order: 1 }} }}"
                f'layer {{ name: "{head}_flat" type: "Flatten" bottom: "{head}_perm" '
                f'top: "{head}_flat" }}'
            )
            made[kind].append(f"{head}_flat")
        size = f"min_size: {smallest}" + (f" max_size: {largest}" if largest else "")
        ratios = "aspect_ratio: 2" + (" aspect_ratio: 3" if largest else "")
        text.append(
            f'layer {{ name: "{name}_prior" type: "PriorBox" bottom: "{name}" bottom: "data" '
            f'top: "{name}_prior" prior_box_param {{ {size} {ratios} flip: true '
            "clip: false offset: 0.5 "
            "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }"
        )
        made["prior"].append(f"{name}_prior")
    for kind, tops in made.items():
        axis = 2 if kind == "prior" else 1
        bottoms = " ".join(f'bottom: "{top}"' for top in tops)
        text.append(
            f'layer {{ name: "mbox_{kind}" type: "Concat" {bottoms} top: "mbox_{kind}" '
            f"concat_param {{ axis: {axis} }} }}"
        )
    text.append(
        'layer { name: "reshape" type: "Reshape" bottom: "mbox_conf" top: "reshape" '
        f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {num_classes} }} }} }}"
        'layer { name: "softmax" type: "Softmax" bottom: "reshape" top: "softmax" '
        "softmax_param { axis: 2 } }"
        'layer { name: "flat" type: "Flatten" bottom: "softmax" top: "flat" }'
        'layer { name: "detection_out" type: "DetectionOutput" bottom: "mbox_loc" bottom: "flat" '
        'bottom: "mbox_prior" top: "detection_out" detection_output_param { '
        f"num_classes: {num_classes} share_location: true background_label_id: 0 "
        "code_type: CENTER_SIZE keep_top_k: 100 "
        "confidence_threshold: 0.01 nms_param { nms_threshold: 0.45 top_k: 100 } } }"
    )
    return text


DETECTORS: dict[str, Callable[[], NetParameter]] = {
    "DSOD300": lambda: dsod300_param("deploy"),
    "DSOD300_smallest": lambda: dsod300_param("deploy", variant="smallest"),
    "SSD300 VGG": lambda: _generated(SSD.recipe("VOC0712", "SSD300"), "deploy"),
    "MobileNet-SSD": mobilenet_ssd_param,
    "face net": face_param,
}
"""The deploy nets that are compared with other programs."""
