"""`Classifier`: class scores of images, averaged over ten crops.

Spec: caffe-net.md section 15.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe.io import Array, InputError, Transformer, oversample, resize_image
from caffe.pycaffe import TEST, Net


def image_transformer(
    net: Net,
    *,
    mean: ArrayLike | None,
    input_scale: float | None,
    raw_scale: float | None,
    channel_swap: Sequence[int] | None,
) -> Transformer:
    """The transformer from (H, W, C) images to the net's first input; None leaves a step out."""
    name = net.inputs[0]
    transformer = Transformer({name: net.blobs[name].shape})
    transformer.set_transpose(name, (2, 0, 1))
    if mean is not None:
        transformer.set_mean(name, mean)
    if input_scale is not None:
        transformer.set_input_scale(name, input_scale)
    if raw_scale is not None:
        transformer.set_raw_scale(name, raw_scale)
    if channel_swap is not None:
        transformer.set_channel_swap(name, channel_swap)
    return transformer


class Classifier(Net):
    """A net in phase TEST that takes images.

    Args:
        model_file: prototxt.
        pretrained_file: weights.
        image_dims: (height, width) that images are brought to before they are cropped to the net's
            input; None for the size of the input.
        mean: see `Transformer.set_mean`.
        input_scale: factor after the mean.
        raw_scale: factor before the mean.
        channel_swap: order of the channels.
    """

    def __init__(
        self,
        model_file: str,
        pretrained_file: str,
        image_dims: Sequence[int] | None = None,
        mean: ArrayLike | None = None,
        input_scale: float | None = None,
        raw_scale: float | None = None,
        channel_swap: Sequence[int] | None = None,
    ) -> None:
        super().__init__(model_file, phase=TEST, weights=pretrained_file)
        self.transformer = image_transformer(
            self, mean=mean, input_scale=input_scale, raw_scale=raw_scale, channel_swap=channel_swap
        )
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else np.array(image_dims)

    def predict(self, inputs: Sequence[NDArray[Any]], oversample: bool = True) -> Array:
        """Score images.

        Args:
            inputs: N images (H, W, C) of any sizes.
            oversample: average over ten crops rather than taking the centre alone.

        Returns:
            (N, K), the net's first output; its own shape without `oversample`.

        Raises:
            InputError: there are no images.
        """
        if len(inputs) == 0:
            raise InputError("there are no images to classify")
        images = np.stack([resize_image(image, self.image_dims.tolist()) for image in inputs])
        crops = self._crops(images) if oversample else self._centres(images)
        name = self.inputs[0]
        fed = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        predictions = np.asarray(self.forward_all(None, **{name: fed})[self.outputs[0]])
        if oversample:
            predictions = predictions.reshape(len(inputs), 10, -1).mean(1)
        return predictions

    def _crops(self, images: Array) -> Array:
        return oversample(images, self.crop_dims.tolist())

    def _centres(self, images: Array) -> Array:
        height, width = self.crop_dims.tolist()
        y, x = ((self.image_dims - self.crop_dims) // 2).tolist()
        if min(y, x) < 0:
            raise InputError(f"image_dims {self.image_dims.tolist()} < the input {[height, width]}")
        return images[:, y : y + height, x : x + width]
