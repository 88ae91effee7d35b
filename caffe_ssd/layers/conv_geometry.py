"""How Convolution, Deconvolution and Im2col read kernel, stride, pad and dilation.

Spec: caffe-layers.md section A; other-forks.md section 9.2 (a pad per side).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from caffe_ssd.errors import LayerParamError, ShapeError
from caffe_ssd.layers.common import canonical_axis
from caffe_ssd.layers.registry import Shape
from caffe_ssd.proto.caffe_pb2 import ConvolutionParameter, PoolingParameter


@dataclass(frozen=True, kw_only=True)
class ConvGeometry:
    """A kernel's way over the spatial axes, one number per axis.

    Args:
        axis: the channel axis; axes before it are batch, axes after it spatial.
        kernel, stride, pad, dilation: in cells.
        far_pad: padding behind the last cell where it is not `pad`; None: it is.
    """

    axis: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    far_pad: tuple[int, ...] | None = None

    @property
    def pad_behind(self) -> tuple[int, ...]:
        """Padding behind the last cell."""
        return self.pad if self.far_pad is None else self.far_pad

    @property
    def extents(self) -> tuple[int, ...]:
        """Cells from the kernel's first to its last tap, dilation included."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    def conv_sizes(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Spatial sizes of a convolution's top.

        Raises:
            ShapeError: a size would not be positive.
        """
        out = []
        for size, extent, stride, pad, behind in zip(
            sizes, self.extents, self.stride, self.pad, self.pad_behind, strict=True
        ):
            room = size + pad + behind - extent
            # The quotient is cut toward zero, so a kernel that sticks out by less than one stride
            # still makes one output.
            out.append((room // stride if room >= 0 else -(-room // stride)) + 1)
        return self._checked(out, sizes)

    def deconv_sizes(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Spatial sizes of a transposed convolution's top.

        Raises:
            ShapeError: a size would not be positive.
        """
        out = [
            stride * (size - 1) + extent - 2 * pad
            for size, extent, stride, pad in zip(
                sizes, self.extents, self.stride, self.pad, strict=True
            )
        ]
        return self._checked(out, sizes)

    def _checked(self, out: list[int], sizes: Sequence[int]) -> tuple[int, ...]:
        if any(size < 1 for size in out):
            far = "" if self.far_pad is None else f" and {list(self.far_pad)} behind"
            raise ShapeError(
                f"kernel {list(self.kernel)} with stride {list(self.stride)}, pad "
                f"{list(self.pad)}{far}, dilation {list(self.dilation)} makes sizes {out} "
                f"out of {list(sizes)}; they must be positive"
            )
        return tuple(out)


def read_geometry(
    param: ConvolutionParameter, bottom: Shape, *, takes_sides: bool = False
) -> ConvGeometry:
    """Read the geometry for a bottom of this shape.

    Args:
        param: the settings.
        bottom: the shape.
        takes_sides: whether the layer may be padded on each side by another number (pad_l, ...).

    Raises:
        LayerParamError: missing, contradictory or non-positive settings.
    """
    axis = canonical_axis(param.axis, len(bottom))
    num_axes = len(bottom) - axis - 1
    kernel = _pair(param, "kernel", param.kernel_size, num_axes)
    if kernel is None:
        if num_axes and not param.kernel_size:
            raise LayerParamError("kernel_size is missing; give kernel_size or kernel_h, kernel_w")
        kernel = _per_axis("kernel_size", param.kernel_size, num_axes, 1)
    stride = _pair(param, "stride", param.stride, num_axes)
    if stride is None:
        stride = _per_axis("stride", param.stride, num_axes, 1)
    pad = _pair(param, "pad", param.pad, num_axes)
    if pad is None:
        pad = _per_axis("pad", param.pad, num_axes, 0)
    sides = read_sides(param, bool(param.pad))
    if sides is not None:
        if not takes_sides or num_axes != 2:
            raise LayerParamError(
                "pad_l, pad_r, pad_t and pad_b are for Convolution over 2 spatial axes and Pooling"
            )
        pad = sides[0]
    dilation = _per_axis("dilation", param.dilation, num_axes, 1)
    for what, values in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        if any(value < 1 for value in values):
            _refuse_size(param, what, values)
    return ConvGeometry(
        axis=axis,
        kernel=kernel,
        stride=stride,
        pad=pad,
        dilation=dilation,
        far_pad=None if sides is None or sides[0] == sides[1] else sides[1],
    )


def read_sides(
    param: ConvolutionParameter | PoolingParameter, has_pad: bool
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """(top, left) and (bottom, right) of a pad given per side; None if none of the four is given.

    Args:
        param: the settings.
        has_pad: whether `pad` is given.

    Raises:
        LayerParamError: another pad is given, too.
    """
    sides = [name for name in ("pad_l", "pad_r", "pad_t", "pad_b") if param.HasField(name)]
    if not sides:
        return None
    others = [name for name in ("pad_h", "pad_w") if param.HasField(name)]
    others += ["pad"] if has_pad else []
    if others:
        raise LayerParamError(
            "give either one pad for both sides or pad_l, pad_r, pad_t and pad_b, "
            f"got {', '.join([*others, *sides])}"
        )
    return (param.pad_t, param.pad_l), (param.pad_b, param.pad_r)


def _refuse_size(param: ConvolutionParameter, name: str, values: Sequence[int]) -> NoReturn:
    fields = [f"{name}_h", f"{name}_w"] if name != "dilation" else []
    missing = [field for field in fields if not param.HasField(field)]
    if len(missing) == 1:
        raise LayerParamError(f"{missing[0]} is missing; give {' and '.join(fields)} together")
    word = "kernel size" if name == "kernel" else name
    raise LayerParamError(f"{word} must be positive, got {list(values)}")


def _pair(
    param: ConvolutionParameter, name: str, repeated: Sequence[int], num_axes: int
) -> tuple[int, ...] | None:
    """The values of `<name>_h` and `<name>_w`, 0 where one is missing; None without either."""
    fields = (f"{name}_h", f"{name}_w")
    if not any(param.HasField(field) for field in fields):
        return None
    if num_axes != 2:
        raise LayerParamError(
            f"{name}_h and {name}_w need 2 spatial axes, the bottom has {num_axes}"
        )
    if repeated:
        word = "kernel_size" if name == "kernel" else name
        given = [word, *(field for field in fields if param.HasField(field))]
        raise LayerParamError(
            f"give either {word} or {name}_h and {name}_w, got {', '.join(given)}"
        )
    return tuple(getattr(param, field) for field in fields)


def _per_axis(what: str, values: Sequence[int], num_axes: int, default: int) -> tuple[int, ...]:
    if len(values) not in (0, 1, num_axes):
        raise LayerParamError(
            f"{what} takes one value or one per spatial axis ({num_axes}), got {list(values)}"
        )
    if len(values) == num_axes:
        return tuple(values)
    return (values[0] if values else default,) * num_axes
