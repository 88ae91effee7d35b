"""The whole report: what is in it, that its numbers are those of `caffe test`, and odd runs."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import caffe_ssd
from caffe_ssd.errors import CaffeError
from caffe_ssd.evaluate.mean_ap import JudgedClass
from caffe_ssd.report import speed
from caffe_ssd.report.evaluation import evaluate
from caffe_ssd.report.page import page
from caffe_ssd.report.report import _sections, write_report
from caffe_ssd.report.run_files import find_run
from caffe_ssd.report.sections.known import Known
from tests.report.made import made
from tests.support.golden import SHARED_GOLDEN, needs_shared

NOT_CLOSED = {"meta", "img", "br"}


class Words(HTMLParser):
    """The text of a page; fails where elements are not nested."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.pictures: list[bytes] = []
        self.sections: list[str] = []
        self.feed(html)
        assert not self.open
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "section":
            self.sections.append(values["id"] or "")
        if tag == "img":
            head, _, data = (values["src"] or "").partition(",")
            assert head == "data:image/jpeg;base64"
            self.pictures.append(base64.b64decode(data))
        if tag not in NOT_CLOSED:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.words.append(data)


def read(path: Path) -> Words:
    html = path.read_text(encoding="utf-8")
    assert "<script" not in html
    assert not re.search(r'(?:href|src)="(?!#|data:image/jpeg)', html)
    words = Words(html)
    assert "nan" not in words.text
    return words


def test_a_run(run: Path) -> None:
    assert write_report(run, has_speed=False) == run / "report.html"
    report = read(run / "report.html")
    assert report.sections == [
        *("glance", "pictures", "classes", "confusion", "mistakes", "scores"),
        *("training", "data", "use", "settings"),
    ]
    scored = caffe_ssd.score("test.prototxt", "snap/tiny_iter_100.caffemodel", workers=0)
    for version in ("11point", "MaxIntegral", "Integral"):
        assert f"{scored.values[f'score mAP ({version})']:.4f} ({version})" in report.text
    integral = scored.protocols["reference"].per_class["Integral"]
    for name, value in zip(("cat", "dog"), integral.values(), strict=True):
        assert re.search(rf"{name} \d+ {value:.4f} ", report.text)
    assert "100 iterations" in report.text
    assert "multistep: times 0.1 after 60 iterations" in report.text
    for jpeg in report.pictures:
        picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert picture is not None
    assert len(report.pictures) > 8


def test_its_commands_work(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they stand, from another folder."""
    report = read(write_report(run, has_speed=False, output=run / "r.html"))
    (program,) = [word for word in report.words if word.startswith("from caffe_ssd import")]
    program = program[: program.index("\nfor ")]
    monkeypatch.chdir("pictures")
    names: dict[str, object] = {}
    exec(program, names)
    detector = names["detector"]
    assert isinstance(detector, caffe_ssd.Detector)
    assert detector.class_names[1] == "cat"
    assert 0 < detector.threshold <= 1
    # The net has a mean of its own, which the detector must be told of.
    assert "mean=(104.0, 104.0, 104.0)" in program
    assert "-mean_value 104,104,104" in report.text


def test_speed_of_every_engine(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "_EACH_S", 0.0)
    report = read(write_report(run))
    assert "speed" in report.sections
    assert "plain net, fp32" in report.text
    assert "torch, fp32" in report.text


def test_weights_without_a_training(house: Path) -> None:
    path = write_report(model="test.prototxt", weights="w.caffemodel", has_speed=False)
    assert path == Path("report.html")
    report = read(path)
    assert "training" not in report.sections
    assert "11point" in report.text


def test_a_training_without_a_test_net(run: Path) -> None:
    text = (run / "solver.prototxt").read_text()
    (run / "solver.prototxt").write_text(text.replace("net:", "train_net:"))
    report = read(write_report(run, has_speed=False))
    assert "Nothing was scored for this report: the solver has no test net." in report.text
    assert "training" in report.sections
    assert "pictures" not in report.sections


def test_a_training_without_weights(run: Path) -> None:
    (run / "snap" / "tiny_iter_100.caffemodel").unlink()
    report = read(write_report(run, has_speed=False))
    assert "there are no weights yet" in report.text


def test_the_choices_of_fit(run: Path) -> None:
    (run / "fit.json").write_text('{"plan": {"reasons": {"net": "dsod: <b>as asked</b>"}}}')
    report = read(write_report(run, has_speed=False))
    assert "dsod: <b>as asked</b>" in report.text


def test_a_net_that_finds_nothing(run: Path) -> None:
    for name in ("test.prototxt", "deploy.prototxt"):
        text = (run / name).read_text()
        (run / name).write_text(
            text.replace("confidence_threshold: 0.35", "confidence_threshold: 1.5")
        )
    report = read(write_report(run, has_speed=False))
    assert "The net found nothing at all." in report.text
    assert "scores" not in report.sections


def test_a_net_that_judges_nothing(run: Path) -> None:
    net = (run / "test.prototxt").read_text()
    (run / "test.prototxt").write_text(net[: net.index('layer { name: "score"')])
    with pytest.raises(CaffeError, match=r"test\.prototxt has no DetectionEvaluate layer"):
        write_report(run)
    assert not (run / "report.html").exists()


def test_a_broken_results_file(run: Path) -> None:
    (run / "snap" / "tiny_results.jsonl").write_text("no json\n{}\n")
    with pytest.raises(CaffeError, match=r"tiny_results\.jsonl"):
        write_report(run)
    assert not (run / "report.html").exists()


@pytest.mark.parametrize("num_classes", [1, 2, 80])
@pytest.mark.parametrize("has_found", [False, True])
def test_any_number_of_classes(house: Path, num_classes: int, has_found: bool) -> None:
    rng = np.random.default_rng(num_classes)
    truth, found, judged = [], [], []
    for k in range(num_classes - (num_classes > 1)):  # the last one has no example
        box = (*rng.uniform(0, 200, 2), *rng.uniform(20, 90, 2))
        truth.append((k % 3, k, box, False))
        if has_found:
            found.append((k % 3, k, 0.9, box))
            found.append((k % 3, (k + 1) % num_classes, 0.7, box))
    for k in range(num_classes):
        scores = np.array([s for _, c, s, _ in found if c == k], np.float32)
        num_pos = sum(c == k for _, c, _, _ in truth)
        judged.append(JudgedClass(scores=scores, is_tp=scores > 0.8, num_pos=num_pos))
    evaluation = made(truth, found, num_classes=num_classes, num_images=3, judged=judged)
    files = find_run(None, model="test.prototxt", weights=("w.caffemodel",))
    html = page("t", "l", _sections(Known(files=files, evaluation=evaluation)))
    words = Words(html)
    assert "nan" not in words.text
    assert len(html) < 1_500_000
    if num_classes > 1:
        assert f"no example of {evaluation.names[-1]}" in words.text


@needs_shared
def test_the_released_detector_has_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = SHARED_GOLDEN / "eval"
    monkeypatch.chdir(folder)
    evaluation = evaluate(find_run(folder), device=torch.device("cpu"))
    assert evaluation.names == ("RBC", "WBC", "Platelets")
    assert evaluation.class_ap("11point") == pytest.approx([0.806729, 0.9747, 0.808536], abs=1e-3)
    assert evaluation.mean_aps["MaxIntegral"].value == pytest.approx(0.889692, abs=1e-3)
    assert evaluation.image_names[0].startswith("BloodImage_")
    assert sum(each.num_pos for each in evaluation.judged) == 945
