"""ImageData: batches of the image files that a text list names, and their classes.

Spec: caffe-layers.md section H, caffe-solver.md section 10 (shuffling).
Quirk: root_folder is put before a path as it is, so it must end in a slash.
Quirk: each pass shuffles the order of the pass before, not the list.
Quirk: the transformation fields inside image_data_param are ignored.

On several devices each process shuffles for itself, as nothing that they share is random; without
`shuffle` they deal the list's lines among them.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import cv2

from caffe_ssd.data.batches import BatchReader, LabelKind
from caffe_ssd.data.decode import ColorMode, decode_bytes, raw_datum
from caffe_ssd.data.loader import BatchLoader
from caffe_ssd.data.samples import Sample
from caffe_ssd.data.transform import Transform
from caffe_ssd.errors import CaffeError, DataError, LayerParamError
from caffe_ssd.files import read_bytes, read_text
from caffe_ssd.layers.data import RecordLayer, draw_transformer_seed
from caffe_ssd.layers.registry import LayerSpec, register_layer
from caffe_ssd.proto.caffe_pb2 import ImageDataParameter
from caffe_ssd.random import CaffeRandom


class ImageList:
    """The endless sequence of the list's lines, one pass after the other; a record source.

    Args:
        path: text file of lines `path label`; a path may contain blanks.
        seed: of the shuffling; None keeps the order of the file.
        skip: lines left out of the first pass.

    Raises:
        FileError: the list cannot be read.
        DataError: a line is wrong, or there are too few.
    """

    def __init__(self, path: str, *, seed: int | None = None, skip: int = 0) -> None:
        self.path = path
        self.seed = seed
        self.skip = skip
        self._lines = _read_lines(path)
        if skip >= len(self._lines):
            raise DataError(f"{path}: cannot skip {skip} of {len(self._lines)} images")
        self._start()

    def __len__(self) -> int:
        return sys.maxsize

    def first(self) -> bytes:
        """Record 0."""
        return self[0]

    def __getitem__(self, index: int) -> bytes:
        """The line of this record, `path label`."""
        return self._line(index).encode(errors="surrogateescape")

    def where(self, index: int) -> str:
        """The list and the line, for error messages."""
        return f"{self.path}: {self._line(index)!r}"

    def _line(self, index: int) -> str:
        wanted, position = divmod(index + self.skip, len(self._lines))
        if wanted < self._pass:
            self._start()
        while self._pass < wanted:
            self._next_pass()
        return str(self._order[position])

    def _start(self) -> None:
        self._rng = None if self.seed is None else CaffeRandom(self.seed)
        self._order: list[object] = list(self._lines)
        self._pass = -1
        self._next_pass()

    def _next_pass(self) -> None:
        if self._rng is not None:
            self._rng.shuffle(self._order)
        self._pass += 1


def _read_lines(path: str) -> list[str]:
    text = read_text(path, errors="surrogateescape")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line in lines:
        try:
            _, label = line.rsplit(maxsplit=1)
            int(label)
        except ValueError:
            raise DataError(f"{path}: line {line!r} is not `path label`") from None
    if not lines:
        raise DataError(f"{path}: lists no images")
    return lines


@dataclass(frozen=True, kw_only=True)
class ImageReader:
    """Reads the image that a line names.

    Args:
        root_folder: what is put before the path.
        height: to resize to, in pixels; 0 leaves the size.
        width: likewise; both or none.
        is_color: BGR rather than gray.
    """

    root_folder: str = ""
    height: int = 0
    width: int = 0
    is_color: bool = True

    def __call__(self, record: bytes) -> Sample:
        """The image, raw, with its class.

        Raises:
            DataError: the file is missing or no image.
        """
        name, label = record.decode(errors="surrogateescape").rsplit(maxsplit=1)
        path = self.root_folder + name
        if not os.path.isfile(path):
            raise DataError(f"names {path!r}, which is no file; check root_folder")
        mode = ColorMode.COLOR if self.is_color else ColorMode.GRAY
        try:
            image = decode_bytes(read_bytes(path), mode)
        except CaffeError as error:
            raise DataError(f"names {path!r}, which {error}") from None
        if self.height > 0:
            image = cv2.resize(image, (self.width, self.height))
        return Sample(datum=raw_datum(image, int(label)))


@register_layer("ImageData", bottoms=0, tops=2)
def _build(spec: LayerSpec) -> RecordLayer:
    param, runtime = spec.param.image_data_param, spec.runtime
    _check(param)
    transform = Transform.from_param(
        spec.param.transform_param, is_train=spec.is_train, augment=False
    )
    draw_transformer_seed(spec, transform)
    shuffle_seed = runtime.rng.word() if param.shuffle else None
    skip = runtime.rng.word() % param.rand_skip if param.rand_skip else 0
    draw_transformer_seed(spec, transform)
    reader = BatchReader(
        source=ImageList(param.source, seed=shuffle_seed, skip=skip),
        parse=ImageReader(
            root_folder=param.root_folder,
            height=param.new_height,
            width=param.new_width,
            is_color=param.is_color,
        ),
        transform=transform,
        label=LabelKind.CLASS,
        batch_size=param.batch_size,
        seed=runtime.rng.word(),
        rank=runtime.rank if spec.is_train else 0,
        world_size=runtime.world_size if spec.is_train else 1,
    )
    try:
        shape = transform.output_shape(reader.parse(reader.source.first()))
    except DataError as error:
        raise DataError(f"{reader.source.where(0)} {error}") from None
    loader = BatchLoader(reader, workers=runtime.data_workers)
    return RecordLayer(loader, ((param.batch_size, *shape), (param.batch_size,)))


def _check(param: ImageDataParameter) -> None:
    if not param.source:
        raise LayerParamError("image_data_param.source is not set; it names a list of images")
    if param.batch_size == 0:
        raise LayerParamError("image_data_param.batch_size must be > 0")
    if (param.new_height > 0) != (param.new_width > 0):
        raise LayerParamError(
            "image_data_param takes both new_height and new_width or none, "
            f"got {param.new_height} and {param.new_width}"
        )
