"""Jobs of a detector: where results go, in which forms, and what an engine is asked to prepare."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import caffe_ssd
from caffe_ssd.errors import CaffeError, DataError, NetError, ProtoError, UsageError
from caffe_ssd.evaluate.results import read_coco, read_voc
from caffe_ssd.scoring.detect_job import Job, Looked, Output, plan_job, plan_output, run_job
from caffe_ssd.scoring.sources import RESULTS_MARK, items_of
from tests.data.databases import picture
from tests.support.videos import read_video, write_video

NAMES = {0: "none", 1: "n1", 2: "n2"}


def made(**options: object) -> caffe_ssd.Detector:
    given: dict[str, object] = {"engine": "none", "scale": 1 / 64, "batch": 2}
    return caffe_ssd.Detector("deploy.prototxt", "w.caffemodel", **(given | options))  # type: ignore[arg-type]


def planned(*sources: str, shard: tuple[int, int] | None = None) -> Job:
    return plan_job(items_of(sources), shard=shard)


def places(job: Job) -> list[str]:
    return [str(job.places[item]) for item in job.items]


def done(job: Job, output: Output, detector: caffe_ssd.Detector | None = None) -> list[Looked]:
    """Run a job; what is found."""
    seen: list[Looked] = []

    def watch(looked: Iterator[Looked]) -> Iterator[Looked]:
        for each in looked:
            seen.append(each)
            yield each

    def tell(error: CaffeError) -> None:
        raise AssertionError(error)

    run_job(detector or made(), job, output, names=NAMES, tell_fault=tell, watch=watch)
    return seen


def files(folder: str) -> list[str]:
    found = (path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if path.name != RESULTS_MARK)


def test_places_keep_pictures_apart(house: Path) -> None:
    assert places(planned("pictures")) == ["a.png", "b.jpg", "more/c.png"]
    assert places(planned("pictures/a.png")) == ["a.png"]
    Path("other").mkdir()
    cv2.imwrite("other/a.png", picture())
    job = planned("pictures/a.png", "other", "./other/a.png", str(house / "pictures/a.png"))
    assert places(job) == ["pictures/a.png", "other/a.png"]  # each once
    assert [job.name(item, None) for item in job.items] == ["pictures/a", "other/a"]


def test_shards_are_the_whole(house: Path) -> None:
    whole = planned("pictures")
    parts = [planned("pictures", shard=(i, 2)) for i in (1, 2)]
    assert sorted(name for part in parts for name in places(part)) == places(whole)
    for part in parts:
        assert all(whole.places[item] == part.places[item] for item in part.items)
    with pytest.raises(UsageError, match="shard 5/9 is empty"):
        planned("pictures", shard=(5, 9))
    with pytest.raises(UsageError, match="shard 3/2"):
        planned("pictures", shard=(3, 2))
    with pytest.raises(UsageError, match=r"camera .* shards"):
        planned("0", shard=(1, 2))


def test_results_get_a_folder_of_their_own(house: Path) -> None:
    job = planned("pictures")
    for name in ("detections", "detections-2"):
        output = plan_output(job, None)
        assert output.folder == Path(name)
        done(job, output)
        assert files(name) == ["a.png", "b.jpg", "more/c.png"]
    assert places(planned(".")) == ["a.png", "b.jpg", "more/c.png"]  # results are passed over
    done(job, plan_output(job, "pictures/found"))
    done(job, plan_output(planned("pictures"), "pictures/found"))  # and may be written anew
    assert files("pictures/found") == ["a.png", "b.jpg", "more/c.png"]
    for output, message in (
        ("pictures", "is where pictures are read from"),
        ("pictures/more", "is where pictures are read from"),
        (".", "holds other files"),
        ("deploy.prototxt", "is a file; results of several pictures need a folder"),
    ):
        with pytest.raises(UsageError, match=message):
            plan_output(job, output)


def test_one_picture_or_video_may_go_to_a_file(house: Path) -> None:
    write_video("v.avi", [picture(seed=1)])
    one, video = planned("pictures/a.png"), planned("v.avi")
    done(one, plan_output(one, "new/drawn.jpg"))
    done(video, plan_output(video, "new/drawn.mp4"))
    assert files("new") == ["drawn.jpg", "drawn.mp4"]
    for job, output, message in (
        (one, "pictures/a.png", "would replace a picture"),
        (one, "x.txt", r"no picture format for '\.txt'"),
        (video, "x.png", r"no video format for '\.png'"),
        (video, "v.avi", "would replace"),
    ):
        with pytest.raises(UsageError, match=message):
            plan_output(job, output)
    with pytest.raises(UsageError, match="formats need a folder"):
        plan_output(one, "x.png", formats=("csv",))


def test_a_video_is_drawn_frame_by_frame(house: Path) -> None:
    frames = [cv2.resize(picture(4, 5, seed=i), (96, 64)) for i in range(5)]
    write_video("v.avi", frames, rate=12.5)
    job = planned("v.avi", "pictures/b.jpg")
    assert job.num_pictures() == 6
    looked = done(job, plan_output(job, "out"))
    assert [found.frame for _, found in looked] == [0, 1, 2, 3, 4, None]
    assert [found.place for _, found in looked[:2]] == ["v.avi frame 0", "v.avi frame 1"]
    assert files("out") == ["pictures/b.jpg", "v.avi"]
    drawn = read_video("out/v.avi")
    assert len(drawn) == 5
    for (named, found), frame in zip(looked[:5], drawn, strict=True):
        assert len(found) > 0
        drawn_here = found.draw(named.picture)
        assert cv2.norm(frame, drawn_here) < cv2.norm(frame, named.picture) / 2
    assert cv2.VideoCapture("out/v.avi").get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)


def test_every_format_says_the_same(house: Path) -> None:
    write_video("pictures/v.avi", [picture(48, 64, seed=i) for i in range(3)])
    job = planned("pictures")
    formats = ("jsonl", "csv", "coco", "voc")
    looked = done(job, plan_output(job, "out", formats=formats, json="all.json"))
    found = [found for _, found in looked]
    count = sum(map(len, found))
    assert len(found) == 6
    assert count > 6
    entries = [json.loads(line) for line in Path("out/detections.jsonl").read_text().splitlines()]
    assert entries == json.loads(Path("all.json").read_text())
    assert entries == json.loads(json.dumps([each.to_dict() for each in found]))
    assert entries[3]["image"] == "pictures/v.avi"
    assert [entry.get("frame") for entry in entries] == [None, None, None, 0, 1, 2]
    rows = list(csv.DictReader(Path("out/detections.csv").read_text().splitlines()))
    assert len(rows) == count
    first = found[0][0]
    assert (rows[0]["image"], rows[0]["frame"]) == ("pictures/a.png", "")
    assert float(rows[0]["score"]) == pytest.approx(first.score, abs=1e-5)
    assert round(float(rows[0]["xmax"])) == first.box_px[2]
    assert rows[-1]["frame"] == "2"
    coco = read_coco("out/detections.json")
    assert [each.image for each in coco[: len(found[0])]] == ["a"] * len(found[0])
    assert coco[-1].image == "v.avi/2"
    assert {each.category for each in coco} <= {"1", "2"}
    assert [each.score for each in coco] == pytest.approx([o.score for f in found for o in f])
    voc = [
        entry
        for name in ("n1", "n2")
        for entry in read_voc(f"out/detections_voc/comp4_det_test_{name}.txt", name)
    ]
    assert len(voc) == len(coco) == count
    assert files("out/detections_voc") == ["comp4_det_test_n1.txt", "comp4_det_test_n2.txt"]


def test_formats_know_pictures_without_endings(house: Path) -> None:
    cv2.imwrite("pictures/a.jpg", picture())
    job = planned("pictures")
    for kind in ("coco", "voc"):
        with pytest.raises(UsageError, match="'a' would stand for two of them"):
            plan_output(job, "out", formats=(kind,))
    plan_output(job, "out", formats=("csv", "jsonl"))
    Path("zeros").mkdir()
    for name in ("007.png", "7.png", "with space.png"):
        cv2.imwrite(f"zeros/{name}", picture())
    with pytest.raises(UsageError, match="'7' would stand for two"):
        plan_output(planned("zeros"), "out", formats=("coco",))
    with pytest.raises(UsageError, match="'with space'"):
        plan_output(planned("zeros"), "out", formats=("voc",))


def test_nothing_found_is_written_too(house: Path) -> None:
    job = planned("pictures")
    output = plan_output(job, "out", formats=("jsonl", "csv", "coco", "voc"), has_pictures=False)
    done(job, output, made(threshold=1.0))
    assert files("out") == [
        "detections.csv",
        "detections.json",
        "detections.jsonl",
        "detections_voc/comp4_det_test_n1.txt",
        "detections_voc/comp4_det_test_n2.txt",
    ]
    assert read_coco("out/detections.json") == []
    assert len(Path("out/detections.jsonl").read_text().splitlines()) == 3


def test_a_failed_job_leaves_no_half_files(house: Path) -> None:
    write_video("v.avi", [picture(48, 64, seed=i) for i in range(9)])
    job = planned("v.avi")

    def watch(looked: Iterator[Looked]) -> Iterator[Looked]:
        yield next(looked)
        yield next(looked)
        yield next(looked)
        raise DataError("enough")

    with pytest.raises(DataError, match="enough"):
        run_job(
            made(),
            job,
            plan_output(job, "out", formats=("csv",)),
            tell_fault=print,
            watch=watch,
        )
    assert files("out") == []


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_a_short_batch_is_filled_up_for_engines(house: Path, engine: str) -> None:
    """Engines prepare for every shape; found is what the plain net finds."""
    group = [picture(30 + i, 40, seed=i) for i in range(7)]
    detector = made(engine=engine, batch=3)
    assert detector._engine is not None
    quick = [found for _, found in detector.stream(group)]
    assert [shapes[0][0] for shapes in detector._engine._runners] == [3]
    plain = [found for _, found in made(batch=3).stream(group)]
    for have, want in zip(quick, plain, strict=True):
        np.testing.assert_allclose(have.box, want.box, atol=1e-4)
        np.testing.assert_allclose(have.score, want.score, atol=1e-5)
    detector.detect(group[0])  # but one picture alone stays alone
    assert [shapes[0][0] for shapes in detector._engine._runners] == [3, 1]


def test_wrong_files_are_told_apart(house: Path) -> None:
    def refusal(kind: type[CaffeError], model: str, weights: str = "w.caffemodel") -> str:
        with pytest.raises(kind) as caught:
            caffe_ssd.Detector(model, weights)
        return str(caught.value)

    swapped = refusal(ProtoError, "w.caffemodel", "deploy.prototxt")
    assert "w.caffemodel: a binary file" in swapped
    assert "deploy.prototxt is text: they seem to be swapped" in swapped
    assert "swapped" not in refusal(ProtoError, "w.caffemodel")
    assert "'data' (AnnotatedData), as in nets that are trained" in refusal(
        NetError, "test.prototxt"
    )
    Path("solver.prototxt").write_text('net: "test.prototxt" base_lr: 0.1')
    assert "the prototxt of a solver" in refusal(ProtoError, "solver.prototxt")
    Path("typo.prototxt").write_text("nett: 3")
    assert "no field named" in refusal(ProtoError, "typo.prototxt")


@pytest.mark.parametrize("threshold", [2, -0.1, float("nan")])
def test_thresholds_are_scores(house: Path, threshold: float) -> None:
    with pytest.raises(UsageError, match="scores go from 0 to 1"):
        made(threshold=threshold)
    with pytest.raises(UsageError, match="scores go from 0 to 1"):
        list(made().stream("pictures", threshold=threshold))
