"""The files of a data set's folder, and which picture an annotation means."""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath

from caffe_ssd.datasets.pictures import EXTENSIONS, PictureFile, look_at
from caffe_ssd.errors import DataError, FileError

RUN_NOTES = "fit.json"
"""Marks the folder of a training: it holds the pictures once more, not other pictures."""

_MOST_FILES = 5_000_000


class Folder:
    """Lists a folder once; links are followed, hidden files and folders are not looked at.

    Neither are folders that `caffe fit` wrote, which hold the same pictures and boxes again.

    Args:
        root: the folder.

    Raises:
        FileError: it is no folder, or cannot be listed.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)
        self.names = _listed(self.root)
        self.pictures = [name for name in self.names if _suffix(name) in EXTENSIONS]
        self._names = frozenset(self.names)
        self._by_name: dict[str, list[str]] = defaultdict(list)
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for name in self.pictures:
            self._by_name[PurePosixPath(name).name].append(name)
            self._by_stem[PurePosixPath(name).stem].append(name)

    def path(self, name: str) -> str:
        """The path of a file that is named relative to the root."""
        return str(self.root / name)

    def holds(self, name: str) -> bool:
        """Whether there is such a file, named relative to the root."""
        return name in self._names

    def ending(self, *suffixes: str) -> list[str]:
        """The files with one of these suffixes, in lower case with the dot."""
        return [name for name in self.names if _suffix(name) in suffixes]

    @cached_property
    def looks(self) -> dict[str, PictureFile]:
        """What each picture is; all are decoded the first time somebody asks."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            paths = map(self.path, self.pictures)
            return dict(zip(self.pictures, pool.map(look_at, paths), strict=True))

    def picture_named(self, reference: str, near: str) -> str | None:
        """The picture that an annotation file names.

        Args:
            reference: the name as it stands there; of a foreign path its end counts.
            near: the annotation file.

        Returns:
            Its name relative to the root; None if there is none, or several that fit equally well.
        """
        parts = [p for p in reference.replace("\\", "/").split("/") if p not in ("", ".", "..")]
        if not parts:
            return None
        return _closest(self._by_name.get(parts[-1], []), "/".join(parts), near)

    def picture_beside(self, annotation: str) -> str | None:
        """The picture with the same stem as an annotation file; see `picture_named`."""
        path = PurePosixPath(annotation)
        return _closest(self._by_stem.get(path.stem, []), path.stem, annotation)


def _closest(candidates: list[str], wanted: str, near: str) -> str | None:
    """The candidate that shares most of its path with what is wanted and with what is near."""
    if len(candidates) < 2:
        return candidates[0] if candidates else None
    home = PurePosixPath(near).parent

    def fit(name: str) -> tuple[int, int, int]:
        path = PurePosixPath(name)
        ours, theirs = path.parts[::-1], PurePosixPath(wanted).parts[::-1]
        tail = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), 99)
        shared = len(set(path.parent.parts) & set(home.parts))
        return tail, path.parent == home, shared - abs(len(path.parent.parts) - len(home.parts))

    ranked = sorted(candidates, key=fit, reverse=True)
    return ranked[0] if fit(ranked[0]) > fit(ranked[1]) else None


def _listed(root: Path) -> list[str]:
    if not root.is_dir():
        what = "is no folder" if root.exists() else "does not exist"
        raise FileError(f"{root} {what}; a folder with pictures and annotations is needed")
    names: list[str] = []
    seen: set[str] = set()
    try:
        for folder, folders, files in os.walk(root, followlinks=True, onerror=_raise):
            real = os.path.realpath(folder)
            if real in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            if RUN_NOTES in files and folder != os.fspath(root):
                folders.clear()
                continue
            start = Path(folder).relative_to(root).as_posix()
            prefix = "" if start == "." else f"{start}/"
            names += [_checked(prefix + file) for file in files if not file.startswith(".")]
            if len(names) > _MOST_FILES:
                raise DataError(f"{root} holds more than {_MOST_FILES} files; choose a folder")
    except OSError as error:
        raise FileError(f"Could not list the folder {root}: {error}") from error
    return sorted(names)


def _checked(name: str) -> str:
    """A name as it is; of a picture it must be text, as it goes into lists and annotations."""
    try:
        if _suffix(name) in EXTENSIONS:
            name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode(errors="backslashreplace")
        raise DataError(
            f"the name of the file {shown} is not UTF-8, which lists and annotations are written "
            "in; rename it"
        ) from None
    return name


def _raise(error: OSError) -> None:
    raise error


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()
