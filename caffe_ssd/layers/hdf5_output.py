"""HDF5Output: write two bottoms into an HDF5 file, as datasets `data` and `label`.

Spec: caffe-layers.md section H.
Quirk: the datasets exist after the first forward, so a second one fails.
Quirk: both are written with 4 axes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from caffe_ssd.errors import FileError, LayerError, LayerParamError, ShapeError
from caffe_ssd.layers.registry import Layer, LayerSpec, Shape, register_layer
from caffe_ssd.startup import Later

if TYPE_CHECKING:
    import h5py
else:
    h5py = Later("h5py")

NAMES = ("data", "label")


class HDF5Output(Layer):
    """The layer; it has no tops.

    Args:
        file_name: the file, which is replaced.
    """

    can_repeat = False  # it writes a file

    def __init__(self, *, file_name: str) -> None:
        super().__init__()
        self.file_name = file_name
        self._is_written = False

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        data, label = bottoms
        if max(len(data), len(label)) > 4 or data[:1] != label[:1]:
            raise ShapeError(
                f"bottoms must have at most 4 axes and equally many items, "
                f"got {list(data)} and {list(label)}"
            )
        return ()

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        if self._is_written:
            raise LayerError(f"{self.file_name} has its datasets already; they are written once")
        try:
            with h5py.File(self.file_name, "w") as file:
                for name, bottom in zip(NAMES, bottoms, strict=True):
                    values = bottom.detach().cpu().float().numpy()
                    file[name] = values.reshape(values.shape + (1,) * (4 - values.ndim))
        except OSError as error:
            raise FileError(f"cannot write HDF5 file {self.file_name!r}: {error}") from error
        self._is_written = True
        return ()


@register_layer("HDF5Output", bottoms=2, tops=0, has_backward=False)
def _build(spec: LayerSpec) -> HDF5Output:
    param = spec.param.hdf5_output_param
    if not param.file_name:
        raise LayerParamError("file_name is missing")
    layer = HDF5Output(file_name=param.file_name)
    layer.top_shapes(*spec.bottoms)
    return layer
