"""Images, blobs and records in and out of numpy; `Transformer` prepares images for a net.

Spec: caffe-net.md section 14.

Images are (height, width, channels), RGB, float32. No image is ever changed in place: the
original's `preprocess` could scale its caller's array.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from caffe.image_resize import check_image, resize_padded, zoom
from caffe_ssd.data.decode import read_picture
from caffe_ssd.errors import DataError
from caffe_ssd.proto.blobs import array_to_blob, blob_to_array
from caffe_ssd.proto.caffe_pb2 import BlobProto, BlobProtoVector, Datum

Array = NDArray[np.float32]

# Red, green, blue.
_LUMINANCE = (0.2125, 0.7154, 0.0721)


class InputError(DataError, ValueError):
    """An image, mean or setting does not fit the net's input."""


# Images ------------------------------------------------------------------------------------------


def load_image(filename: str, color: bool = True) -> Array:
    """Read an image file.

    Args:
        filename: a file that OpenCV can decode.
        color: False gives one channel, the luminance.

    Returns:
        (H, W, 3) RGB or (H, W, 1), in [0, 1]. An alpha channel is dropped.

    Raises:
        FileError: the file cannot be read.
        DataError: it is no image.
    """
    pixels = read_picture(filename, cv2.IMREAD_UNCHANGED)
    image = np.atleast_3d(pixels).astype(np.float64)
    image /= {"uint8": 255, "uint16": 65535}.get(pixels.dtype.name, 1)
    if image.shape[2] >= 3:
        image = image[:, :, 2::-1]
        if not color:
            image = (image @ _LUMINANCE)[:, :, None]
    elif color:
        image = np.tile(image[:, :, :1], (1, 1, 3))
    return np.ascontiguousarray(image, np.float32)


def resize_image(im: NDArray[Any], new_dims: Sequence[int], interp_order: int = 1) -> Array:
    """Resize an image; see image_resize.py for how borders are treated.

    Args:
        im: (H, W, C).
        new_dims: (height, width).
        interp_order: 0 nearest, 1 linear, 3 cubic (only for 1 or 3 channels).

    Returns:
        A new image with C channels.

    Raises:
        UsageError: the shapes or the order make no sense.
    """
    height, width = (int(n) for n in new_dims)
    check_image(im, (height, width))
    image = np.asarray(im, np.float64)
    if im.shape[2] not in (1, 3):
        return zoom(image, (height, width), interp_order).astype(np.float32)
    low, high = image.min(), image.max()
    if low == high:
        return np.full((height, width, im.shape[2]), low, np.float32)
    unit = resize_padded((image - low) / (high - low), (height, width), interp_order)
    return np.asarray(unit * (high - low) + low, np.float32)


def oversample(images: Iterable[NDArray[Any]], crop_dims: Sequence[int]) -> Array:
    """Ten crops of every image: the corners, the centre, and these five mirrored.

    Args:
        images: N images (H, W, C) of one size.
        crop_dims: (height, width) of the crops.

    Returns:
        (10 N, height, width, C), in the order top left, top right, bottom left, bottom right,
        centre, then their mirror images.

    Raises:
        InputError: there are no images, or the crops are larger than they are.
    """
    stack = np.asarray(list(images), np.float32)
    height, width = (int(n) for n in crop_dims)
    if stack.ndim != 4 or height > stack.shape[1] or width > stack.shape[2]:
        raise InputError(
            f"needs images (H, W, C) of at least {height} x {width}, got {list(stack.shape[1:])}"
        )
    bottom, right = stack.shape[1] - height, stack.shape[2] - width
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    crops = np.stack([stack[:, y : y + height, x : x + width] for y, x in corners], axis=1)
    crops = np.concatenate([crops, crops[:, :, :, ::-1]], axis=1)
    return crops.reshape(-1, height, width, stack.shape[3])


