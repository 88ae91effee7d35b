"""Detection on very many pictures, cut into parts that any worker of any machine can do.

A plan is made once and kept in the folder of the results. Each part has one result file, which
appears whole or not at all; a part is done if its file is there. Nothing else is remembered, so a
worker may die at any time, a part may be done twice and a run may be started again: every picture
is in the results once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from caffe_ssd.data.records import LmdbSource
from caffe_ssd.errors import DataError, FileError, UsageError
from caffe_ssd.files import atomic_write, read_bytes, sweep
from caffe_ssd.scoring.sources import PictureFile, items_of

PLAN = "plan.json"
TAR_ENDINGS = (".tar", ".tar.gz", ".tgz")
FORMATS = ("jsonl", "parquet")

Settings: TypeAlias = Mapping[str, Any]

_VERSION = 1
_TRIES = ".tries-"


@dataclass(frozen=True)
class FilesPart:
    """Picture files."""

    paths: tuple[str, ...]


@dataclass(frozen=True)
class TarPart:
    """All pictures in a tar file, as WebDataset and others have them."""

    path: str


@dataclass(frozen=True)
class LmdbPart:
    """The records of an LMDB from one number to before another."""

    path: str
    start: int
    stop: int


Part: TypeAlias = FilesPart | TarPart | LmdbPart

_KINDS: dict[str, type[FilesPart] | type[TarPart] | type[LmdbPart]] = {
    "files": FilesPart,
    "tar": TarPart,
    "lmdb": LmdbPart,
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be done, and where its results go.

    Args:
        folder: of the plan and the results.
        parts: by their numbers.
        format: of `FORMATS`.
        settings: what the results depend on.
    """

    folder: Path
    parts: tuple[Part, ...]
    format: str
    settings: Settings

    def result(self, number: int) -> Path:
        """The file of a part's results."""
        return self.folder / f"part-{number:07d}.{self.format}"

    def tries(self, number: int) -> Path:
        """A file with a byte for every time that the part was begun and not ended."""
        return self.folder / f"{_TRIES}{number:07d}"

    def missing(self) -> list[int]:
        """The parts that are still to be done."""
        there = {path.name for path in self.folder.iterdir()}
        return [i for i in range(len(self.parts)) if self.result(i).name not in there]


def open_plan(
    folder: Path, sources: Sequence[str], *, size: int, format: str, settings: Settings
) -> Plan:
    """Make a plan, or go on with the one that is in the folder.

    A plan that is there is not made anew, so pictures that came since are not in it. What killed
    workers of this machine left half written is removed.

    Args:
        folder: of plan and results; made if there is none.
        sources: folders with pictures, pictures, lists of pictures (.txt), tar files, LMDBs, and
            globs of pictures.
        size: pictures in a part; a tar file is one part whatever it holds.
        format: of `FORMATS`.
        settings: what the results depend on, as numbers and texts.

    Raises:
        UsageError: the folder holds something else, or results of another plan.
        FileError: a source does not exist.
        DataError: a source holds no pictures.
    """
    if size < 1:
        raise UsageError(f"a part must have at least 1 picture, got {size}")
    if format not in FORMATS:
        raise UsageError(f"no format {format!r}; there are {', '.join(FORMATS)}")
    named = [str(Path(source).absolute()) for source in sources]
    asked = {"sources": named, "size": size, "format": format, "settings": dict(settings)}
    file = folder / PLAN
    if file.exists():
        parts = _read(file, json.loads(json.dumps(asked)))
        sweep(folder)
        for path in folder.glob(f"{_TRIES}*"):  # who starts again wants to try again
            path.unlink(missing_ok=True)
    else:
        if folder.is_dir() and any(folder.iterdir()):
            raise UsageError(
                f"output {folder} holds other files; results need a folder of their own"
            )
        parts = tuple(_cut(named, size))
        _make(folder)
        kept = [{"kind": kind_of(part), **asdict(part)} for part in parts]
        text = json.dumps({"version": _VERSION, **asked, "parts": kept}, ensure_ascii=False)
        atomic_write(file, text + "\n")
    return Plan(folder=folder, parts=parts, format=format, settings=settings)


def kind_of(part: Part) -> str:
    """The kind's name in a plan."""
    return next(name for name, kind in _KINDS.items() if isinstance(part, kind))


def part_from(entry: Mapping[str, Any]) -> Part:
    """A part of a plan as JSON has it.

    Raises:
        DataError: it is none.
    """
    fields = {name: value for name, value in entry.items() if name != "kind"}
    if "paths" in fields:
        fields["paths"] = tuple(fields["paths"])
    try:
        return _KINDS[entry["kind"]](**fields)
    except (KeyError, TypeError) as error:
        raise DataError(f"{entry} is no part of a plan") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"Could not make folder {folder}: {error.strerror}") from error


def _read(file: Path, asked: Mapping[str, Any]) -> tuple[Part, ...]:
    try:
        plan = json.loads(read_bytes(file))
        before = {name: plan[name] for name in asked}
        version, entries = plan["version"], plan["parts"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: is no plan of detections ({error})") from error
    if version != _VERSION:
        raise DataError(f"{file}: is a plan of version {version}; this program has {_VERSION}")
    changed = list(_changes(before, asked))
    if changed:
        lines = "\n  ".join(changed)
        raise UsageError(
            f"{file.parent} holds results that were made otherwise:\n  {lines}\n  "
            "Give the same sources and settings to go on, or another folder to start anew"
        )
    return tuple(part_from(entry) for entry in entries)


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], at: str = "") -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _changes(old, new, f"{at}{name}.")
        elif old != new:
            yield f"{at}{name}: {old} then, {new} now"


def _cut(sources: Iterable[str], size: int) -> Iterator[Part]:
    """Parts of all sources; files of several sources may share one."""
    waiting: list[str] = []
    seen: set[str] = set()
    for source in sources:
        for each in _parts_or_files(source, size):
            if not isinstance(each, str):
                yield each
            elif each not in seen:  # a picture that two sources name is looked at once
                seen.add(each)
                waiting.append(each)
            if len(waiting) == size:
                yield FilesPart(tuple(waiting))
                waiting = []
    if waiting:
        yield FilesPart(tuple(waiting))


def _parts_or_files(source: str, size: int) -> Iterator[Part | str]:
    path = Path(source)
    if path.is_dir() and (path / "data.mdb").exists():
        yield from _lmdb_parts(source, size)
    elif path.name.endswith(TAR_ENDINGS) and path.is_file():
        yield TarPart(source)
    elif path.is_dir() and (shards := _tar_files(path)):
        yield from map(TarPart, shards)
    else:
        for item in items_of(source):
            if not isinstance(item, PictureFile):
                raise DataError(f"{source}: only pictures can be cut into parts, no videos")
            yield str(item.path.absolute())


def _tar_files(folder: Path) -> list[str]:
    """The tar files in a folder that holds nothing but such."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    is_all = bool(files) and all(path.name.endswith(TAR_ENDINGS) for path in files)
    return [str(path) for path in files] if is_all else []


def _lmdb_parts(source: str, size: int) -> Iterator[LmdbPart]:
    count = len(LmdbSource(source))
    if count == 0:
        raise DataError(f"data source {source!r} has no records")
    for start in range(0, count, size):
        yield LmdbPart(source, start, min(start + size, count))
