"""What of a net goes into a file: all of it, or what stands before DetectionOutput."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor

from caffe_ssd.boxes.nms import ADAPTIVE_ABOVE
from caffe_ssd.engines.frozen_net import FrozenNet, freeze
from caffe_ssd.engines.precision import Pictures
from caffe_ssd.errors import LayerError, NetError, UsageError
from caffe_ssd.layers.detection_output import DetectionOutput
from caffe_ssd.layers.registry import Shape
from caffe_ssd.net import Net
from caffe_ssd.net.part import NetPart
from caffe_ssd.net.plan import Step, Value


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """What a program must know that feeds pictures and reads detections.

    Args:
        mean: subtracted per channel, blue first, or one value for all.
        scale: factor after the mean.
        class_names: by label; empty where they are not known.
    """

    mean: tuple[float, ...] = (0.0,)
    scale: float = 1.0
    class_names: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What shall be exported, and how.

    Args:
        net: in phase TEST, with its weights, on the CPU.
        batch: images in one pass; None for any number where the format can, else the net's own.
        size: (height, width) of the input; None likewise.
        heads: end before DetectionOutput, with its bottoms as outputs.
        facts: for programs that feed pictures.
        calibration: for 8 bits: inputs of the net; None for float32.
    """

    net: Net
    batch: int | None = None
    size: tuple[int, int] | None = None
    heads: bool = False
    facts: PictureFacts = PictureFacts()
    calibration: Pictures | None = None

    @property
    def name(self) -> str:
        """The net's name, or `net`."""
        return self.net.name if self.net.name else "net"


@dataclass(frozen=True, kw_only=True)
class Detection:
    """A DetectionOutput layer and its blobs' names."""

    name: str
    layer: DetectionOutput
    bottoms: tuple[str, ...]
    top: str

    @property
    def adapts(self) -> bool:
        """Whether the threshold of suppression changes with the boxes kept."""
        return self.layer.rule.eta < 1 and self.layer.rule.nms_threshold > ADAPTIVE_ABOVE

    def refuse(self, where: str, why: str) -> NoReturn:
        """Say that a format has no words for the layer.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            f"layer {self.name!r} (DetectionOutput) cannot be written in {where} with {why}; "
            "everything before it can, in ONNX"
        )


def detections_of(net: Net) -> list[Detection]:
    """A net's DetectionOutput layers; bottoms that are copies have the original's name."""
    original: dict[Value, Value] = {}
    found = []
    for step, layer in zip(net.steps, net.layers, strict=True):
        if step.param.type == "Split":
            bottom = step.bottoms[0]
            original.update(dict.fromkeys(step.tops, original.get(bottom, bottom)))
        if isinstance(layer, DetectionOutput):
            blobs = [original.get(value, value).blob for value in step.bottoms]
            found.append(
                Detection(
                    name=step.param.name,
                    layer=layer,
                    bottoms=tuple(net.blob_names[blob] for blob in blobs),
                    top=net.blob_names[step.tops[0].blob],
                )
            )
    return found


def refuse_extensions(detections: Sequence[Detection], where: str) -> None:
    """Refuse DetectionOutput layers that do more than the original's.

    Args:
        detections: the layers.
        where: the format.

    Raises:
        UsageError: there is one.
    """
    for detection in detections:
        if type(detection.layer) is not DetectionOutput:
            detection.refuse(where, f"what another fork adds: {detection.layer.steps}")


def head_names(net: Net, detections: Sequence[Detection]) -> list[str]:
    """The blobs that DetectionOutput layers read, and the net's other outputs.

    Raises:
        UsageError: a layer reads what a DetectionOutput has found.
    """
    tops = {detection.top for detection in detections}
    for detection in detections:
        if detection.top not in net.outputs:
            raise UsageError(
                f"what layer {detection.name!r} (DetectionOutput) finds is read by another layer; "
                "give the deploy net, which ends with it"
            )
    heads = [
        bottom
        for detection in detections
        for i, bottom in enumerate(detection.bottoms)
        if i < 3 or bottom not in net.inputs  # some have the picture at the end
    ]
    return list(dict.fromkeys([*heads, *(name for name in net.outputs if name not in tops)]))


def part_of(net: Net, names: Sequence[str]) -> FrozenNet:
    """The frozen net that makes blobs; not yet for any shape.

    Raises:
        NetError: it reads its own data.
        UsageError: one of the blobs is an input, too.
    """
    frozen = freeze(net, names)
    if len(frozen.inputs) != len(net.inputs):
        raise NetError("the net reads a database; give the deploy net, which has an Input layer")
    both = set(names).intersection(net.inputs)
    if both:
        raise UsageError(f"{both.pop()!r} is an input of the net and an output, too; rename a top")
    return frozen


def specialised(part: FrozenNet, inputs: Sequence[Tensor], *, folds: bool = True) -> FrozenNet:
    """The part for inputs of these shapes; see `FrozenNet.specialised`.

    Raises:
        NetError: the net does not take them.
    """
    try:
        with torch.no_grad():
            return part.specialised(*inputs, folds=folds)
    except LayerError as error:
        shapes = ", ".join(shape_text(tuple(x.shape)) for x in inputs)
        raise NetError(f"the net does not take an input of {shapes}: {error}") from error


def zero_inputs(request: Request, part: FrozenNet) -> list[Tensor]:
    """Zeros of the shapes that the file shall take.

    Raises:
        UsageError: another batch or size is asked of a net that has no single image input.
        NetError: priors are not made for the size.
    """
    net, batch, size = request.net, request.batch, request.size
    known = dict(zip(net.blob_names, net.blob_shapes, strict=True))
    shapes = [known[name] for name, _ in part.inputs]
    if batch is not None or size is not None:
        if len(shapes) != 1 or len(shapes[0]) != 4:
            raise UsageError(
                "another batch or size is for nets with one input (N, C, H, W); this one has "
                f"{[list(shape) for shape in shapes]}"
            )
        own_batch, channels, *own_size = shapes[0]
        images = own_batch if batch is None else batch
        shapes = [(images, channels, *(own_size if size is None else size))]
        check_priors_fit(net, shapes[0])
    return [torch.zeros(shape) for shape in shapes]


def check_priors_fit(net: Net, shape: Shape) -> None:
    """Refuse a size that a detector's priors are not made for.

    Raises:
        NetError: it is one.
    """
    fed: Step = next(step for step in net.steps if step.param.type == "Input")
    for step in net.steps:
        if step.param.type == "DetectionOutput":
            NetPart(net, fed=fed.tops[0], wanted=step.tops[0]).check_size(shape)


def shape_text(shape: Sequence[int | str | None]) -> str:
    """A shape in words: 1x3x300x300; free sizes by their names or as ?."""
    return "x".join("?" if n is None else str(n) for n in shape) if shape else "scalar"
