"""A job for a detector: which pictures, where the results go, and the run.

Results go into a folder of their own, which carries a mark (`sources.RESULTS_MARK`): a folder with
pictures is never written to, and results are never taken for pictures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import cv2

from caffe_ssd.data.video import open_video
from caffe_ssd.errors import CaffeError, DataError, FileError, UsageError
from caffe_ssd.files import atomic_write
from caffe_ssd.scoring.detections import Detections
from caffe_ssd.scoring.detector import Detector
from caffe_ssd.scoring.found_files import Add, check_names, open_format, open_json
from caffe_ssd.scoring.found_pictures import VIDEO_CODES, DrawnPictures, make_folder
from caffe_ssd.scoring.reading import Named, OnFault, pictures_of
from caffe_ssd.scoring.sources import RESULTS_MARK, Camera, Item, PictureFile, VideoFile, is_marked

Shard = tuple[int, int]
Looked = tuple[Named, Detections]

DEFAULT_FOLDER = "detections"

_MARK_TEXT = "Results of `caffe detect`: pictures in this folder are not looked at again.\n"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be looked at.

    Args:
        items: pictures, videos and cameras.
        places: of each item, below a folder of results; no two are the same.
        shard: (i, n) where this is the i-th of n parts.
    """

    items: tuple[Item, ...]
    places: Mapping[Item, Path]
    shard: Shard | None = None

    @property
    def is_endless(self) -> bool:
        """Whether somebody has to stop it."""
        return any(isinstance(item, Camera) for item in self.items)

    def num_pictures(self) -> int | None:
        """Pictures and frames, as far as the videos say; None if there is no end."""
        if self.is_endless:
            return None
        return sum(_num_frames(item) for item in self.items)

    def name(self, item: Item, frame: int | None) -> str:
        """The name of a picture in files of results: its place without the ending."""
        place = self.places[item]
        return place.with_suffix("").as_posix() if frame is None else f"{place.as_posix()}/{frame}"


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where results go.

    Args:
        folder: for everything, made when it is needed; None where `file` is given.
        file: for the only picture or video.
        formats: of `found_files.FORMATS`, in the folder.
        json: a file of its own.
        has_pictures: whether to draw.
    """

    folder: Path | None
    file: Path | None = None
    formats: tuple[str, ...] = ()
    json: Path | None = None
    has_pictures: bool = True

    def __str__(self) -> str:
        written = [self.folder if self.has_pictures or self.formats else None, self.file, self.json]
        return " and ".join(str(path) for path in written if path is not None)


@dataclass
class Faults:
    """Pictures that could not be read; the others are looked at all the same."""

    tell: OnFault
    errors: list[CaffeError] = field(default_factory=list)

    def add(self, error: CaffeError) -> None:
        """Tell of one more."""
        self.errors.append(error)
        self.tell(error)

    def settle(self, num_read: int) -> None:
        """Fail if there were any.

        Raises:
            DataError: there were.
        """
        if self.errors:
            raise DataError(
                f"{len(self.errors)} of {len(self.errors) + num_read} pictures could not be read, "
                f"as {self.errors[0]}"
            )


def plan_job(items: Iterable[Item], *, shard: Shard | None = None) -> Job:
    """Decide what is looked at, and where each result goes; makes no file.

    Args:
        items: files may be named twice, but are looked at once.
        shard: (i, n) for every n-th item from the i-th on, counted from 1.

    Raises:
        UsageError: the shard makes no sense, or there is nothing to do for it.
    """
    once = list(dict.fromkeys(_absolute(item) for item in items))
    places = _places(once)
    if shard is not None:
        index, count = shard
        if not 1 <= index <= count:
            raise UsageError(f"shard {index}/{count}: takes i/n with 1 <= i <= n")
        if any(isinstance(item.named, Camera) for item in once):
            raise UsageError("what a camera shows cannot be cut into shards")
        once = once[index - 1 :: count]
        if not once:
            raise UsageError(f"shard {index}/{count} is empty: there are fewer pictures than parts")
    named = tuple(item.named for item in once)
    return Job(items=named, places={item.named: places[item] for item in once}, shard=shard)


def plan_output(
    job: Job,
    output: str | None,
    *,
    formats: tuple[str, ...] = (),
    json: str | None = None,
    has_pictures: bool = True,
) -> Output:
    """Decide where results go; makes no file.

    Args:
        job: the pictures.
        output: a folder, or a file for a single picture or video; None for a new folder here.
        formats: of `found_files.FORMATS`.
        json: see `Output`.
        has_pictures: see `Output`.

    Raises:
        UsageError: results would go where they must not.
    """
    check_names(formats, [job.name(item, None) for item in job.items])
    folder = Path(output) if output is not None else _new_folder(Path(DEFAULT_FOLDER))
    file = None
    if output is not None and len(job.items) == 1 and folder.suffix and not folder.is_dir():
        file = _checked_file(folder, job.items[0])
        if formats:
            raise UsageError(f"output {output} is a file; formats need a folder")
    elif output is not None and (has_pictures or formats):
        _check_folder(folder, job)
    return Output(
        folder=folder if file is None else None,
        file=file,
        formats=formats,
        json=None if json is None else Path(json),
        has_pictures=has_pictures,
    )


def run_job(
    detector: Detector,
    job: Job,
    output: Output,
    *,
    names: Mapping[int, str] | None = None,
    tell_fault: OnFault,
    watch: Callable[[Iterator[Looked]], Iterator[Looked]],
) -> Faults:
    """Look at all pictures and write what is found: decoding, net and encoding at the same time.

    A job without end is ended by an interrupt, and its results are kept.

    Args:
        detector: looks.
        job: at these.
        output: where results go.
        names: of classes in files of results, by label; None for numbers.
        tell_fault: is told of pictures that cannot be read.
        watch: yields what it is given, and shows it.

    Returns:
        The pictures that could not be read; `Faults.settle` fails for them.

    Raises:
        CaffeError: nothing can be found or written.
    """
    faults = Faults(tell_fault)
    with ExitStack() as stack:
        adds = _open_files(job, output, names or {}, stack)
        drawn = _drawn(job, output, detector.batch)
        if drawn is not None:
            stack.enter_context(drawn)
        pictures = pictures_of(job.items, ahead=detector.batch, on_fault=faults.add)
        try:
            for named, found in watch(detector.look(pictures)):
                for add in adds:
                    add(found, job.name(named.item, named.frame))
                if drawn is not None:
                    drawn.add(named, found)
        except KeyboardInterrupt:
            if not job.is_endless:
                raise
    return faults


def _open_files(job: Job, output: Output, names: Mapping[int, str], stack: ExitStack) -> list[Add]:
    """Open the files for other programs; `stack` closes them."""
    opened = []
    if output.folder is not None and (output.formats or output.has_pictures):
        _mark(output.folder)
        part = "" if job.shard is None else f"-{job.shard[0]}-of-{job.shard[1]}"
        stem = output.folder / f"detections{part}"
        opened = [open_format(kind, stem, names) for kind in output.formats]
    if output.json is not None:
        opened.append(open_json(output.json))
    return [stack.enter_context(each) for each in opened]


def _drawn(job: Job, output: Output, ahead: int) -> DrawnPictures | None:
    if not output.has_pictures:
        return None

    def target(item: Item) -> Path:
        if output.folder is None:
            assert output.file is not None
            return output.file
        return output.folder / _drawn_name(job.places[item], item)

    return DrawnPictures(target, ahead=ahead)


def _drawn_name(place: Path, item: Item) -> Path:
    """The place with an ending that can be written."""
    ending = place.suffix.lower()
    if isinstance(item, PictureFile):
        can_write = bool(ending) and cv2.haveImageWriter(place.name)
        return place if can_write else place.with_name(f"{place.name}.png")
    return place if ending in VIDEO_CODES else place.with_name(f"{place.name}.mp4")


@dataclass(frozen=True)
class _Absolute:
    """An item, told apart by where it is rather than by how it was named."""

    where: str
    named: Item = field(compare=False)


def _absolute(item: Item) -> _Absolute:
    if isinstance(item, Camera):
        return _Absolute(f"camera{item.number}", item)
    assert isinstance(item, PictureFile | VideoFile)
    return _Absolute(os.path.abspath(item.path), item)


def _places(items: list[_Absolute]) -> dict[_Absolute, Path]:
    """Where results go: as the files lie below the folder that holds all of them."""
    folders = [os.path.dirname(each.where) for each in items if os.path.isabs(each.where)]
    base = os.path.commonpath(folders) if folders else ""
    return {
        each: Path(os.path.relpath(each.where, base) if os.path.isabs(each.where) else each.where)
        for each in items
    }


def _num_frames(item: Item) -> int:
    if not isinstance(item, VideoFile):
        return 1
    try:
        capture = open_video(os.fspath(item.path))
    except DataError:  # which is told when its turn comes
        return 1
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return max(count, 1)


def _new_folder(path: Path) -> Path:
    """A folder that is not there yet: detections, detections-2, ..."""
    number, chosen = 1, path
    while chosen.exists():
        number += 1
        chosen = path.with_name(f"{path.name}-{number}")
    return chosen


def _mark(folder: Path) -> None:
    make_folder(folder)
    if not is_marked(folder):
        atomic_write(folder / RESULTS_MARK, _MARK_TEXT)


def _check_folder(folder: Path, job: Job) -> None:
    files = [item.path for item in job.items if isinstance(item, PictureFile | VideoFile)]
    if folder.resolve() in {path.parent.resolve() for path in files}:
        raise UsageError(
            f"output {folder} is where pictures are read from; results need a folder of their own"
        )
    if folder.is_dir() and not is_marked(folder) and any(folder.iterdir()):
        raise UsageError(
            f"output {folder} holds other files; results need a folder of their own, as "
            f"{folder / DEFAULT_FOLDER}"
        )
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output {folder} is a file; results of several pictures need a folder")


def _checked_file(path: Path, item: Item) -> Path:
    if not isinstance(item, PictureFile):
        if path.suffix.lower() not in VIDEO_CODES:
            known = ", ".join(VIDEO_CODES)
            raise UsageError(f"output {path}: no video format for {path.suffix!r}; known: {known}")
    elif not cv2.haveImageWriter(path.name):
        raise UsageError(f"output {path}: no picture format for {path.suffix!r}; try .png")
    if isinstance(item, PictureFile | VideoFile) and path.resolve() == item.path.resolve():
        raise UsageError(f"output {path} would replace a picture that is to be read")
    if path.parent.exists() and not path.parent.is_dir():
        raise FileError(f"Could not make folder {path.parent}: there is such a file")
    return path
