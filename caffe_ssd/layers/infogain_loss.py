"""InfogainLoss: the logarithms of all probabilities, weighted by a row of a matrix per label.

Spec: caffe-layers.md section G.
Quirk: a probability counts as at least 1e-20, and below that the gradient is that of 1e-20.

Shapes: N items, K classes; the matrix is (1, 1, K, K) or anything with these trailing sizes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import forbid_gradient
from caffe_ssd.layers.loss_common import (
    check_batch,
    class_labels,
    floored_log,
    one_label_per_item,
)
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.proto.binary import read_binary
from caffe_ssd.proto.blobs import blob_to_array
from caffe_ssd.proto.caffe_pb2 import BlobProto


class InfogainLoss(Layer):
    """The layer; bottoms are probabilities (N, ...), labels (N), and the matrix unless it is given.

    Args:
        matrix: the matrix; None if it is bottom 2.
    """

    backward_reads = range(1, 2)  # scores are kept from forward, labels are not

    matrix: Tensor | None

    def __init__(self, *, matrix: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix, persistent=False)

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_batch(bottoms)
        one_label_per_item(bottoms[1])
        num_classes = math.prod(bottoms[0][1:])
        matrix = bottoms[2] if self.matrix is None else tuple(self.matrix.shape)
        square = (num_classes, num_classes)
        if matrix[-2:] != square or math.prod(matrix[:-2]) != 1:
            raise ShapeError(
                f"the infogain matrix must be {num_classes} x {num_classes} for bottom 0 of shape "
                f"{list(bottoms[0])}, got shape {list(matrix)}"
            )
        return ((),)

    def forward(
        self, probabilities: Tensor, labels: Tensor, matrix: Tensor | None = None
    ) -> Tensor:
        given = matrix
        matrix = self.matrix if matrix is None else matrix
        assert matrix is not None  # the builder requires one of the two
        probabilities = probabilities.flatten(1)
        num_items, num_classes = probabilities.shape
        index, _ = class_labels(labels, (num_items,), num_classes)
        weights = matrix.detach().reshape(num_classes, num_classes)[index]
        loss = -(weights * floored_log(probabilities)).sum() / num_items
        if given is not None:
            loss = forbid_gradient(loss, given, "infogain matrix")
        return forbid_gradient(loss, labels, "labels")


@register_layer("InfogainLoss", bottoms=range(2, 4), is_loss=True, not_forced=(1,))
def _build(spec: LayerSpec) -> InfogainLoss:
    matrix = None
    if len(spec.bottoms) == 2:
        param = spec.param.infogain_loss_param
        if not param.HasField("source"):
            raise LayerParamError("the infogain matrix is missing; give bottom 2 or source")
        matrix = _read_matrix(param.source)
    layer = InfogainLoss(matrix=matrix)
    layer.top_shapes(*spec.bottoms)
    return layer


def _read_matrix(source: str) -> Tensor:
    """A binary BlobProto file as a tensor."""
    return torch.from_numpy(blob_to_array(read_binary(source, BlobProto())))
