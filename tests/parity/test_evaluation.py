"""The reference's trained detector, scored by us, has the reference's mAP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from caffe_ssd.boxes.average_precision import AP_VERSIONS
from caffe_ssd.evaluate.mean_ap import MeanAPAccumulator
from caffe_ssd.net import Net, build_net
from caffe_ssd.net.weights import copy_trained_file
from caffe_ssd.proto.caffe_pb2 import TEST, NetState
from caffe_ssd.proto.text import read_net
from tests.support.golden import SHARED_GOLDEN, needs_shared

pytestmark = needs_shared
EVAL = SHARED_GOLDEN / "eval"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to run in: the nets name their files relative to it."""
    for path in EVAL.iterdir():
        if path.is_dir():
            shutil.copytree(path, tmp_path / path.name)
        else:
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def trained(prototxt: str) -> Net:
    net = build_net(read_net(prototxt), NetState(phase=TEST))
    copy_trained_file(net, "bccd_dense_iter_3200.caffemodel")
    return net


def passes(net: Net, count: int = 9) -> Iterator[dict[str, torch.Tensor]]:
    with torch.no_grad():
        for _ in range(count):
            yield net(keep=["detection_out"]).blobs


@pytest.mark.parametrize(
    ("prototxt", "result"),
    [
        ("test.prototxt", "plain"),
        ("test_jpeg_roundtrip.prototxt", "jpeg_roundtrip"),
        ("test_name_size.prototxt", "name_size_file"),
    ],
)
def test_mean_ap(folder: Path, prototxt: str, result: str) -> None:
    want = json.loads((EVAL / "eval.json").read_text())["results"]
    scores = {version: MeanAPAccumulator(version) for version in AP_VERSIONS}
    for blobs in passes(trained(prototxt)):
        for score in scores.values():
            score.update(blobs["detection_eval"].numpy().reshape(-1, 5))
    for version, score in scores.items():
        assert score.compute().value == pytest.approx(want[f"{result}/{version}"]["mAP"], abs=1e-3)


def test_detections(folder: Path) -> None:
    """Row by row in score order per image and class.

    keep_top_k cuts every image off at 200 rows, so rows with nearly the smallest score may differ.
    """
    with np.load("detections.npz") as recorded:
        want = recorded["detection_out"].reshape(-1, 7)
    rows = []
    for batch, blobs in enumerate(passes(trained("test.prototxt"))):
        mine = blobs["detection_out"].numpy().reshape(-1, 7).copy()
        mine[:, 0] += 8 * batch
        rows.append(mine)
    have = np.concatenate(rows)
    for image in range(72):
        for label in (1, 2, 3):
            ours, theirs = (r[(r[:, 0] == image) & (r[:, 1] == label)] for r in (have, want))
            floor = want[want[:, 0] == image, 2].min() + 1e-3
            ours, theirs = ours[ours[:, 2] > floor], theirs[theirs[:, 2] > floor]
            assert len(ours) == len(theirs), (image, label)
            np.testing.assert_allclose(ours[:, 2], theirs[:, 2], atol=1e-4)
            close = np.abs(ours[:, 3:] - theirs[:, 3:]).max(1, initial=0) < 1e-3
            assert close.mean() > 0.98 if len(close) else True  # equal scores may swap rows


def test_result_files(folder: Path) -> None:
    """`save_output_param` writes the VOC files that the reference wrote."""
    net = trained("test_save.prototxt")
    recorded = {p.name: p.read_text() for p in (EVAL / "results").rglob("*.txt")}
    shutil.rmtree(folder / "results")
    for _ in passes(net):
        pass
    written = {p.name: p.read_text() for p in folder.rglob("results/**/*.txt")}
    assert written.keys() == recorded.keys()
    for name, text in recorded.items():
        have, want = scores_by_box(written[name]), scores_by_box(text)
        same = sum(abs(have.get(box, 2.0) - score) < 1e-4 for box, score in want.items())
        assert same > 0.97 * len(want), f"{name}: {same} of {len(want)} lines agree"


def scores_by_box(text: str) -> dict[tuple[str, ...], float]:
    """Lines `name score x1 y1 x2 y2` as {(name, x1, y1, x2, y2): score}."""
    fields = [line.split() for line in text.splitlines()]
    return {(name, *box): float(score) for name, score, *box in fields}
