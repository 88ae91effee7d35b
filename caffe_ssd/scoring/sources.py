"""Where pictures come from: files, folders, arrays; decoded ahead of their turn.

Pictures are (height, width, 3), BGR, 8 bits, as OpenCV has them.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from caffe_ssd.data.decode import read_picture
from caffe_ssd.errors import DataError, FileError

Picture: TypeAlias = NDArray[np.uint8]
Source: TypeAlias = str | os.PathLike[str] | NDArray[Any]
"""A picture file, a folder of them, or a picture."""

PICTURE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")

_THREADS = 4


class Named(NamedTuple):
    """A picture and the name of its source: the file, or `array N` counted from 0."""

    name: str
    picture: Picture


def pictures_of(sources: Source | Iterable[Source], *, ahead: int) -> Iterator[Named]:
    """Read pictures one after the other.

    Args:
        sources: one or more, also without end; a folder stands for all pictures below it, ordered
            by name. Sources are taken only `ahead` of what was asked for.
        ahead: how many pictures are decoded before they are asked for.

    Raises:
        FileError: a file cannot be opened, or a folder holds no picture.
        DataError: something is no picture; says which.
    """
    if isinstance(sources, str | os.PathLike | np.ndarray):
        sources = [sources]
    waiting = enumerate(_single(sources))
    with ThreadPoolExecutor(_THREADS) as pool:
        futures: deque[Future[Named]] = deque()
        try:
            while True:
                for index, source in islice(waiting, ahead + 1 - len(futures)):
                    futures.append(pool.submit(_load, source, index))
                if not futures:
                    return
                yield futures.popleft().result()
        finally:
            for future in futures:
                future.cancel()


def picture_files(folder: Path) -> list[Path]:
    """The pictures below a folder, ordered by name."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_ENDINGS)


def _single(sources: Iterable[Source]) -> Iterator[Source]:
    """The same with the files of folders in their places."""
    for source in sources:
        if isinstance(source, str | os.PathLike) and Path(source).is_dir():
            files = picture_files(Path(source))
            if not files:
                endings = ", ".join(PICTURE_ENDINGS)
                raise FileError(f"the folder {os.fspath(source)} holds no picture ({endings})")
            yield from files
        else:
            yield source


def _load(source: Source, index: int) -> Named:
    if isinstance(source, str | os.PathLike):
        return Named(os.fspath(source), read_picture(source).astype(np.uint8, copy=False))
    name = f"array {index}"
    if not isinstance(source, np.ndarray):
        raise DataError(
            f"source {index} is neither a path nor a numpy array, but of type "
            f"{type(source).__name__}"
        )
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
        shape = " x ".join(map(str, source.shape))
        raise DataError(
            f"{name} is no picture: it must be height x width x 3, BGR, uint8; it is {shape}, "
            f"{source.dtype}"
        )
    return Named(name, source)
