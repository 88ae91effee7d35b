"""What the detection layers share: reading of their settings, checks of their bottoms.

Spec: ssd-layers.md sections 2 to 4.

Letters: N images, P priors, C classes, L location classes (1 or C).
"""

from __future__ import annotations

import math

from torch import Tensor

from caffe_ssd.boxes.image_space import AppliedResize, ResizeMode
from caffe_ssd.errors import CaffeError, LayerParamError, ShapeError
from caffe_ssd.evaluate.results import ImageSize, read_name_sizes
from caffe_ssd.layers.registry import Shape
from caffe_ssd.proto.caffe_pb2 import ResizeParameter

_MOST_CLASSES = 1_000_000


def check_num_classes(num_classes: int | None) -> int:
    """The number of classes, which must be given.

    Raises:
        LayerParamError: it is absent (None), 0, or beyond all reason.
    """
    if num_classes is None:
        raise LayerParamError(
            "num_classes is missing; give the number of classes, background included"
        )
    if num_classes == 0:
        raise LayerParamError("num_classes must be at least 1, got 0")
    if num_classes > _MOST_CLASSES:
        raise LayerParamError(f"num_classes must be at most {_MOST_CLASSES}, got {num_classes}")
    return num_classes


def check_head_shapes(
    loc: Shape, conf: Shape, priors: Shape, *, num_classes: int, num_loc_classes: int
) -> None:
    """Refuse predictions that do not fit the priors.

    Args:
        loc: shape of bottom 0, wanted (N, P * L * 4).
        conf: shape of bottom 1, wanted (N, P * C).
        priors: shape of bottom 2, wanted (1, 2, P * 4); it may have several items, of which the
            first counts, and further axes of length 1.
        num_classes: C.
        num_loc_classes: L.

    Raises:
        ShapeError: one of them does not fit.
    """
    fits = len(priors) >= 3 and priors[0] > 0 and priors[1] == 2 and priors[2] % 4 == 0
    if not fits or any(axis != 1 for axis in priors[3:]):
        raise ShapeError(f"bottom 2 must be priors of shape (1, 2, P * 4), got {priors}")
    num_priors = priors[2] // 4
    hint = _other_count(loc, conf, num_priors, num_classes=num_classes, width=num_loc_classes * 4)
    for index, shape, width in (
        (0, loc, num_loc_classes * 4),
        (1, conf, num_classes),
    ):
        size = num_priors * width
        if len(shape) < 2 or shape[1] != size or any(axis != 1 for axis in shape[2:]):
            raise ShapeError(
                f"bottom {index} must have shape (N, {size}), {width} numbers for each of "
                f"{num_priors} priors, got {shape}{hint}"
            )
    if loc[0] != conf[0]:
        raise ShapeError(f"bottoms 0 and 1 must have the same batch size, got {loc[0]}, {conf[0]}")


def _other_count(loc: Shape, conf: Shape, num_priors: int, *, num_classes: int, width: int) -> str:
    """What may be wrong where both predictions are for the same other number of priors."""
    count = math.prod(loc[1:]) // width
    if count == num_priors or (math.prod(loc[1:]), math.prod(conf[1:])) != (
        count * width,
        count * num_classes,
    ):
        return ""
    hint = f"; the predictions are for {count} priors"
    if count == 2 * num_priors:
        return (
            f"{hint}, twice as many: the PriorBox layers of TextBoxes need "
            "prior_box_param { denser_prior_boxes: true }"
        )
    return f"{hint} (offset_w and offset_h, if given, make all combinations here, not pairs)"


def split_priors(blob: Tensor) -> tuple[Tensor, Tensor]:
    """The boxes and variances in a PriorBox blob: (1, 2, P * 4) -> [P, 4] and [P, 4].

    Quirk: of a blob with several items the first one counts.
    """
    boxes, variances = blob.detach()[0].reshape(2, -1, 4)
    return boxes, variances


def check_arm_shapes(loc: Shape, *arm: Shape) -> None:
    """Refuse RefineDet's first predictions if they do not fit the second ones.

    Args:
        loc: shape of bottom 0, (N, P * 4).
        arm: shapes of arm_conf, wanted (N, P * 2), and perhaps of arm_loc, wanted (N, P * 4).

    Raises:
        ShapeError: one of them does not fit.
    """
    num_images, num_priors = loc[0], loc[1] // 4
    for name, shape, width in zip(("arm_conf", "arm_loc"), arm, (2, 4), strict=False):
        wanted = (num_images, num_priors * width)
        if shape[:2] != wanted or any(axis != 1 for axis in shape[2:]):
            raise ShapeError(f"{name} must have shape {list(wanted)}, got {list(shape)}")


def read_resize(param: ResizeParameter) -> AppliedResize:
    """The resize setting of a message.

    Raises:
        LayerParamError: height or width is 0.
    """
    if param.height == 0 or param.width == 0:
        raise LayerParamError(
            "resize_param needs a positive height and width, "
            f"got height {param.height}, width {param.width}"
        )
    return AppliedResize(
        mode=ResizeMode(param.resize_mode),
        height=param.height,
        width=param.width,
        height_scale=param.height_scale,
        width_scale=param.width_scale,
    )


def read_sizes(path: str, field: str) -> tuple[ImageSize, ...]:
    """The names and sizes in the file that a field names.

    Raises:
        LayerParamError: it cannot be read; says which tool makes it.
    """
    try:
        return read_name_sizes(path)
    except CaffeError as error:
        raise LayerParamError(
            f"{field}: {error}; get_image_size makes this file of lines 'name height width' "
            "from the images of the test set"
        ) from error
