"""The web application without a network: answers, refusals, limits, metrics."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

import caffe_ssd
from caffe_ssd.cli.main import main
from caffe_ssd.serving.app import Limits, make_app
from caffe_ssd.serving.batcher import Batcher
from tests.data.databases import picture


@pytest.fixture
def client(detector: caffe_ssd.Detector) -> Iterator[TestClient]:
    app = make_app(detector, limits=Limits(max_bytes=50_000, max_waiting=2), name="tiny")
    with TestClient(app) as client:
        yield client


def data(name: str = "pictures/a.png") -> bytes:
    return Path(name).read_bytes()


def test_a_picture_as_body_or_form(client: TestClient, detector: caffe_ssd.Detector) -> None:
    want = detector.detect("pictures/a.png").to_dict() | {"image": "picture"}
    answer = client.post("/detect", content=data())
    assert answer.status_code == 200
    have = answer.json()
    assert len(have["detections"]) == len(want["detections"]) > 0
    assert (have["width"], have["height"]) == (want["width"], want["height"])
    for mine, theirs in zip(have["detections"], want["detections"], strict=True):
        assert mine["class"] == theirs["class"]
        assert mine["score"] == pytest.approx(theirs["score"], abs=1e-5)
        assert mine["box"] == pytest.approx(theirs["box"], abs=1e-4)
    form = client.post("/detect", files={"file": ("a.png", data(), "image/png")})
    assert form.json() == have | {"image": "a.png"}


def test_thresholds(client: TestClient, detector: caffe_ssd.Detector) -> None:
    counts = [
        len(client.post(f"/detect?threshold={t}", content=data()).json()["detections"])
        for t in (0, 0.5, 1)
    ]
    assert counts[0] > counts[1] > counts[2] == 0
    assert counts[1] == len(detector.detect("pictures/a.png"))
    assert client.post("/detect?threshold=2", content=data()).status_code == 422


def test_refusals(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    for content, status, message in (
        (b"", 400, "no picture"),
        (b"no picture at all", 400, "cannot be decoded"),
        (bytes(50_001), 413, "may have 50000 bytes"),
    ):
        answer = client.post("/detect", content=content)
        assert answer.status_code == status
        assert message in answer.json()["detail"]
    no_file = client.post("/detect", files={"": ("", b"")}, data={"word": "x"})
    assert no_file.status_code == 400
    monkeypatch.setenv("CAFFE_MAX_PIXELS", "100")
    answer = client.post("/detect", content=data())
    assert answer.status_code == 413
    assert "allowed are 1 to 100 pixels" in answer.json()["detail"]
    assert client.get("/detect").status_code == 405


def test_too_many_requests_are_sent_away(
    client: TestClient, detector: caffe_ssd.Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, go = threading.Semaphore(0), threading.Event()
    find = detector.find

    def slow(*args: object, **options: object) -> object:
        started.release()
        assert go.wait(60)
        return find(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(detector, "find", slow)
    answers: list[int] = []

    def ask() -> None:
        answers.append(client.post("/detect", content=data()).status_code)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    threads[0].start()
    assert started.acquire(timeout=60)
    threads[1].start()
    while "waiting 2.0" not in client.get("/metrics").text:
        pass
    refused = client.post("/detect", content=data())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    go.set()
    for thread in threads:
        thread.join()
    assert answers == [200, 200]
    assert client.post("/detect", content=data()).status_code == 200


def test_health_metrics_and_page(client: TestClient) -> None:
    health = client.get("/healthz")
    assert health.status_code == 200
    assert health.json()["status"] == "ok"
    assert health.json()["model"] == "tiny"
    assert health.json()["classes"]["1"] == "cat"
    for content in (data(), data(), b"x"):
        client.post("/detect", content=content)
    text = client.get("/metrics").text
    assert 'caffe_requests_total{status="200"} 2.0' in text
    assert 'caffe_requests_total{status="400"} 1.0' in text
    assert "caffe_batch_pictures_sum 2.0" in text
    assert "caffe_request_seconds_count 2.0" in text
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"(src|href)=|https?:", page.text)  # nothing from elsewhere
    assert "frame-ancestors 'self'" in page.headers["content-security-policy"]


def test_a_stopped_server_is_not_healthy(detector: caffe_ssd.Detector) -> None:
    app = make_app(detector)
    with TestClient(app) as client:
        assert client.get("/healthz").status_code == 200
    assert TestClient(app).get("/healthz").status_code == 503


def test_batches_have_two_sizes(detector: caffe_ssd.Detector) -> None:
    """What waits is looked at together; engines prepare for one picture and for a full batch."""
    sizes: list[int] = []
    batcher = Batcher(detector, on_batch=sizes.append)
    batcher.warm_up()
    group = [picture(30 + i, 40, seed=i) for i in range(11)]
    with detector._turn:  # so that all but the first wait
        futures = [batcher.submit(each) for each in group]
    found = [future.result() for future in futures]
    batcher.close()
    assert not batcher.is_alive
    assert sum(sizes) == 11
    assert max(sizes) == 4
    engine = detector._engine
    assert engine is not None
    assert {shapes[0][0] for shapes in engine._runners} == {1, 4}
    for each, have in zip(group, found, strict=True):
        want = detector.detect(each, threshold=0.0)
        assert have.size == each.shape[:2]
        np.testing.assert_allclose(have.score, want.score, atol=1e-5)
        np.testing.assert_allclose(have.box, want.box, atol=1e-4)


def test_a_failure_reaches_who_asked(
    detector: caffe_ssd.Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    batcher = Batcher(detector)
    with monkeypatch.context() as patch:
        patch.setattr(detector, "find", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            batcher.submit(picture()).result()
    assert len(batcher.submit(picture()).result()) > 0  # the next is served
    batcher.close()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-threshold", "3"), "-threshold: the threshold is 3"),
        (("-port", "99999"), "-port must be 0 to 65535"),
        (("-host", "192.0.2.1"), "cannot listen on 192.0.2.1"),
        (("-max_waiting", "0"), "-max_waiting must be at least 1"),
    ],
)
def test_wrong_use(
    house: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], message: str
) -> None:
    net = ["-model", "deploy.prototxt", "-weights", "w.caffemodel"]
    assert main(["serve", *net, *flags]) == 2
    assert message in capsys.readouterr().err
