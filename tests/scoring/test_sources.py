"""What may be named as a source of pictures, and how pictures are read."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_ssd.errors import DataError, FileError, UsageError
from caffe_ssd.scoring import reading
from caffe_ssd.scoring.reading import Named, pictures_of
from caffe_ssd.scoring.sources import (
    RESULTS_MARK,
    Camera,
    PictureFile,
    VideoFile,
    items_of,
    listed_items,
    picture_files,
)
from tests.data.databases import picture
from tests.support.videos import write_video


def names(source: object) -> list[str]:
    return [str(item.path) for item in items_of(source)]  # type: ignore[arg-type, union-attr]


def frames_of(path: str, ahead: int = 3) -> list[Named]:
    return list(pictures_of(items_of(path), ahead=ahead))


ALL = ["pictures/a.png", "pictures/b.jpg", "pictures/more/c.png"]


def test_folders_and_globs_are_ordered_by_name(house: Path) -> None:
    assert names("pictures") == names(Path("pictures")) == ALL
    assert names("pictures/**/*.png") == [ALL[0], ALL[2]]
    assert names("pictures/*") == ALL[:2]  # neither the folder nor notes.txt
    assert names(["pictures/*.jpg", "pictures/a.png"]) == [ALL[1], ALL[0]]
    Path("odd[1].png").write_bytes(Path(ALL[0]).read_bytes())
    assert names("odd[1].png") == ["odd[1].png"]


def test_videos_and_cameras_are_told_by_their_names(house: Path) -> None:
    write_video("pictures/v.avi", [picture(seed=1)])
    Path("film").write_bytes(Path("pictures/v.avi").read_bytes())
    assert list(items_of("pictures"))[-1] == VideoFile(Path("pictures/v.avi"))
    assert list(items_of(["film", "0", 2])) == [VideoFile(Path("film")), Camera(0), Camera(2)]
    Path("7").write_bytes(Path(ALL[0]).read_bytes())
    assert list(items_of("7")) == [PictureFile(Path("7"))]
    assert picture_files(Path("pictures")) == [Path(name) for name in ALL]


def test_lists(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative to the working folder or to the list; second columns and blank lines are passed."""
    Path("pictures/in a b.png").write_bytes(Path(ALL[0]).read_bytes())
    text = "pictures/b.jpg\n\nmore/c.png 3\na.png Annotations/a.xml\nin a b.png\nmore\n"
    Path("pictures/list.txt").write_text(text)
    want = [ALL[1], ALL[2], ALL[0], "pictures/in a b.png", ALL[2]]
    assert names("pictures/list.txt") == want
    Path("pictures/unusual.name").write_text(text)
    listed = listed_items("pictures/unusual.name")
    assert [str(item.path) for item in listed] == want  # type: ignore[union-attr]
    monkeypatch.setattr(sys, "stdin", io.StringIO("pictures/a.png\npictures/*.jpg\n"))
    assert names("-") == ALL[:2]


def test_results_are_never_read(house: Path) -> None:
    for folder in ("pictures/found", "pictures/more/again"):
        Path(folder, "deep").mkdir(parents=True)
        Path(folder, RESULTS_MARK).touch()
        for name in ("x.png", "deep/y.png"):
            Path(folder, name).write_bytes(Path(ALL[0]).read_bytes())
    assert names("pictures") == ALL
    assert names("pictures/**/*.png") == [ALL[0], ALL[2]]
    with pytest.raises(FileError, match="no picture or video has such a name"):
        names("pictures/found/*.png")
    with pytest.raises(UsageError, match="folder pictures/found holds results"):
        names("pictures/found")
    assert names("pictures/found/x.png") == ["pictures/found/x.png"]  # by its own name


def test_what_is_no_source(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("empty").mkdir()
    Path("none.txt").write_text("\n")
    Path("gone.txt").write_text("pictures/a.png\nnowhere.png 1\n")
    for source, kind, message in (
        ("gone.jpg", FileError, r"gone\.jpg: No such file"),
        ("gone*.jpg", FileError, r"gone\*\.jpg: no picture or video"),
        ("empty", FileError, "folder empty holds no picture and no video"),
        ("none.txt", DataError, r"none\.txt: an empty list"),
        ("gone.txt", FileError, r"gone\.txt:2: 'nowhere\.png 1': No such file"),
        ([True], DataError, "source 0 is neither .* of type bool"),
    ):
        with pytest.raises(kind, match=message):
            names(source)


def test_frames_come_in_order_with_numbers_and_rate(house: Path) -> None:
    frames = [np.full((48, 64, 3), 20 * i, np.uint8) for i in range(7)]
    write_video("v.avi", frames, rate=5)
    for ahead in (0, 3, 20):
        stream = list(pictures_of(items_of(["pictures", "v.avi", "pictures/a.png"]), ahead=ahead))
        assert [named.name for named in stream] == [*ALL, *["v.avi"] * 7, ALL[0]]
        video = stream[3:-1]
        assert [named.frame for named in video] == list(range(7))
        assert {named.rate for named in video} == {5.0}
        for named, frame in zip(video, frames, strict=True):
            assert abs(named.picture.astype(int) - frame).max() <= 3
        assert stream[0].frame is None


def test_damaged_videos(house: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_video("v.avi", [picture(48, 64, seed=i) for i in range(20)])
    data = Path("v.avi").read_bytes()
    Path("cut.avi").write_bytes(data[: len(data) // 2])
    Path("junk.avi").write_bytes(b"no video" * 40)
    read = frames_of("cut.avi")
    assert 0 < len(read) < 20
    for named, whole in zip(read, frames_of("v.avi"), strict=False):
        assert np.array_equal(named.picture, whole.picture)
    with pytest.raises(DataError, match=r"'junk\.avi' cannot be opened"):
        frames_of("junk.avi")
    with pytest.raises(DataError, match="camera 93 cannot be opened"):
        next(pictures_of([Camera(93)], ahead=1))


def test_a_video_that_ends_early_is_told(
    house: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Capture:
        def __init__(self) -> None:
            self.left = 2

        def read(self) -> tuple[bool, np.ndarray]:
            self.left -= 1
            return self.left >= 0, picture()

        def get(self, what: int) -> float:
            return 9.0 if what == cv2.CAP_PROP_FRAME_COUNT else 10.0

        def release(self) -> None:
            pass

    monkeypatch.setattr(reading, "open_video", lambda path: Capture())
    assert len(list(pictures_of([VideoFile(Path("v.avi"))], ahead=4))) == 2
    assert "v.avi: 2 frames could be read of the 9 that it states" in caplog.text


def test_faults_are_told_in_their_turn(house: Path) -> None:
    Path("broken.jpg").write_bytes(b"no picture")
    told: list[str] = []
    stream = pictures_of(
        items_of(["pictures/a.png", "broken.jpg", "pictures/b.jpg", "gone.jpg"]),
        ahead=9,
        on_fault=lambda error: told.append(str(error)),
    )
    assert [next(stream).name, next(stream).name] == ALL[:2]
    assert len(told) == 1
    assert told[0].startswith("broken.jpg: ")
    with pytest.raises(FileError, match=r"gone\.jpg"):
        next(stream)
