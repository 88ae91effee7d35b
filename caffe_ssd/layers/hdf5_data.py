"""HDF5Data: batches of rows of the HDF5 files that a text file lists.

Spec: caffe-layers.md section H.
Quirk: batches run on across the ends of files; a file is loaded whole.
Quirk: shuffle permutes the files, and the rows within each; the order is not the reference's, which
comes from the C library.

In training on several devices rank r of k takes the batches r, r + k, ...; with shuffle each
process orders them by itself, as nothing that they share is random.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caffe_ssd.errors import DataError, LayerParamError
from caffe_ssd.files import read_text
from caffe_ssd.hdf5 import member, open_hdf5, read_numbers
from caffe_ssd.layers.registry import AT_LEAST_ONE, LayerSpec, Shape, SourceLayer, register_layer
from caffe_ssd.random import CaffeRandom
from caffe_ssd.startup import Later

if TYPE_CHECKING:
    import h5py
else:
    h5py = Later("h5py")

_Rows = list[NDArray[np.float32]]


class HDF5Data(SourceLayer):
    """The layer; each top is made of rows of the dataset that has its name.

    Args:
        files: HDF5 files.
        names: of the datasets.
        batch_size: rows per forward.
        seed: of the order of files and rows; None keeps them as they are.
        rank: which of `world_size` layers this is.
        world_size: layers that share the batches.

    Raises:
        FileError, DataError: the first file cannot be used.
    """

    def __init__(
        self,
        *,
        files: Sequence[str],
        names: Sequence[str],
        batch_size: int,
        seed: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        super().__init__()
        self.files = tuple(files)
        self.names = tuple(names)
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self._foreign_batches = rank  # those of other devices before the next one
        self.seek(0)

    def top_shapes(self, *bottoms: Shape) -> tuple[Shape, ...]:
        return tuple((self.batch_size, *rows.shape[1:]) for rows in self._rows)

    def forward(self) -> Tensor | tuple[Tensor, ...]:
        self._skip(self._foreign_batches)
        self._foreign_batches = self.world_size - 1
        parts = []
        missing = self.batch_size
        while missing:
            taken = self._take(missing)
            parts.append(taken)
            missing -= len(taken[0])
        try:
            tops = tuple(
                torch.from_numpy(np.concatenate(rows)) for rows in zip(*parts, strict=True)
            )
        except ValueError as error:
            raise DataError(f"the files' rows have different shapes: {error}") from error
        return tops if len(tops) > 1 else tops[0]

    def seek(self, batch: int) -> None:
        self._rng = None if self.seed is None else CaffeRandom(self.seed)
        self._order: list[object] = list(self.files)
        self._begin_pass()
        self._foreign_batches = batch * self.world_size + self.rank

    def _skip(self, batches: int) -> None:
        missing = batches * self.batch_size
        while missing:
            missing -= len(self._take(missing)[0])

    def _begin_pass(self) -> None:
        if self._rng is not None:
            self._rng.shuffle(self._order)
        self._load(0)

    def _load(self, file: int) -> None:
        self._file, self._row = file, 0
        self._rows = _read_rows(str(self._order[file]), self.names)
        if self._rng is not None:
            order: list[object] = list(range(len(self._rows[0])))
            self._rng.shuffle(order)
            self._rows = [rows[np.array(order, np.intp)] for rows in self._rows]

    def _take(self, most: int) -> _Rows:
        """The next rows of the current file, at most so many."""
        if self._row == len(self._rows[0]):
            if self._file + 1 < len(self.files):
                self._load(self._file + 1)
            else:
                self._begin_pass()
        taken = [rows[self._row : self._row + most] for rows in self._rows]
        self._row += len(taken[0])
        return taken


def _read_rows(path: str, names: Sequence[str]) -> _Rows:
    """The datasets of a file, float32, with equally many rows.

    Raises:
        FileError: it cannot be opened.
        DataError: a dataset is missing, not numeric or empty, or they have different numbers of
            rows.
    """
    with open_hdf5(path) as file:
        rows = [_read_dataset(file, name, path) for name in names]
    counts = [len(values) for values in rows]
    if min(counts) < 1 or len(set(counts)) > 1:
        raise DataError(
            f"{path}: datasets {', '.join(names)} must have equally many rows, at least one, "
            f"got {counts}"
        )
    return rows


def _read_dataset(file: h5py.File, name: str, path: str) -> NDArray[np.float32]:
    dataset = member(file, name)
    if not isinstance(dataset, h5py.Dataset):
        raise DataError(f"{path}: there is no dataset {name!r}; it has {', '.join(sorted(file))}")
    if dataset.shape is None or dataset.dtype.kind not in "fiu" or dataset.ndim == 0:
        raise DataError(
            f"{path}: dataset {name!r} must hold rows of numbers, got type {dataset.dtype} and "
            f"shape {dataset.shape}"
        )
    return read_numbers(dataset)


@register_layer("HDF5Data", bottoms=0, tops=AT_LEAST_ONE)
def _build(spec: LayerSpec) -> HDF5Data:
    if spec.param.HasField("transform_param"):
        raise LayerParamError("transform_param does not apply to HDF5Data")
    param = spec.param.hdf5_data_param
    if param.batch_size < 1:
        raise LayerParamError(f"batch_size must be positive, got {param.batch_size}")
    if h5py.is_hdf5(param.source):
        raise DataError(
            f"source {param.source!r} is an HDF5 file; it must be a text file that lists HDF5 files"
        )
    files = read_text(param.source, errors="surrogateescape").split()
    if not files:
        raise DataError(f"{param.source}: lists no HDF5 files")
    runtime = spec.runtime
    # The reference's order takes nothing from the net's stream, which later layers draw from.
    seed = deepcopy(runtime.rng).word() if param.shuffle else None
    return HDF5Data(
        files=files,
        names=list(spec.param.top),
        batch_size=param.batch_size,
        seed=seed,
        rank=runtime.rank if spec.is_train else 0,
        world_size=runtime.world_size if spec.is_train else 1,
    )
