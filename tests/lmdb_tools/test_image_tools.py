"""convert_imageset and compute_image_mean, on databases of a few pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from caffe_ssd.data.records import LmdbSource
from caffe_ssd.proto.binary import read_binary
from caffe_ssd.proto.blobs import blob_to_array
from caffe_ssd.proto.caffe_pb2 import BlobProto, Datum
from lmdb_tools import compute_image_mean, convert_annoset, convert_imageset

SIZES = {"a.png": (4, 6), "b c.png": (4, 6), "d.png": (5, 7)}


def picture(name: str) -> np.ndarray:
    rng = np.random.default_rng(len(name))
    return rng.integers(0, 256, (*SIZES[name], 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in SIZES:
        cv2.imwrite(name, picture(name))
    Path("two.txt").write_text("a.png 3\nb c.png 12\n")
    Path("all.txt").write_text("a.png 3\nb c.png 12\nd.png 0\n")
    return tmp_path


def records(path: str) -> list[tuple[str, Datum]]:
    source = LmdbSource(path)
    return [(k.decode(), Datum.FromString(source[i])) for i, k in enumerate(source.keys())]


def convert(*flags: str, images: str = "two.txt") -> int:
    return convert_imageset.main([*flags, "./", images, "db"])


def test_records_are_datums(folder: Path) -> None:
    assert convert() == 0
    made = records("db")
    assert [(key, datum.label) for key, datum in made] == [
        ("00000000_a.png", 3),
        ("00000001_b c.png", 12),
    ]
    for (_, datum), name in zip(made, SIZES, strict=False):
        assert (datum.channels, datum.height, datum.width, datum.encoded) == (3, 4, 6, False)
        assert datum.data == picture(name).transpose(2, 0, 1).tobytes()


def test_flags(folder: Path) -> None:
    flags = ["--gray", "--resize_width=3", "--resize_height=2", "--encode_type=png"]
    assert convert(*flags, "--shuffle", "--shuffle_seed=1", images="all.txt") == 0
    made = records("db")
    assert sorted(datum.label for _, datum in made) == [0, 3, 12]
    for key, datum in made:
        assert (datum.channels, datum.height, datum.width, datum.encoded) == (1, 2, 3, True)
        stored = cv2.imdecode(np.frombuffer(datum.data, np.uint8), cv2.IMREAD_UNCHANGED)
        grey = cv2.imread(key.partition("_")[2], cv2.IMREAD_GRAYSCALE)
        assert np.array_equal(stored, cv2.resize(grey, (3, 2)))


def test_what_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for status, flags, message in (
        (2, ["--backend=leveldb"], "-backend is 'leveldb', which is not supported; use lmdb"),
        (1, ["--check_size"], "d.png: 105 bytes of pixels, expected 72"),
        (2, ["--encode_type=nope"], "which OpenCV cannot write"),
    ):
        assert convert(*flags, images="all.txt") == status
        assert message in capsys.readouterr().err
        assert not Path("db").exists()
    Path("bad.txt").write_text("a.png 3\nb c.png cat\n")
    assert convert(images="bad.txt") == 1
    assert "bad.txt:2: expected an image and a number" in capsys.readouterr().err
    assert convert("--lenient", images="bad.txt") == 0
    assert len(records("db")) == 1
    assert convert() == 1
    assert "already exists" in capsys.readouterr().err


def test_mean(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert()
    assert compute_image_mean.main(["db", "mean.binaryproto"]) == 0
    blob = read_binary("mean.binaryproto", BlobProto())
    want = (picture("a.png").astype(float) + picture("b c.png")) / 2
    mean = blob_to_array(blob)
    assert mean.shape == (1, 3, 4, 6)
    np.testing.assert_allclose(mean[0], want.transpose(2, 0, 1), rtol=1e-6)
    log = capsys.readouterr().err
    assert "] Number of channels: 3\n" in log
    for channel in range(3):
        assert f"mean_value channel [{channel}]: {want[..., channel].mean():g}\n" in log


def test_mean_of_annotated_and_encoded_records(folder: Path) -> None:
    Path("list.txt").write_text("a.png 3\n")
    assert convert_annoset.main(["--encode_type=png", "./", "list.txt", "db"]) == 0
    mean = compute_image_mean.image_mean("db")
    assert np.array_equal(mean, picture("a.png").transpose(2, 0, 1))


def test_what_has_no_mean(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    convert(images="all.txt")
    assert compute_image_mean.main(["db", "mean.binaryproto"]) == 1
    assert "00000002_d.png' has (channels, height, width) (3, 5, 7)" in capsys.readouterr().err
    assert compute_image_mean.main(["--backend=leveldb", "db"]) == 2
    assert "use lmdb" in capsys.readouterr().err
    for number, value in enumerate((b"\xff\xff", b"")):
        with lmdb.open(f"odd{number}") as database, database.begin(write=True) as transaction:
            transaction.put(b"k", value)
        assert compute_image_mean.main([f"odd{number}", "mean.binaryproto"]) == 1
        assert f"odd{number}: record 'k' is no image" in capsys.readouterr().err
    assert not Path("mean.binaryproto").exists()
