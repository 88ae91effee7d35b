"""A trained detector at work: boxes on a picture, with names and scores.

Pure functions over a net with the pycaffe interface; boxes are in parts of the picture until they
are drawn.
"""

import colorsys
import os
import tempfile
from typing import Any, NamedTuple

import cv2
import numpy as np
from google.protobuf import text_format

from caffe.models.datasets import MEAN_BGR
from caffe.proto import caffe_pb2

MARGIN_PX = 4


class Detection(NamedTuple):
    """One row of `detection_out`; the box is in [0, 1] of the picture and may leave it a little."""

    label: int
    score: float
    xmin: float
    ymin: float
    xmax: float
    ymax: float

    def box_px(self, height: int, width: int) -> "tuple[int, int, int, int]":
        """Return (xmin, ymin, xmax, ymax) in pixels, clipped to a picture of that size."""
        return (
            round(min(max(self.xmin, 0.0), 1.0) * width),
            round(min(max(self.ymin, 0.0), 1.0) * height),
            round(min(max(self.xmax, 0.0), 1.0) * width),
            round(min(max(self.ymax, 0.0), 1.0) * height),
        )


def open_net(model: str, weights: str) -> Any:
    """Return a deploy net in phase TEST that saves no result files.

    A generated deploy net makes the folder for its results and needs the files that name the test
    set's images; a net for pictures needs neither.

    Raises:
        ValueError: a file is missing, or the model is no net.
    """
    import caffe

    for path in (model, weights):
        if not os.path.exists(path):
            raise ValueError(f"there is no file {path}")
    net = caffe_pb2.NetParameter()
    try:
        with open(model, encoding="utf-8") as file:
            text_format.Merge(file.read(), net)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise ValueError(f"{model} is no net definition: {error}") from error
    for layer in net.layer:
        if layer.HasField("detection_output_param"):
            layer.detection_output_param.ClearField("save_output_param")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "deploy.prototxt")
        with open(path, "w", encoding="utf-8") as file:
            file.write(text_format.MessageToString(net))
        return caffe.Net(path, weights, caffe.TEST)


def read_image(path: str) -> Any:
    """Return a picture as (height, width, 3), BGR, 8 bits.

    Raises:
        ValueError: the file is missing or no picture.
    """
    if not os.path.exists(path):
        raise ValueError(f"there is no file {path}")
    image = cv2.imread(path, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} is no picture that can be read")
    return image


def detect_image(
    net: Any,
    image: Any,
    threshold: float = 0.5,
    mean: "tuple[float, float, float]" = MEAN_BGR,
) -> "list[Detection]":
    """Return what a net finds on a picture, best first.

    Args:
        net: one input (N, 3, H, W) of which the first image is used, one output of rows
            (image, label, score, xmin, ymin, xmax, ymax).
        image: (height, width, 3), BGR, 8 bits; resized to the input without keeping its shape.
        threshold: lowest score.
        mean: BGR, subtracted.

    Raises:
        ValueError: the net has another kind of input or output.
    """
    data = net.blobs[net.inputs[0]]
    if len(data.data.shape) != 4 or data.data.shape[1] != 3:
        raise ValueError(f"the net's input must be (N, 3, H, W), it is {tuple(data.data.shape)}")
    height, width = data.data.shape[2:]
    data.reshape(1, 3, height, width)
    resized = cv2.resize(image, (width, height)).astype(np.float32)
    data.data[0] = (resized - np.array(mean, dtype=np.float32)).transpose(2, 0, 1)
    rows = next(iter(net.forward().values()))
    if rows.shape[-1] != 7:
        shape = tuple(rows.shape)
        raise ValueError(f"the net's output must be rows of 7 (DetectionOutput), it is {shape}")
    found = [
        Detection(int(row[1]), *(float(value) for value in row[2:]))
        for row in rows.reshape(-1, 7)
        if row[1] >= 0 and row[2] >= threshold  # label -1 stands for "nothing found"
    ]
    return sorted(found, key=lambda detection: -detection.score)


def class_colour(label: int) -> "tuple[int, int, int]":
    """Return a colour (BGR) that differs well from those of the neighbouring labels."""
    golden_ratio = 0.618034
    red, green, blue = colorsys.hsv_to_rgb(label * golden_ratio % 1.0, 0.85, 0.95)
    return int(255 * blue), int(255 * green), int(255 * red)


def draw_detections(
    image: Any, detections: "list[Detection]", names: "dict[int, str] | None" = None
) -> Any:
    """Return a copy of a picture with a box, a name and a score for each detection.

    Args:
        image: (height, width, 3), BGR, 8 bits.
        detections: drawn so that the best is on top.
        names: of the labels; a label without a name is shown as a number.
    """
    canvas = image.copy()
    height, width = canvas.shape[:2]
    thickness = max(1, round(min(height, width) / 300))
    for detection in sorted(detections, key=lambda each: each.score):
        colour = class_colour(detection.label)
        xmin, ymin, xmax, ymax = detection.box_px(height, width)
        cv2.rectangle(canvas, (xmin, ymin), (xmax, ymax), colour, thickness)
        text = f"{class_name(detection.label, names)} {detection.score:.2f}"
        _draw_text(canvas, text, (xmin, ymin), colour)
    return canvas


def class_name(label: int, names: "dict[int, str] | None") -> str:
    """Return a label's name, or its number."""
    return str(label) if names is None else names.get(label, str(label))


def _draw_text(canvas: Any, text: str, corner: "tuple[int, int]", colour: Any) -> None:
    """Write on a bar above a corner, or below it where there is no room."""
    height, width = canvas.shape[:2]
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = max(0.4, min(height, width) / 900)
    (text_width, text_height), baseline = cv2.getTextSize(text, font, scale, 1)
    bar = text_height + baseline + MARGIN_PX
    left = max(0, min(corner[0], width - text_width - MARGIN_PX))
    top = corner[1] - bar if corner[1] >= bar else corner[1]
    end = (left + text_width + MARGIN_PX, top + bar)
    cv2.rectangle(canvas, (left, top), end, colour, cv2.FILLED)
    blue, green, red = colour
    is_light = 0.114 * blue + 0.587 * green + 0.299 * red > 128
    ink = (0, 0, 0) if is_light else (255, 255, 255)
    origin = (left + MARGIN_PX // 2, top + bar - baseline)
    cv2.putText(canvas, text, origin, font, scale, ink, 1, cv2.LINE_AA)


def format_table(
    detections: "list[Detection]", names: "dict[int, str] | None", height: int, width: int
) -> str:
    """Return detections as lines of text: class, score and box in pixels."""
    if not detections:
        return "nothing found"
    shown = [class_name(detection.label, names) for detection in detections]
    column = max(len("class"), *(len(name) for name in shown))
    lines = [f"{'class':<{column}}  score   xmin   ymin   xmax   ymax"]
    for name, detection in zip(shown, detections):  # noqa: B905
        box = "".join(f"{value:7d}" for value in detection.box_px(height, width))
        lines.append(f"{name:<{column}}  {detection.score:.3f}{box}")
    return "\n".join(lines)
