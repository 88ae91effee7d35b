"""Training batches as a net's own data layer makes them, and which priors match what is on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.boxes.ground_truth import LABEL_WIDTH, read_ground_truth
from caffe_ssd.boxes.matching import match_priors
from caffe_ssd.data.mean import Mean
from caffe_ssd.datasets.net_priors import NetPriors, priors_of_net
from caffe_ssd.errors import NetError
from caffe_ssd.layers.registry import Runtime
from caffe_ssd.net.net import build_net
from caffe_ssd.net.state import filter_net
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, NetState, Phase
from caffe_ssd.random import CaffeRandom


@dataclass(frozen=True, kw_only=True)
class TrainingExample:
    """One picture of a batch.

    Args:
        image: [H, W, 3] BGR uint8, after augmentation; the mean is added again.
        boxes: [G, 4] the objects, as fractions of the picture.
        labels: [G] their classes.
        difficult: [G] whether they are.
        priors: for each object the priors [K, 4] that match it.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    labels: list[int]
    difficult: list[bool]
    priors: list[NDArray[np.float32]]


def data_layer_of(param: NetParameter) -> LayerParameter:
    """The layer that reads the training pictures of a net.

    Raises:
        NetError: in phase TRAIN there is none that reads annotated pictures from a database.
    """
    layers = filter_net(param, NetState(phase=Phase.TRAIN)).layer
    for layer in layers:
        if layer.type == "AnnotatedData":
            return layer
    kinds = ", ".join(dict.fromkeys(layer.type for layer in layers if not layer.bottom))
    raise NetError(
        f"the net {param.name!r} has no AnnotatedData layer in phase TRAIN (it begins with: "
        f"{kinds or 'nothing'}); give the prototxt that is trained"
    )


def training_examples(
    param: NetParameter, count: int, *, seed: int | None = None
) -> list[TrainingExample]:
    """The first pictures that the net would be trained on.

    The batches are those of a training with this `random_seed`, where the data layer is the net's
    first, as it is in all published ones.

    Args:
        param: an upgraded net.
        count: how many pictures.
        seed: None takes another one each time.

    Raises:
        NetError: it has no layer that reads annotated pictures.
        CaffeError: its database cannot be read.
    """
    layer = data_layer_of(param)
    alone = NetParameter(name=param.name)
    alone.layer.add().CopyFrom(layer)
    net = build_net(alone, NetState(phase=Phase.TRAIN), Runtime(rng=CaffeRandom(seed)))
    priors = _priors_if_any(param)
    examples: list[TrainingExample] = []
    while len(examples) < count:
        blobs = net().blobs
        images, rows = (blobs[top].detach().cpu() for top in layer.top[:2])
        rows = rows.reshape(-1, LABEL_WIDTH)
        matched = _matched(rows, len(images), priors)
        for index, image in enumerate(images):
            mine = rows[rows[:, 0] == index]
            examples.append(
                TrainingExample(
                    image=_pixels(image, layer),
                    boxes=mine[:, 3:7].numpy(),
                    labels=mine[:, 1].int().tolist(),
                    difficult=(mine[:, 7] > 0).tolist(),
                    priors=matched[index],
                )
            )
    return examples[:count]


def _priors_if_any(param: NetParameter) -> NetPriors | None:
    layers = filter_net(param, NetState(phase=Phase.TRAIN)).layer
    return priors_of_net(param) if any(each.type == "MultiBoxLoss" for each in layers) else None


def _matched(
    rows: Tensor, num_images: int, priors: NetPriors | None
) -> list[list[NDArray[np.float32]]]:
    """For each image and object the priors that match; none for difficult ones left aside."""
    if priors is None or not len(rows):
        return [[_NONE for row in rows if row[0] == index] for index in range(num_images)]
    rule = priors.rule
    gts = read_ground_truth(
        rows, num_images=num_images, background_label_id=0, use_difficult=priors.use_difficult
    )
    found = match_priors(
        priors.boxes,
        gts.boxes,
        per_prediction=rule.per_prediction,
        overlap_threshold=rule.overlap_threshold,
        ignore_cross_boundary=rule.ignore_cross_boundary,
    )
    result = []
    for index in range(num_images):
        each: list[NDArray[np.float32]] = []
        used = 0
        for row in rows[rows[:, 0] == index]:
            if bool(row[7]) and not priors.use_difficult:
                each.append(_NONE)
                continue
            each.append(priors.boxes[found.gt[index] == used].numpy())
            used += 1
        result.append(each)
    return result


_NONE = np.zeros((0, 4), np.float32)


def _pixels(image: Tensor, layer: LayerParameter) -> NDArray[np.uint8]:
    """[C, H, W] as the net gets it -> pixels for people."""
    transform = layer.transform_param
    scale = transform.scale if transform.HasField("scale") and transform.scale else 1.0
    mean = Mean.from_param(transform).values
    # A mean file is of the size before the crop; its middle is what is shown.
    values = image.numpy() / scale
    if mean.shape[1:] not in ((1, 1), values.shape[1:]):
        mean = mean.mean((1, 2), keepdims=True)
    shown = (values + mean).round().clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
    return np.ascontiguousarray(np.repeat(shown, 3, 2) if shown.shape[2] == 1 else shown)
