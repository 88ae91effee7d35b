"""The way of one record to the net: augmentation, resizing, mirroring, subtracting the mean.

Spec: ssd-data.md section 4.
Quirk: every stage of augmentation passes its image on as a JPEG of quality 95, even where it
    changed nothing; a batch sampler does so at test time, too.
Quirk: the constraint on emitted boxes applies at every crop: expansion, batch sampler, final crop.
Quirk: images that are not encoded are never distorted, and pass without JPEG round trips.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from caffe_ssd.data.box_projection import (
    EmitRule,
    crop_annotations,
    emit_rule,
    mirror_boxes,
    normalised,
)
from caffe_ssd.data.decode import ColorMode, Image, decode_datum
from caffe_ssd.data.distort import DistortPolicy
from caffe_ssd.data.draws import Draws
from caffe_ssd.data.expand import ExpandPolicy
from caffe_ssd.data.mean import Mean
from caffe_ssd.data.noise import Noise
from caffe_ssd.data.pictures import Cropped, Decoded, Distorted, Picture, PixelWindow, Recompressed
from caffe_ssd.data.resize import Resize
from caffe_ssd.data.sampler import PatchSampler, draw_patch, patch_samplers, patch_window
from caffe_ssd.data.samples import Annotations, Boxes, Sample
from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.proto.caffe_pb2 import BatchSampler, TransformationParameter

Blob = TypeVar("Blob", NDArray[Any], torch.Tensor)


@dataclass(frozen=True, kw_only=True)
class Transform:
    """Everything that happens to a record; stages that are None or empty are left out.

    Args:
        color: how images are decoded.
        distort: stage 1.
        expand: stage 2.
        samplers: stage 3.
        emit: which boxes may remain in a crop.
        mirror: mirror every other image, at random.
        resize: to the size of the net.
        noise: filters.
        crop_size: (height, width) of the final crop.
        is_train: the final crop is taken at random rather than in the centre.
        mean: subtracted from the pixels.
        scale: factor after that.
        recompress: make the reference's JPEG round trips.
    """

    color: ColorMode = ColorMode.NATIVE
    distort: DistortPolicy | None = None
    expand: ExpandPolicy | None = None
    samplers: tuple[PatchSampler, ...] = ()
    emit: EmitRule | None = None
    mirror: bool = False
    resize: Resize | None = None
    noise: Noise | None = None
    crop_size: tuple[int, int] | None = None
    is_train: bool = False
    mean: Mean
    scale: float = 1.0
    recompress: bool = True

    @staticmethod
    def from_param(
        param: TransformationParameter,
        *,
        is_train: bool,
        batch_samplers: Iterable[BatchSampler] = (),
        augment: bool = True,
        recompress: bool = True,
    ) -> Transform:
        """Read the messages.

        Args:
            param: the layer's `transform_param`.
            is_train: whether the layer runs in phase TRAIN.
            batch_samplers: those of `annotated_data_param`.
            augment: False ignores distort_param and expand_param, as a Data layer does.
            recompress: see the class.

        Raises:
            LayerParamError: a setting makes no sense.
        """
        p = param
        distorts, expands = (augment and p.HasField(f"{n}_param") for n in ("distort", "expand"))
        return Transform(
            color=_color_mode(p),
            distort=DistortPolicy.from_param(p.distort_param) if distorts else None,
            expand=ExpandPolicy.from_param(p.expand_param) if expands else None,
            samplers=patch_samplers(batch_samplers),
            emit=emit_rule(p.emit_constraint) if p.HasField("emit_constraint") else None,
            mirror=p.mirror,
            resize=Resize.from_param(p.resize_param) if p.HasField("resize_param") else None,
            noise=Noise.from_param(p.noise_param) if p.HasField("noise_param") else None,
            crop_size=_crop_size(p),
            is_train=is_train,
            mean=Mean.from_param(p),
            scale=p.scale,
            recompress=recompress,
        )

    def output_shape(self, sample: Sample) -> tuple[int, int, int]:
        """(C, H, W) that this record has without augmentation.

        Raises:
            DataError: its image cannot be read, or is smaller than the crop.
        """
        height, width, channels = decode_datum(sample.datum, self.color).shape
        if self.resize is not None:
            height, width = self.resize.output_size(height, width)
        window = self._crop_window(height, width, None)
        return channels, window.height, window.width

    def __call__(self, sample: Sample, draws: Draws) -> tuple[NDArray[np.float32], Annotations]:
        """Transform one record: `pixels`, finished.

        Returns:
            The blob, [C, H, W], and the objects in it.
        """
        blob, annotations = self.pixels(sample, draws)
        return self.finish(blob) if blob.dtype == np.uint8 else blob, annotations

    def finish(self, pixels: Blob) -> Blob:
        """The blob of 8-bit pixels, float32; the same bits from NumPy and PyTorch.

        Args:
            pixels: [..., C, H, W] of `pixels`, an array or a tensor.
        """
        mean: Any = self.mean.values
        if isinstance(pixels, torch.Tensor):
            mean = torch.from_numpy(mean).to(pixels.device, non_blocking=True)
        blob: Any = pixels - mean
        if self.scale != 1:
            blob *= float(np.float32(self.scale))
        finished: Blob = blob
        return finished

    def pixels(self, sample: Sample, draws: Draws) -> tuple[NDArray[Any], Annotations]:
        """Transform one record, up to what `finish` does where it can be done later.

        Args:
            sample: the record; it is not changed.
            draws: the record's random numbers.

        Returns:
            [C, H, W], and the objects in it. It is uint8 where the image is so and the mean does
            not depend on the place; otherwise float32, and nothing is left to `finish`.

        Raises:
            DataError: the record does not suit the settings; the text lacks the record's name.
        """
        picture, annotations = self._augment(sample, draws)
        mirrored = self.mirror and draws.below(2) == 1
        image = picture.pixels()
        height_px, width_px = image.shape[:2]
        if self.resize is not None:
            image = self.resize.resize(image, self.resize.draw(draws))
        if self.noise is not None:
            image = self.noise(image, draws)
        height, width = image.shape[:2]
        window = self._crop_window(height, width, draws if self.is_train else None)
        if len(annotations):
            crop = normalised(window, height=height, width=width)
            annotations = self._place(annotations, crop, height_px, width_px, mirrored)
        return self._to_blob(image, window, mirrored), annotations

    def _augment(self, sample: Sample, draws: Draws) -> tuple[Picture, Annotations]:
        """Stages 1 to 3: draw them all; the pixels are computed when they are read."""
        picture: Picture = Decoded(decode_datum(sample.datum, self.color))
        annotations = sample.annotations
        if self.distort is not None and sample.datum.encoded:
            picture = self._passed_on(Distorted(picture, self.distort.draw(draws)), sample)
        if self.expand is not None:
            expansion = self.expand.draw(draws, height=picture.height, width=picture.width)
            if expansion is not None:
                box = expansion.crop_box(picture)
                annotations = crop_annotations(annotations, box, emit=self.emit)
                mean = self.mean.per_channel(picture.channels)
                picture = self._passed_on(expansion.paste(picture, mean), sample)
        patch = draw_patch(self.samplers, draws, annotations.boxes)
        if patch is not None:
            annotations = crop_annotations(annotations, patch, emit=self.emit)
            window = patch_window(patch, height=picture.height, width=picture.width)
            picture = self._passed_on(Cropped(picture, window), sample)
        return picture, annotations

    def _passed_on(self, picture: Picture, sample: Sample) -> Picture:
        return Recompressed(picture) if self.recompress and sample.datum.encoded else picture

    def _place(
        self,
        annotations: Annotations,
        crop: Boxes,
        height: int,
        width: int,
        mirrored: bool,
    ) -> Annotations:
        """The objects in the blob: `crop` [4] of the resized image, which was height x width."""
        if self.resize is not None:
            boxes = self.resize.resize_boxes(annotations.boxes, height=height, width=width)
            annotations = annotations.select(np.ones(len(boxes), np.bool_), boxes)
        annotations = crop_annotations(annotations, crop, emit=self.emit)
        boxes = mirror_boxes(annotations.boxes) if mirrored else annotations.boxes
        if self.resize is not None and len(boxes):
            boxes = self.resize.scale_boxes(boxes, crop, height=height, width=width)
        return annotations.select(np.ones(len(boxes), np.bool_), boxes)

    def _crop_window(self, height: int, width: int, draws: Draws | None) -> PixelWindow:
        """Where the final crop lies; in the centre without `draws`."""
        if self.crop_size is None:
            return PixelWindow(0, 0, width, height)
        crop_h, crop_w = self.crop_size
        if crop_h > height or crop_w > width:
            raise DataError(
                f"is {height} x {width} pixels when it is cropped to {crop_h} x {crop_w}"
            )
        if draws is None:
            y, x = (height - crop_h) // 2, (width - crop_w) // 2
        else:
            y, x = draws.below(height - crop_h + 1), draws.below(width - crop_w + 1)
        return PixelWindow(x, y, x + crop_w, y + crop_h)

    def _to_blob(self, image: Image, window: PixelWindow, mirrored: bool) -> NDArray[Any]:
        mean = self.mean.inside(window, image.shape)
        image = image[window.y0 : window.y1, window.x0 : window.x1]
        if mirrored:
            image, mean = cv2.flip(image, 1).reshape(image.shape), mean[:, :, ::-1]
        height, width, channels = image.shape
        planes = np.empty((channels, height, width), image.dtype)
        for i in range(channels):
            cv2.extractChannel(image, i, planes[i])
        if planes.dtype == np.uint8 and not self.mean.file:
            return planes
        blob: NDArray[np.float32] = np.subtract(planes, mean, dtype=np.float32)
        if self.scale != 1:
            blob *= np.float32(self.scale)
        return blob


def _color_mode(param: TransformationParameter) -> ColorMode:
    if param.force_color and param.force_gray:
        raise LayerParamError("transform_param takes force_color or force_gray, not both")
    if param.force_color:
        return ColorMode.COLOR
    return ColorMode.GRAY if param.force_gray else ColorMode.NATIVE


def _crop_size(param: TransformationParameter) -> tuple[int, int] | None:
    if param.crop_size > 0:
        return param.crop_size, param.crop_size
    if param.crop_h > 0 and param.crop_w > 0:
        return param.crop_h, param.crop_w
    return None
