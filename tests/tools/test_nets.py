"""extract_features, classify.py, detect.py and draw_net: a tiny net's numbers in their files."""

from __future__ import annotations

from pathlib import Path

import caffe
import cv2
import numpy as np
import pytest

from caffe_ssd.cli.main import main as caffe_command
from caffe_ssd.data.records import LmdbSource
from caffe_ssd.proto.caffe_pb2 import Datum
from caffe_ssd.tools import classify, detect, draw_net, extract_features
from lmdb_tools import convert_imageset
from tests.pycaffe.tiny import CONV, make_net, write_net

DATA = """
layer { name: "data" type: "Data" top: "data" top: "label"
  data_param { source: "db" batch_size: 2 backend: LMDB } }
"""
FEATURES = DATA + CONV[CONV.index('layer {\n  name: "conv"') :]


@pytest.fixture(autouse=True)
def _in_a_folder_with_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    for name in "abcd":
        cv2.imwrite(f"{name}.png", rng.integers(0, 256, (8, 6, 3), dtype=np.uint8))
    Path("list.txt").write_text("".join(f"{name}.png 1\n" for name in "abcd"))
    net = make_net(tmp_path, CONV)
    net.save("w.caffemodel")


@pytest.fixture
def features() -> list[str]:
    """The words before the names of blobs."""
    convert_imageset.main(["./", "list.txt", "db"])
    return ["w.caffemodel", write_net(Path(), FEATURES, "features.prototxt")]


