"""PriorBox: the prior boxes of a feature map and their variances.

Spec: ssd-layers.md section 1.
Quirk: sizes are cut to whole pixels after max_size > min_size was checked.

Shapes: H, W of the feature map, K priors per cell; the top is (1, 2, H * W * K * 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from caffe_ssd.boxes.priors import cell_sizes, expand_ratios, prior_boxes
from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.caffe_pb2 import PriorBoxParameter

DEFAULT_VARIANCE = 0.1

# Shapes whose priors are kept: multi-scale testing goes through the same ones again and again.
_MOST_SHAPES = 8


class PriorBox(Layer):
    """The layer; its values depend on the shapes of its bottoms only and are kept between calls.

    Args:
        sizes: widths and heights in pixels of the priors of a cell.
        variances: one for all four numbers of a code, or four.
        image_size: height and width in pixels; None: those of bottom 1.
        step: height and width of a cell in pixels; None: the image's divided by the map's.
        offset: where in a cell the centre lies; or, for each of the sizes, (vertical, horizontal).
        clip: cut the priors to the image.
    """

    reads_only_shapes = True

    def __init__(
        self,
        *,
        sizes: Sequence[tuple[float, float]],
        variances: Sequence[float] = (DEFAULT_VARIANCE,),
        image_size: tuple[int, int] | None = None,
        step: tuple[float, float] | None = None,
        offset: float | Sequence[tuple[float, float]] = 0.5,
        clip: bool = False,
    ) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        self.variances = tuple(variances) * (4 // len(variances))
        self.image_size = image_size
        self.step = step
        self.offsets = [(offset, offset)] if isinstance(offset, float | int) else list(offset)
        self.clip = clip
        self._made: dict[tuple[object, ...], Tensor] = {}

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        height, width = bottoms[0][2:4]
        return ((1, 2, height * width * len(self.sizes) * 4),)

    def forward(self, features: Tensor, image: Tensor) -> Tensor:
        key = (features.shape[2:], image.shape[2:], features.device, features.dtype)
        if key not in self._made:
            if len(self._made) >= _MOST_SHAPES:
                self._made.pop(next(iter(self._made)))
            self._made[key] = self._make(features, image)
        return self._made[key]

    def _make(self, features: Tensor, image: Tensor) -> Tensor:
        height, width = features.shape[2:]
        image_h, image_w = image.shape[2:] if self.image_size is None else self.image_size
        boxes = prior_boxes(
            self.sizes,
            map_size=(height, width),
            image_size=(image_h, image_w),
            step=(image_h / height, image_w / width) if self.step is None else self.step,
            offsets=self.offsets,
            clip=self.clip,
        )
        variances = torch.tensor(self.variances).expand_as(boxes)
        # Half precision features still get float32 priors: 1/2048 of an image is too coarse.
        dtype = torch.promote_types(features.dtype, torch.float32)
        return torch.stack([boxes, variances]).reshape(1, 2, -1).to(features.device, dtype)


@register_layer("PriorBox", bottoms=2)
def _build(spec: LayerSpec) -> PriorBox:
    param = spec.param.prior_box_param
    return prior_box(spec, read_cell_sizes(param), param.offset)


def prior_box(
    spec: LayerSpec,
    sizes: Sequence[tuple[float, float]],
    offset: float | Sequence[tuple[float, float]],
) -> PriorBox:
    """A layer with these priors in a cell, and all else as its message says.

    Raises:
        ShapeError: a bottom has not 4 axes.
        LayerParamError: variances, image size or step make no sense.
    """
    for i, shape in enumerate(spec.bottoms):
        if len(shape) != 4:
            raise ShapeError(f"bottom {i} must have 4 axes (N, C, H, W), got shape {shape}")
    param = spec.param.prior_box_param
    image_size = _pair_or_single(param, "img_size", "img_h", "img_w")
    return PriorBox(
        sizes=sizes,
        variances=_variances(param),
        image_size=None if image_size is None else (int(image_size[0]), int(image_size[1])),
        step=_pair_or_single(param, "step", "step_h", "step_w"),
        offset=offset,
        clip=param.clip,
    )


def read_cell_sizes(param: PriorBoxParameter) -> tuple[tuple[float, float], ...]:
    """Widths and heights in pixels of the priors of a cell.

    Raises:
        LayerParamError: sizes or ratios make no sense.
    """
    check_sizes(param)
    for small, large in zip(param.min_size, param.max_size, strict=False):
        if large <= small:
            raise LayerParamError(f"max_size must exceed min_size, got {large:g} <= {small:g}")
    ratios = expand_ratios(param.aspect_ratio, flip=param.flip)
    return cell_sizes(param.min_size, param.max_size, ratios)


def check_sizes(param: PriorBoxParameter) -> None:
    """Check sizes and ratios one by one.

    Raises:
        LayerParamError: one is missing or not positive, or there are not as many as needed.
    """
    low, high = list(param.min_size), list(param.max_size)
    if not low:
        raise LayerParamError("min_size is missing; at least one is needed")
    for size in low:
        if size <= 0:
            raise LayerParamError(f"min_size must be positive, got {size:g}")
    if high and len(high) != len(low):
        raise LayerParamError(
            f"needs as many max_size as min_size ({len(low)}), or none, got {len(high)}"
        )
    for ratio in param.aspect_ratio:
        if ratio <= 0:
            raise LayerParamError(f"aspect_ratio must be positive, got {ratio:g}")


def _variances(param: PriorBoxParameter) -> tuple[float, ...]:
    given = tuple(param.variance)
    if len(given) not in (0, 1, 4):
        raise LayerParamError(f"variance must be given once or four times, got {len(given)}")
    for variance in given:
        if variance <= 0:
            raise LayerParamError(f"variance must be positive, got {variance:g}")
    return given if given else (DEFAULT_VARIANCE,)


def _pair_or_single(
    param: PriorBoxParameter, single: str, vertical: str, horizontal: str
) -> tuple[float, float] | None:
    """Height and width from one field for both or one for each; None when none is given."""
    given = [name for name in (single, vertical, horizontal) if param.HasField(name)]
    if not given:
        return None
    if given not in ([single], [vertical, horizontal]):
        raise LayerParamError(
            f"give either {single} or both {vertical} and {horizontal}, got {', '.join(given)}"
        )
    values = [getattr(param, name) for name in given]
    for name, value in zip(given, values, strict=True):
        if value <= 0:
            raise LayerParamError(f"{name} must be positive, got {value:g}")
    return values[0], values[-1]
