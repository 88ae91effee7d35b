"""The real thing: the command, a network, 32 clients at once, and a browser with the page."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import cv2
import pytest
import uvicorn
from fastapi.responses import HTMLResponse, Response

import caffe_ssd
from caffe_ssd.serving.app import make_app
from tests.data.databases import picture

pytestmark = pytest.mark.slow

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)

# Drops a picture onto the page, as a hand would, then moves the slider; writes what it sees.
DRIVER = """<!doctype html><body style="margin:0">
<iframe id="page" src="/" style="border:0; width:100vw; height:94vh"></iframe><pre id="seen"></pre>
<script>
const sleep = ms => new Promise(done => setTimeout(done, ms));
page.onload = async () => {
  const inside = page.contentDocument, id = name => inside.getElementById(name);
  const rows = () => id("rows").rows.length;
  const blob = await (await fetch("/picture.png")).blob();
  const files = new DataTransfer();
  files.items.add(new File([blob], "picture.png", { type: "image/png" }));
  const Drop = page.contentWindow.DragEvent;
  id("drop").dispatchEvent(new Drop("drop", { bubbles: true, dataTransfer: files }));
  while (!rows()) await sleep(20);
  const slide = value => {
    id("threshold").value = value;
    id("threshold").dispatchEvent(new Event("input"));
    return rows();
  };
  const result = { before: rows(), low: slide(0.01), high: slide(1), mid: slide(0.5) };
  const boxes = [...id("classes").querySelectorAll("input")];
  result.classes = boxes.map(box => box.parentElement.textContent);
  boxes[0].click();
  result.without = rows();
  boxes[0].click();
  result.canvas = [id("canvas").width, id("canvas").height];
  seen.textContent = JSON.stringify(result);
};
</script>"""


@contextmanager
def served(detector: caffe_ssd.Detector, pixels: bytes) -> Iterator[str]:
    """A server in a thread, with the driver's routes; its address."""
    app = make_app(detector, name="tiny")
    app.get("/drive", response_class=HTMLResponse)(lambda: DRIVER)
    app.get("/picture.png")(lambda: Response(pixels, media_type="image/png"))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, access_log=False))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


def ask(address: str, data: bytes) -> dict[str, object]:
    with urllib.request.urlopen(f"{address}/detect", data, timeout=120) as answer:
        content: dict[str, object] = json.load(answer)
    return content


def test_many_clients_get_what_one_gets(detector: caffe_ssd.Detector) -> None:
    group = [cv2.imencode(".png", picture(30 + i, 44, seed=i))[1].tobytes() for i in range(16)]
    with served(detector, group[0]) as address:
        serial = [ask(address, data) for data in group]
        with ThreadPoolExecutor(32) as clients:
            answers = list(clients.map(lambda i: ask(address, group[i % 16]), range(320)))
        metrics = urllib.request.urlopen(f"{address}/metrics").read().decode()
    for i, have in enumerate(answers):
        want = serial[i % 16]
        assert (have["width"], have["height"]) == (want["width"], want["height"])
        pairs = list(zip(have["detections"], want["detections"], strict=True))  # type: ignore[call-overload]
        assert pairs
        for mine, theirs in pairs:
            assert mine["class"] == theirs["class"]
            assert mine["score"] == pytest.approx(theirs["score"], abs=1e-5)
            assert mine["box"] == pytest.approx(theirs["box"], abs=1e-4)
    passes = float(re.search(r"caffe_batch_pictures_count (\S+)", metrics)[1])  # type: ignore[index]
    assert passes < 336 * 0.8  # requests were gathered


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium")
def test_the_page_in_a_browser(detector: caffe_ssd.Detector, tmp_path: Path) -> None:
    image = cv2.resize(picture(7, 9, seed=3), (640, 480), interpolation=cv2.INTER_CUBIC)
    shot = Path(os.environ.get("PAGE_SHOT", tmp_path / "page.png"))
    with served(detector, cv2.imencode(".png", image)[1].tobytes()) as address:
        words = [
            str(BROWSER),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1280,800",
            "--virtual-time-budget=20000",
        ]
        url = f"{address}/drive"
        dom = subprocess.run([*words, "--dump-dom", url], capture_output=True, timeout=240)
        subprocess.run([*words, f"--screenshot={shot}", url], capture_output=True, timeout=240)
    text = dom.stdout.decode()
    match = re.search(r'<pre id="seen">(\{.*?\})</pre>', text)
    assert match, text[-500:] + dom.stderr.decode()[-500:]
    seen = json.loads(html.unescape(match[1]))
    all_, some = (detector.detect(image, threshold=t) for t in (0.01, 0.5))
    assert seen["low"] == len(all_)
    assert seen["mid"] == seen["before"] == len(some) > 0
    assert seen["high"] == 0
    assert seen["classes"] == sorted(set(all_.names))
    assert seen["without"] == sum(name != seen["classes"][0] for name in some.names)
    assert seen["canvas"] == [640, 480]
    drawn = cv2.imread(str(shot))
    assert drawn is not None
    assert len({tuple(pixel) for pixel in drawn[::8, ::8].reshape(-1, 3).tolist()}) > 50


def test_the_command(house: Path) -> None:
    words = ["serve", "-model", "deploy.prototxt", "-weights", "w.caffemodel", "-port", "0"]
    process = subprocess.Popen(
        [sys.executable, "-m", "caffe_ssd", *words, "-engine", "none"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    try:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), process.communicate()
        answer = ask(address.rstrip("/"), Path("pictures/a.png").read_bytes())
        assert answer["width"] == cv2.imread("pictures/a.png").shape[1]
    finally:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
