"""Detection in parts: every picture once in the results, whatever happens on the way."""

from __future__ import annotations

import io
import json
import runpy
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import cv2
import pytest

from caffe_ssd import Detector
from caffe_ssd.errors import CaffeError, DataError, FileError, UsageError
from caffe_ssd.files import temporary_name
from caffe_ssd.scoring.part_plan import (
    FilesPart,
    LmdbPart,
    TarPart,
    kind_of,
    open_plan,
    part_from,
)
from caffe_ssd.scoring.part_work import MOST_TRIES, do_part, look_at, read_part, write_entries
from caffe_ssd.scoring.reading import Named
from tests.data.databases import picture

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples/scale/detect_ray.py"


@pytest.fixture
def detector(house: Path) -> Detector:
    return Detector(
        "deploy.prototxt", "w.caffemodel", labels="labels.prototxt", engine="none", threshold=0.36
    )


def plan_of(*sources: str, size: int = 2, folder: str = "out", **settings: Any):
    return open_plan(Path(folder), sources, size=size, format="jsonl", settings=settings)


def shard(path: str, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w:gz" if path.endswith("gz") else "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def png(seed: int) -> bytes:
    return cv2.imencode(".png", picture(seed=seed))[1].tobytes()


def entries(folder: str) -> list[dict[str, Any]]:
    """All results, in the order of the parts."""
    files = sorted(Path(folder).glob("part-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_files_of_all_sources_fill_parts_in_order_and_none_comes_twice(house: Path) -> None:
    plan = plan_of("pictures", "pictures/a.png", size=2)
    names = [str(house / "pictures" / name) for name in ("a.png", "b.jpg", "more/c.png")]
    assert plan.parts == (FilesPart((names[0], names[1])), FilesPart((names[2],)))
    Path("list.txt").write_text("pictures/b.jpg\npictures/a.png\n")
    listed = plan_of("list.txt", "pictures/more", folder="other")
    assert listed.parts == (FilesPart((names[1], names[0])), FilesPart((names[2],)))


def test_shards_are_parts_and_databases_are_cut(house: Path) -> None:
    Path("shards").mkdir()
    for name in ("1.tar", "0.tar.gz"):
        shard(f"shards/{name}", {"x.png": png(1)})
    plan = plan_of("shards", "shards/1.tar", "lmdb", size=3)
    shards = [TarPart(str(house / "shards" / name)) for name in ("0.tar.gz", "1.tar", "1.tar")]
    lmdb = str(house / "lmdb")
    cuts = [LmdbPart(lmdb, 0, 3), LmdbPart(lmdb, 3, 6), LmdbPart(lmdb, 6, 7)]
    assert list(plan.parts) == [*shards, *cuts]
    assert [kind_of(plan.parts[i]) for i in (0, 3)] == ["tar", "lmdb"]


@pytest.mark.parametrize("part", [FilesPart(("a", "b")), TarPart("x.tar"), LmdbPart("db", 3, 9)])
def test_a_plan_keeps_its_parts(part) -> None:
    entry = json.loads(json.dumps({"kind": kind_of(part), **vars(part)}))
    assert part_from(entry) == part


def test_going_on_keeps_the_plan_and_does_what_is_missing(house: Path, detector: Detector) -> None:
    plan = plan_of("pictures", threshold=0.36)
    assert plan.missing() == [0, 1]
    do_part(detector, plan, 1)
    left = temporary_name(plan.result(0)).with_name(".part-0000000.jsonl.0123abcd-1-0.tmp")
    left.write_text("half")
    cv2.imwrite("pictures/new.png", picture(seed=9))
    again = plan_of("pictures", threshold=0.36)
    assert again.parts == plan.parts
    assert again.missing() == [0]
    assert left.exists()  # another machine's
    do_part(detector, again, 0)
    assert again.missing() == []
    names = [Path(entry["image"]).name for entry in entries("out")]
    assert names == ["a.png", "b.jpg", "c.png"]


def test_results_are_those_of_the_detector_and_doing_a_part_twice_changes_nothing(
    house: Path, detector: Detector
) -> None:
    plan = plan_of("pictures", size=3)
    done = do_part(detector, plan, 0)
    first = plan.result(0).read_bytes()
    assert do_part(detector, plan, 0) == done
    assert plan.result(0).read_bytes() == first
    found = [found.to_dict() for _, found in detector.stream("pictures")]
    for mine, want in zip(entries("out"), found, strict=True):
        want["image"] = str(house / want["image"])
        assert mine == json.loads(json.dumps(want))
    assert done == (3, 0, sum(len(each["detections"]) for each in found))
    assert done.objects > 0


def test_a_picture_that_cannot_be_read_has_an_entry(house: Path, detector: Detector) -> None:
    Path("pictures/aa.jpg").write_bytes(b"junk")
    plan = plan_of("pictures", size=10)
    Path("pictures/b.jpg").unlink()
    assert do_part(detector, plan, 0)[:2] == (4, 2)
    by_name = {Path(entry["image"]).name: entry for entry in entries("out")}
    assert "aa.jpg: cannot be decoded as an image (4 bytes)" in by_name["aa.jpg"]["error"]
    assert "No such file" in by_name["b.jpg"]["error"]
    assert "error" not in by_name["a.png"]


def test_the_same_pictures_from_all_kinds_of_sources(house: Path) -> None:
    """A tar file, packed or not, gives what the files give; other members are passed over."""
    data = {name: Path("pictures", name).read_bytes() for name in ("a.png", "more/c.png")}
    files = list(read_part(FilesPart(tuple(f"pictures/{name}" for name in data)), ahead=1))
    for name in ("s.tar", "s.tar.gz"):
        shard(name, {"a.json": b"{}", **data})
        packed = list(read_part(TarPart(name), ahead=3))
        assert [each.name for each in packed] == [f"{name}/{member}" for member in data]
        for one, other in zip(packed, files, strict=True):
            assert isinstance(one, Named)
            assert isinstance(other, Named)
            assert (one.picture == other.picture).all()
    records = list(read_part(LmdbPart("lmdb", 2, 5), ahead=2))
    assert len(records) == 3
    assert all(isinstance(each, Named) and each.picture.shape[2] == 3 for each in records)
    assert len({each.name for each in records}) == 3


def test_a_damaged_shard_is_one_clear_error(house: Path, detector: Detector) -> None:
    shard("s.tar.gz", {f"{i}.png": png(i) for i in range(5)})
    whole = Path("s.tar.gz").read_bytes()
    for path, data, message in (
        ("cut.tar.gz", whole[: len(whole) // 2], "cut.tar.gz: cannot be read as a tar file"),
        ("junk.tar", b"junk" * 900, "junk.tar: cannot be read as a tar file"),
    ):
        Path(path).write_bytes(data)
        with pytest.raises(DataError, match=message):
            list(look_at(detector, TarPart(path)))
    with pytest.raises(FileError, match=r"Could not open file no\.tar: No such file"):
        list(look_at(detector, TarPart("no.tar")))
    with pytest.raises(DataError, match="has 7 records; the plan was made with more"):
        list(look_at(detector, LmdbPart("lmdb", 6, 8)))


def test_a_part_that_ends_its_workers_is_not_tried_for_ever(
    house: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of("pictures", size=10)
    with monkeypatch.context() as patch:
        patch.setattr(Detector, "find", lambda *_, **__: 1 / 0)  # as if it were gone
        for _ in range(MOST_TRIES):
            with pytest.raises(ZeroDivisionError):
                do_part(detector, plan, 0)
    with pytest.raises(DataError, match=f"was begun {MOST_TRIES} times and never ended"):
        do_part(detector, plan, 0)
    assert do_part(detector, plan_of("pictures", size=10), 0).pictures == 3  # started again
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "part-0000000.jsonl",
        "plan.json",
    ]


def test_other_settings_need_another_folder(house: Path) -> None:
    plan_of("pictures", threshold=0.5, model="a1")
    with pytest.raises(UsageError) as caught:
        plan_of("pictures", "lmdb", threshold=0.25, model="a1")
    lines = str(caught.value).splitlines()
    assert lines[0] == "out holds results that were made otherwise:"
    assert lines[1] == "  settings.threshold: 0.5 then, 0.25 now"
    assert lines[2].startswith("  sources: [")
    with pytest.raises(UsageError, match="pictures holds other files"):
        plan_of("lmdb", folder="pictures")
    for text in ("{", '{"version": 1}', '{"version": 9, "parts": []}', "[]", "\xff"):
        Path("out/plan.json").write_text(text, encoding="latin-1")
        with pytest.raises(DataError, match="is no plan"):
            plan_of("pictures", threshold=0.5, model="a1")


@pytest.mark.parametrize(
    ("source", "error"),
    [("nothing", FileError), ("labels.prototxt", None), ("empty", CaffeError)],
)
def test_sources_without_pictures_leave_no_folder(house: Path, source: str, error) -> None:
    Path("empty").mkdir()
    if error is None:  # it is no picture, which is found when it is looked at
        assert len(plan_of(source).parts) == 1
        return
    with pytest.raises(error):
        plan_of(source)
    assert not Path("out").exists()


def test_parquet_holds_what_the_lines_hold(house: Path, detector: Detector) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    Path("pictures/aa.jpg").write_bytes(b"junk")
    plan = plan_of("pictures", size=10)
    found = list(look_at(detector, plan.parts[0]))
    write_entries(Path("x.parquet"), "parquet", found)
    rows = parquet.read_table("x.parquet").to_pylist()
    assert [row["image"] for row in rows] == [each["image"] for each in found]
    for row, each in zip(rows, found, strict=True):
        assert row["error"] == each.get("error")
        objects = each.get("detections", [])
        assert (row["label"] or []) == [one["label"] for one in objects]
        assert (row["score"] or []) == pytest.approx([one["score"] for one in objects])
        assert (row["box_px"] or []) == [list(one["box_px"]) for one in objects]


FLAGS = ["--model=deploy.prototxt", "--weights=w.caffemodel", "--output=out", "--engine=none"]


def test_the_script_without_ray(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    Path("junk.tar").write_bytes(b"junk" * 900)
    arguments = ["pictures", "junk.tar", *FLAGS, "--workers=0", "--part-size=2"]
    assert main(arguments) == 1
    said = capsys.readouterr()
    assert "3 parts, 0 of them done" in said.out
    assert "1 of 3 parts are left; start again to try\n  part 1: " in said.err
    assert "junk.tar: cannot be read as a tar file" in said.err
    shard("junk.tar", {"x.png": png(3)})
    assert main(arguments) == 0
    assert "3 parts, 2 of them done" in capsys.readouterr().out
    assert len(entries("out")) == 4
    assert main([*arguments, "--threshold=0.1"]) == 2
    assert "settings.threshold: 0.5 then, 0.1 now" in capsys.readouterr().err
    assert main(arguments) == 0
    assert "3 parts, 3 of them done" in capsys.readouterr().out


def test_a_killed_run_goes_on(house: Path) -> None:
    """kill -9 of the process itself; nothing is lost and nothing comes twice."""
    Path("many").mkdir()
    for i in range(60):
        Path(f"many/{i:02}.png").write_bytes(png(i))
    command = [sys.executable, str(SCRIPT), "many", *FLAGS, "--workers=0", "--part-size=2"]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while len(list(Path().glob("out/part-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert 2 <= len(list(Path().glob("out/part-*"))) < 30
    assert runpy.run_path(str(SCRIPT))["main"](command[2:]) == 0
    names = [Path(entry["image"]).name for entry in entries("out")]
    assert names == [f"{i:02}.png" for i in range(60)]
    assert not list(Path("out").glob(".*"))