class Transformer:
    """Turns images into a net's input, and back.

    In this order: resize, transpose, swap channels, scale to raw values, subtract the mean, scale
    for the net. Each step is left out unless it is set.

    Args:
        inputs: shape (N, C, H, W) of each input by name.

    Attributes:
        inputs, transpose, channel_swap, raw_scale, mean, input_scale: the settings by input name.
    """

    def __init__(self, inputs: Mapping[str, Sequence[int]]) -> None:
        self.inputs = {name: tuple(shape) for name, shape in inputs.items()}
        self.transpose: dict[str, tuple[int, ...]] = {}
        self.channel_swap: dict[str, tuple[int, ...]] = {}
        self.raw_scale: dict[str, float] = {}
        self.mean: dict[str, Array] = {}
        self.input_scale: dict[str, float] = {}

    def preprocess(self, in_: str, data: NDArray[Any]) -> Array:
        """The input blob's content for one image.

        Args:
            in_: name of the input.
            data: the image, (H, W, C) of any size if a transpose is set.

        Raises:
            InputError: there is no such input.
        """
        size = self._shape(in_)[2:]
        result = np.asarray(data, np.float32)
        if result.shape[:2] != size:
            result = resize_image(result, size)
        if in_ in self.transpose:
            result = result.transpose(self.transpose[in_])
        if in_ in self.channel_swap:
            result = result[list(self.channel_swap[in_])]
        if in_ in self.raw_scale:
            result = result * np.float32(self.raw_scale[in_])
        if in_ in self.mean:
            result = result - self.mean[in_]
        if in_ in self.input_scale:
            result = result * np.float32(self.input_scale[in_])
        return result.copy() if np.shares_memory(result, data) else result

    def deprocess(self, in_: str, data: NDArray[Any]) -> Array:
        """The image of an input blob's content: `preprocess` backwards, without resizing.

        Args:
            in_: name of the input.
            data: (C, H, W) or (1, C, H, W).
        """
        self._shape(in_)
        result = np.array(data, np.float32).squeeze()
        if in_ in self.input_scale:
            result = result / np.float32(self.input_scale[in_])
        if in_ in self.mean:
            result = result + self.mean[in_]
        if in_ in self.raw_scale:
            result = result / np.float32(self.raw_scale[in_])
        if in_ in self.channel_swap:
            result = result[np.argsort(self.channel_swap[in_])]
        if in_ in self.transpose:
            result = result.transpose(np.argsort(self.transpose[in_]))
        return result

    def set_transpose(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of the axes; (2, 0, 1) turns (H, W, C) into (C, H, W)."""
        axes = len(self._shape(in_)) - 1
        if sorted(order) != list(range(axes)):
            raise InputError(f"transpose of {in_!r} must order the axes 0..{axes - 1}, got {order}")
        self.transpose[in_] = tuple(order)

    def set_channel_swap(self, in_: str, order: Sequence[int]) -> None:
        """Set the order of the channels; (2, 1, 0) turns RGB into BGR."""
        channels = self._shape(in_)[1]
        if len(order) != channels:
            raise InputError(f"channel_swap of {in_!r} needs {channels} channels, got {order}")
        self.channel_swap[in_] = tuple(order)

    def set_raw_scale(self, in_: str, scale: float) -> None:
        """Set the factor before the mean; 255 for a mean of 8-bit values."""
        self._shape(in_)
        self.raw_scale[in_] = scale

    def set_mean(self, in_: str, mean: ArrayLike) -> None:
        """Set the mean, in the net's axes and channel order: (C), (C, H, W) or, if C is 1, (H, W).

        Raises:
            InputError: it has another shape.
        """
        shape = self._shape(in_)
        values = np.array(mean, np.float32)
        allowed = shape[1:]
        if values.ndim == 1:
            allowed = (shape[1], 1, 1)
            values = values[:, None, None]
        elif values.ndim == 2:
            values = values[None]
        if values.shape != allowed:
            raise InputError(
                f"mean of {in_!r} has shape {list(np.shape(mean))}, "
                f"allowed: [{shape[1]}] or {list(shape[1:])}"
            )
        self.mean[in_] = values

    def set_input_scale(self, in_: str, scale: float) -> None:
        """Set the factor after the mean."""
        self._shape(in_)
        self.input_scale[in_] = scale

    def _shape(self, in_: str) -> tuple[int, ...]:
        if in_ not in self.inputs:
            raise InputError(f"{in_!r} is not one of the inputs: {', '.join(self.inputs)}")
        return self.inputs[in_]


# Messages ----------------------------------------------------------------------------------------


def blobproto_to_array(blob: BlobProto, return_diff: bool = False) -> Array:
    """The data, or diff, of a blob message; the old four dimensions count if one is set."""
    return blob_to_array(blob, diff=return_diff)


def array_to_blobproto(arr: ArrayLike, diff: ArrayLike | None = None) -> BlobProto:
    """A blob message with `shape`."""
    return array_to_blob(arr, diff)


def arraylist_to_blobprotovector_str(arraylist: Iterable[ArrayLike]) -> bytes:
    """Several arrays as one serialized message."""
    vector = BlobProtoVector()
    vector.blobs.extend(array_to_blob(array) for array in arraylist)
    return vector.SerializeToString()


def blobprotovector_str_to_arraylist(str: bytes) -> list[Array]:
    """The arrays of `arraylist_to_blobprotovector_str`."""
    return [blob_to_array(blob) for blob in BlobProtoVector.FromString(str).blobs]


def array_to_datum(arr: NDArray[Any], label: int | None = None) -> Datum:
    """A record: bytes for uint8, floats for other types.

    Args:
        arr: (C, H, W).
        label: class, None leaves it out.

    Raises:
        InputError: not three axes.
    """
    if arr.ndim != 3:
        raise InputError(f"a datum is (channels, height, width), got {list(arr.shape)}")
    channels, height, width = arr.shape
    datum = Datum(channels=channels, height=height, width=width)
    if arr.dtype == np.uint8:
        datum.data = arr.tobytes()
    else:
        datum.float_data.extend(arr.astype(float).ravel().tolist())
    if label is not None:
        datum.label = int(label)
    return datum


def datum_to_array(datum: Datum) -> NDArray[Any]:
    """The values of a record that is not encoded, (C, H, W), uint8 or float64.

    Raises:
        InputError: it is encoded, or the number of values is wrong.
    """
    flat: NDArray[Any]
    if datum.data:
        flat = np.frombuffer(datum.data, np.uint8).copy()
    else:
        flat = np.array(datum.float_data, np.float64)
    shape = (datum.channels, datum.height, datum.width)
    if datum.encoded or flat.size != np.prod(shape):
        kind = "an encoded image" if datum.encoded else f"{flat.size} values"
        raise InputError(f"a datum of shape {list(shape)} holds {kind}")
    return flat.reshape(shape)
