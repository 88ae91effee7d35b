"""Eltwise: the product, weighted sum or maximum of the bottoms, element by element.

Spec: caffe-layers.md section E.
Quirk: equal maxima send the gradient to bottom 1 rather than bottom 0, but to the earlier one among
the rest, as on the reference's CPU.
Quirk: with stable_prod_grad false the gradient of a product is y / b_i, NaN where b_i is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from caffe_ssd.errors import LayerParamError
from caffe_ssd.layers.common import check_same_shapes
from caffe_ssd.layers.registry import (
    EVERY_BOTTOM,
    MANY,
    Grouping,
    Layer,
    LayerSpec,
    Shape,
    register_layer,
)
from caffe_ssd.proto.caffe_pb2 import EltwiseParameter


def weighted_sum(bottoms: Sequence[Tensor], coeffs: Sequence[float]) -> Tensor:
    """c0 * b0 + c1 * b1 + ..., added in this order."""
    first = bottoms[0] if coeffs[0] == 1 else bottoms[0] * coeffs[0]
    pairs = zip(bottoms[1:], coeffs[1:], strict=True)
    return reduce(lambda y, pair: torch.add(y, pair[0], alpha=pair[1]), pairs, first)


def maximum(bottoms: Sequence[Tensor]) -> Tensor:
    """The largest bottom; see the module for ties."""
    first, second, *rest = bottoms
    y = torch.where(first > second, first, second)
    for bottom in rest:
        y = torch.where(bottom > y, bottom, y)
    return y


class _UnstableProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *bottoms: Tensor) -> Tensor:
        y = reduce(torch.mul, bottoms)
        ctx.save_for_backward(y, *bottoms)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        y, *bottoms = ctx.saved_tensors
        return tuple(y / bottom * grads[0] for bottom in bottoms)


def product(bottoms: Sequence[Tensor], *, stable_prod_grad: bool = True) -> Tensor:
    """The product; see the module for the gradient."""
    if stable_prod_grad:
        return reduce(torch.mul, bottoms)
    y: Tensor = _UnstableProduct.apply(*bottoms)  # type: ignore[no-untyped-call]
    return y


class Eltwise(Layer):
    """The layer; bottoms of any one shape.

    Args:
        operation: EltwiseParameter.PROD, SUM or MAX.
        coeffs: factors of a sum, one per bottom.
        stable_prod_grad: see the module.
    """

    grouping = Grouping.PER_IMAGE

    def __init__(
        self,
        *,
        operation: EltwiseParameter.EltwiseOp,
        coeffs: tuple[float, ...],
        stable_prod_grad: bool = True,
    ) -> None:
        super().__init__()
        self.operation = operation
        self.coeffs = coeffs
        self.stable_prod_grad = stable_prod_grad
        if operation == EltwiseParameter.PROD:
            self.backward_reads = EVERY_BOTTOM

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        check_same_shapes(bottoms)
        return (bottoms[0],)

    def forward(self, *bottoms: Tensor) -> Tensor:
        if self.operation == EltwiseParameter.SUM:
            return weighted_sum(bottoms, self.coeffs)
        if self.operation == EltwiseParameter.MAX:
            return maximum(bottoms)
        return product(bottoms, stable_prod_grad=self.stable_prod_grad)


@register_layer("Eltwise", bottoms=range(2, MANY))
def _build(spec: LayerSpec) -> Eltwise:
    param = spec.param.eltwise_param
    num_bottoms = len(spec.bottoms)
    coeffs = tuple(param.coeff)
    if coeffs and param.operation != EltwiseParameter.SUM:
        raise LayerParamError(f"coeff needs operation: SUM, got {list(coeffs)}")
    if len(coeffs) not in (0, num_bottoms):
        raise LayerParamError(
            f"coeff takes one value per bottom ({num_bottoms}), got {list(coeffs)}"
        )
    layer = Eltwise(
        operation=param.operation,
        coeffs=coeffs if coeffs else (1.0,) * num_bottoms,
        stable_prod_grad=param.stable_prod_grad,
    )
    layer.top_shapes(*spec.bottoms)
    return layer