def test_features_are_the_blobs(features: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert extract_features.main([*features, "conv,prob", "conv_db,prob_db", "2", "lmdb"]) == 0
    assert "Extracted features of 4 query images for feature blob conv" in capsys.readouterr().err
    net = caffe.Net("features.prototxt", "w.caffemodel", caffe.TEST)
    want: dict[str, list[np.ndarray]] = {"conv": [], "prob": []}
    for _ in range(2):
        net.forward()
        for name, items in want.items():
            items.extend(net.blobs[name].data.copy())
    for name, items in want.items():
        source = LmdbSource(f"{name}_db")
        assert source.keys() == [b"%010d" % number for number in range(4)]
        for index, item in enumerate(items):
            datum = Datum.FromString(source[index])
            np.testing.assert_allclose(datum.float_data, item.ravel(), rtol=1e-3, atol=1e-6)
            shape = [datum.channels, datum.height, datum.width]
            assert shape == ([4, 6, 4] if name == "conv" else [5, 1, 1])


def test_features_refused(features: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for words, status, message in (
        (["cone", "x", "1", "lmdb"], 1, "the net has no blob 'cone'; it has: conv"),
        (["conv", "x", "1", "leveldb"], 2, "use lmdb"),
        (["conv,prob", "x", "1", "lmdb"], 2, "2 blobs need as many databases, not 1"),
        (["conv,prob", "x,x", "1", "lmdb"], 2, "a name stands twice"),
        (["conv", "x", "0", "lmdb"], 2, "BATCHES must be at least 1"),
        (["conv", "x", "1", "lmdb", "TPU"], 2, "allowed: CPU, GPU"),
        (["conv", "db", "1", "lmdb"], 1, "the database db already exists"),
    ):
        assert extract_features.main([*features, *words]) == status
        assert message in capsys.readouterr().err
        assert not Path("x").exists()


def assert_same(path: str, want: np.ndarray) -> None:
    """Softmax makes 1e-6 of its inputs, which reach 50 here, 1e-4 of its output."""
    have = np.load(path)
    assert have.shape == want.shape
    np.testing.assert_allclose(have, want, rtol=1e-3, atol=1e-6)


def net_flags(*flags: str) -> list[str]:
    return ["--model_def=net.prototxt", "--pretrained_model=w.caffemodel", *flags]


def test_classify(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("mean.npy", np.array([104, 117, 123], np.float32))
    flags = net_flags("--mean_file", "mean.npy", "--images_dim", "10,9")
    # The original's own command, but for `caffe run` in place of `python`.
    script = ["run", "python/classify.py"]
    assert caffe_command([*script, *flags, "--ext=png", ".", "out.npy"]) == 0
    assert "Classifying 4 inputs." in capsys.readouterr().out
    classifier = caffe.Classifier(
        "net.prototxt",
        "w.caffemodel",
        image_dims=(10, 9),
        mean=np.load("mean.npy"),
        raw_scale=255,
        channel_swap=(2, 1, 0),
    )
    images = [caffe.io.load_image(f"{name}.png") for name in "abcd"]
    want = classifier.predict(images)
    assert_same("out.npy", want)
    assert classify.main([*flags, "--center_only", "b.png", "one"]) == 0
    assert_same("one.npy", classifier.predict(images[1:2], oversample=False))
    np.save("in.npy", np.stack(images))
    assert classify.main([*flags, "in.npy", "again.npy"]) == 0
    assert_same("again.npy", want)


def test_classify_refused(capsys: pytest.CaptureFixture[str]) -> None:
    np.save("objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    for words, status, message in (
        (["a.png", "o.npy"], 2, "-model_def is missing"),
        (net_flags("a.png", "o.npy"), 2, "-mean_file is missing; -mean_file= subtracts nothing"),
        (net_flags("--mean_file=objects.npy", "a.png", "o.npy"), 1, "objects.npy: not a .npy"),
        (net_flags("--mean_file=", ".", "o.npy"), 1, "holds no *.jpg; -ext names another"),
        (net_flags("--mean_file=", "gone.png", "o.npy"), 1, "Could not open file gone.png"),
        (net_flags("--images_dim=3", "a.png", "o.npy"), 2, "invalid height,width value: '3'"),
    ):
        assert classify.main(words) == status
        assert message in capsys.readouterr().err
        assert not Path("o.npy").exists()


def test_detect_windows() -> None:
    Path("w.csv").write_text("filename,ymin,xmin,ymax,xmax\na.png,0,0,8,6\nb.png,1,2,5,6\n")
    np.save("mean.npy", np.arange(144, dtype=np.float32).reshape(3, 8, 6))
    flags = net_flags("--mean_file=mean.npy", "--crop_mode=list", "--context_pad=0")
    assert detect.main([*flags, "w.csv", "out.csv"]) == 0
    header, *rows = Path("out.csv").read_text().splitlines()
    assert header == "filename,ymin,xmin,ymax,xmax,class0,class1,class2,class3,class4"
    assert [row.rsplit(",", 5)[0] for row in rows] == ["a.png,0,0,8,6", "b.png,1,2,5,6"]
    detector = caffe.Detector(
        "net.prototxt",
        "w.caffemodel",
        mean=np.load("mean.npy").mean((1, 2)),
        raw_scale=255,
        channel_swap=(2, 1, 0),
        context_pad=0,
    )
    found = detector.detect_windows([("a.png", [(0, 0, 8, 6)]), ("b.png", [(1, 2, 5, 6)])])
    for row, score in zip(rows, found, strict=True):
        have = [float(word) for word in row.split(",")[5:]]
        np.testing.assert_allclose(have, score["prediction"], rtol=1e-3, atol=1e-6)


def test_detect_refused(capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.csv").write_text("filename,ymin,xmin,ymax,xmax\na.png,0,0,8,x\n")
    Path("short.csv").write_text("filename,ymin\na.png,0\n")
    flags = net_flags("--mean_file=", "--crop_mode=list")
    for words, status, message in (
        ([*flags, "bad.csv", "o.h5"], 2, "OUTPUT must end in .csv"),
        ([*flags, "bad.csv", "o.csv"], 1, "bad.csv:2: not a window: could not convert"),
        ([*flags, "short.csv", "o.csv"], 1, "short.csv: no column 'xmin'"),
    ):
        assert detect.main(words) == status
        assert message in capsys.readouterr().err


def test_draw_net(capsys: pytest.CaptureFixture[str]) -> None:
    assert draw_net.main(["net.prototxt", "net.dot", "--rankdir", "TB"]) == 0
    assert capsys.readouterr().out == "Drawing net to net.dot\n"
    text = Path("net.dot").read_text()
    assert "rankdir=TB" in text
    assert "prob (Softmax)" in text
    phase = 'include { phase: TRAIN } type: "ReLU"'
    write_net(Path(), CONV.replace('type: "ReLU"', phase), "two.prototxt")
    for flag, is_there in (("TEST", False), ("TRAIN", True), ("ALL", True)):
        assert draw_net.main(["two.prototxt", "two.dot", "--phase", flag]) == 0
        assert ("relu" in Path("two.dot").read_text()) == is_there
