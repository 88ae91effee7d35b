"""WindowData: window files, which windows are drawn, and how they are cut out."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable
from math import floor
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from caffe_ssd.data.mean import Mean
from caffe_ssd.data.window_list import WindowSet, read_windows
from caffe_ssd.data.windows import Warp, WindowReader
from caffe_ssd.errors import CaffeError, DataError, FileError, LayerParamError
from caffe_ssd.layers.data import RecordLayer
from caffe_ssd.layers.registry import LayerSpec, Runtime, build_layer
from caffe_ssd.net import build_net
from caffe_ssd.proto.binary import write_binary
from caffe_ssd.proto.blobs import array_to_blob
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, NetState
from caffe_ssd.proto.text import parse_text
from caffe_ssd.random import CaffeRandom
from caffe_ssd.scoring.whole_set import passes_over_set
from tests.layers.build import build

# class, overlap, box; overlaps of .4 are neither foreground nor background.
WINDOWS = (
    [(3, 0.5, 2, 1, 20, 12), (0, 0.1, 0, 0, 30, 20), (1, 0.4, 3, 3, 9, 9), (2, 0.29, 5, 6, 7, 15)],
    [(1, 0.9, 10, 0, 24, 9), (4, 1.0, 0, 8, 6, 28), (9, 0.0, 11, 3, 12, 4), (0, 0.2, 1, 1, 25, 29)],
)
SIZES = ((23, 31), (30, 26))  # height, width
SIDE = 11

Maker = Callable[..., RecordLayer]


def picture(number: int) -> np.ndarray:
    """Image `number`, BGR."""
    shape = (*SIZES[number], 3)
    return np.random.default_rng(number).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images and `windows.txt`."""
    lines = []
    for i, (windows, (height, width)) in enumerate(zip(WINDOWS, SIZES, strict=True)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), picture(i))
        lines += [f"# {i}", f"{i}.png", "3", str(height), str(width), str(len(windows))]
        lines += [" ".join(map(str, window)) for window in windows]
    (tmp_path / "windows.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def make(folder: Path, param: str = "", transform: str = "", **kwargs: object) -> RecordLayer:
    fields = {
        "source": f'"{folder}/windows.txt"',
        "root_folder": f'"{folder}/"',
        "bg_threshold": "0.3",
        "batch_size": "6",
    }
    param += "".join(f" {n}: {v}" for n, v in fields.items() if f"{n}:" not in param)
    if "crop_size:" not in transform:
        transform += f" crop_size: {SIDE}"
    text = f"window_data_param {{ {param} }} transform_param {{ {transform} }}"
    layer = build("WindowData", text, tops=2, **kwargs)  # type: ignore[arg-type]
    assert isinstance(layer, RecordLayer)
    return layer


def rounded(value: np.float32) -> int:
    """C's round."""
    return floor(value + 0.5) if value >= 0 else -floor(-value + 0.5)


def naive_window(
    image: np.ndarray,
    box: tuple[int, int, int, int],
    *,
    pad: int,
    square: bool,
    mirrored: bool,
    mean: np.ndarray,
    scale: float,
) -> np.ndarray:
    """The blob of a window, pixel by pixel."""
    f = np.float32
    x1, y1, x2, y2 = box
    wanted_w = wanted_h = SIDE
    pad_w = pad_h = 0
    if pad > 0 or square:
        context = f(SIDE) / f(SIDE - 2 * pad)
        half_h, half_w = f(y2 - y1 + 1) / f(2), f(x2 - x1 + 1) / f(2)
        centre_x, centre_y = f(x1) + half_w, f(y1) + half_h
        if square:
            half_w = half_h = max(half_w, half_h)
        x1, x2 = rounded(centre_x - half_w * context), rounded(centre_x + half_w * context)
        y1, y2 = rounded(centre_y - half_h * context), rounded(centre_y + half_h * context)
        scale_x, scale_y = f(SIDE) / f(x2 - x1 + 1), f(SIDE) / f(y2 - y1 + 1)
        left, top = max(0, -x1), max(0, -y1)
        right, bottom = max(0, x2 - image.shape[1] + 1), max(0, y2 - image.shape[0] + 1)
        x1, y1, x2, y2 = x1 + left, y1 + top, x2 - right, y2 - bottom
        wanted_w = rounded(f(x2 - x1 + 1) * scale_x)
        wanted_h = rounded(f(y2 - y1 + 1) * scale_y)
        pad_h = rounded(f(top) * scale_y)
        pad_w = rounded(f(right if mirrored else left) * scale_x)
        wanted_h, wanted_w = min(wanted_h, SIDE - pad_h), min(wanted_w, SIDE - pad_w)
    if min(wanted_h, wanted_w) < 1:
        return np.zeros((3, SIDE, SIDE), np.float32)  # the reference aborts
    part = cv2.resize(image[y1 : y2 + 1, x1 : x2 + 1], (wanted_w, wanted_h))
    offset = (mean.shape[2] - SIDE) // 2
    blob = np.zeros((3, SIDE, SIDE), f)
    for h in range(wanted_h):
        for w in range(wanted_w):
            pixel = part[h, wanted_w - 1 - w if mirrored else w]
            for c in range(3):
                m = mean[c, 0, 0]
                if mean.shape[2] > 1:
                    m = mean[c, h + offset + pad_h, w + offset + pad_w]
                blob[c, h + pad_h, w + pad_w] = (f(pixel[c]) - m) * f(scale)
    return blob


def drawn(seed: int, count: int, *, mirror: bool) -> list[tuple[bool, int, bool]]:
    """The first draws for batches of six with one foreground window: foreground, word, mirrored."""
    rng = CaffeRandom(seed)
    draws = []
    for i in range(count):
        word = rng.word()
        draws.append((i % 6 == 5, word, mirror and rng.word() % 2 == 1))
    return draws


FOREGROUND = [(i, w) for i in range(2) for w in WINDOWS[i] if w[1] >= 0.5]
BACKGROUND = [(i, w) for i in range(2) for w in WINDOWS[i] if w[1] < 0.3]


@pytest.mark.parametrize("mode", ["warp", "square"])
@pytest.mark.parametrize("pad", [0, 2, 4])
@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("cached", [False, True])
def test_batches_are_those_of_a_naive_loop(folder, mode, pad, mirror, cached):
    layer = make(
        folder,
        f'scale: 0.5 crop_mode: "{mode}" context_pad: {pad} cache_images: {str(cached).lower()}',
        f"mirror: {str(mirror).lower()} mean_value: 3 mean_value: 4.5 mean_value: 5 scale: 9",
        seed=5,
    )
    assert layer.top_shapes() == ((6, 3, SIDE, SIDE), (6,))
    words = CaffeRandom(5).words(2)
    expected = iter(drawn(int(words[1 if mirror else 0]), 18, mirror=mirror))
    for _ in range(3):
        data, label = layer()
        assert data.dtype == label.dtype == torch.float32
        for item in range(6):
            is_foreground, word, mirrored = next(expected)
            windows = FOREGROUND if is_foreground else BACKGROUND
            image, window = windows[word % len(windows)]
            assert label[item] == (window[0] if is_foreground else 0)
            blob = naive_window(
                picture(image),
                window[2:],
                pad=pad,
                square=mode == "square",
                mirrored=mirrored,
                mean=np.float32([3, 4.5, 5])[:, None, None],
                scale=0.5,
            )
            np.testing.assert_array_equal(data[item], blob)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("pad", [0, 1, 3, 5])
def test_boxes_over_the_borders_are_padded(pad, mirrored):
    image = picture(0)
    height, width = image.shape[:2]
    rng = np.random.default_rng(pad)
    mean = rng.normal(100, 5, (3, SIDE + 8, SIDE + 3)).astype(np.float32)
    for _ in range(60):
        x1, y1 = int(rng.integers(-9, width)), int(rng.integers(-9, height))
        box = (x1, y1, max(x1, 0) + int(rng.integers(30)), max(y1, 0) + int(rng.integers(30)))
        reader = reader_of(box, Warp(crop_size=SIDE, context_pad=pad, square=True), mean)
        blob = np.zeros((3, SIDE, SIDE), np.float32)
        reader._image = lambda _: image
        (window, _) = next(reader._draw(0))
        reader._show(window, mirrored, blob)
        expected = naive_window(
            image, box, pad=pad, square=True, mirrored=mirrored, mean=mean, scale=1
        )
        np.testing.assert_array_equal(blob, expected)


def reader_of(box, warp, mean):
    """A reader of one window."""
    row = np.array([[0, 1, *box, 7]], np.int32)
    windows = WindowSet(path="w", images=("i",), foreground=row, background=row)
    mean = Mean(values=mean, file="mean")
    return WindowReader(
        windows=windows, warp=warp, mean=mean, batch_size=1, num_foreground=1, seed=1
    )


def test_overlaps_are_compared_in_single_precision(folder):
    windows = read_windows(str(folder / "windows.txt"), fg_threshold=0.9, bg_threshold=0.1)
    assert [tuple(row[:2]) for row in windows.foreground] == [(1, 1), (1, 4)]
    assert [tuple(row[:2]) for row in windows.background] == [(1, 0)]  # .1 is not below .1
    assert windows.foreground[0].tolist() == [1, 1, 10, 0, 24, 9, 17]  # the last is the line


def test_the_layout_of_lines_means_nothing(folder):
    path = folder / "windows.txt"
    before = read_windows(str(path))
    path.write_text(path.read_text().replace("\n", "  ").replace("# 1", "\n\n# 1"))
    after = read_windows(str(path))
    np.testing.assert_array_equal(before.foreground[:, :6], after.foreground[:, :6])
    np.testing.assert_array_equal(before.background[:, :6], after.background[:, :6])
    assert before.images == after.images


@pytest.mark.parametrize(("fraction", "count"), [(0, 0), (0.25, 1), (0.7, 4), (1, 6)])
def test_background_comes_first(folder, fraction, count):
    _, label = make(folder, f"fg_fraction: {fraction}")()
    assert (label > 0).tolist() == [False] * (6 - count) + [True] * count


@pytest.mark.parametrize("workers", [0, 2])
def test_seek_and_workers_change_nothing(folder, workers):
    layer = make(folder, "", "mirror: true")
    expected = [layer() for _ in range(6)]
    again = make(folder, "", "mirror: true")
    again.loader.workers = workers
    for start in (0, 4, 1, 5, 2):
        again.seek(start)
        for ours, theirs in zip(again(), expected[start], strict=True):
            assert torch.equal(ours, theirs)
    again.loader.close()
    copy = pickle.loads(pickle.dumps(layer))
    copy.seek(3)
    assert torch.equal(copy()[0], expected[3][0])


@pytest.mark.parametrize(
    ("mirror", "phase", "draws"),
    [("false", "TEST", 2), ("true", "TEST", 4), ("false", "TRAIN", 4)],
)
def test_draws_from_the_net_s_stream(folder, mirror, phase, draws):
    param = LayerParameter(name="d", type="WindowData", top=["data", "label"])
    param.phase = ("TRAIN", "TEST").index(phase)
    param.window_data_param.source = str(folder / "windows.txt")
    param.window_data_param.batch_size = 2
    param.transform_param.crop_size = SIDE
    param.transform_param.mirror = mirror == "true"
    runtime = Runtime(rng=CaffeRandom(9))
    build_layer(LayerSpec(param=param, bottoms=(), runtime=runtime))
    assert runtime.rng.word() == int(CaffeRandom(9).words(draws + 1)[draws])


def test_a_mean_file_is_cropped_in_the_middle(folder):
    values = np.random.default_rng(0).normal(size=(1, 3, SIDE + 7, SIDE + 4)).astype(np.float32)
    write_binary(folder / "mean", array_to_blob(values))
    data, _ = make(folder, "", f'mean_file: "{folder}/mean"')()
    plain, _ = make(folder)()
    np.testing.assert_array_equal(data, plain.numpy() - values[:, :, 2 : SIDE + 2, 2 : SIDE + 2])
    write_binary(folder / "mean", array_to_blob(values[:, :, :SIDE]))
    with pytest.raises(DataError, match=r"'.*/mean' is 11 x 15, too small for crop_size 11"):
        make(folder, "", f'mean_file: "{folder}/mean"')


def test_random_windows_are_no_set_to_pass_over(folder):
    text = (
        'layer { name: "w" type: "WindowData" top: "data" top: "label" '
        f'window_data_param {{ source: "{folder}/windows.txt" batch_size: 2 }} '
        "transform_param { crop_size: 5 } }"
    )
    assert passes_over_set(build_net(parse_text(text, NetParameter()), NetState())) is None


def test_an_unknown_crop_mode_is_warp(folder, caplog):
    with caplog.at_level(logging.WARNING):
        data, _ = make(folder, 'crop_mode: "Square"')()
    assert "layer 'layer': crop_mode 'Square' is neither warp nor square" in caplog.text
    assert torch.equal(data, make(folder)()[0])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("# 1", "#1", r"windows\.txt:11: the block of an image begins with `# index`, got '#1'"),
        ("# 1", "# x", r"windows\.txt:11: 'x' is not the index of an image"),
        ("# 1", "# 4", r"windows\.txt:11: the block of image 1, counted from 0, has index 4"),
        ("1.png\n3", "1.png\n1", r"windows\.txt:13: channels of '1\.png' must be 3, .* got 1"),
        ("0.1", "few", r"windows\.txt:8: '0 few 0 0 30 20' is not `class overlap x1 y1 x2 y2`"),
        ("30 20", "99999999999 20", r"windows\.txt:8: '0 0\.1 0 0 99999999999 20' is not"),
        ("31\n4", "31\n3", r"windows\.txt:10: .* begins with `# index`, got '2'"),
        (
            "31\n4",
            "31\n5",
            r"windows\.txt:11: '# 1 1\.png 3 30 26' is not .*windows of '0\.png', 5",
        ),
        ("25 29\n", "25\n", r"windows\.txt:20: the file ends where a window should follow"),
        ("3 0.5", "0 0.5", r"windows\.txt:7: class 0 in a foreground window \(overlap >= 0\.5\)"),
    ],
)
def test_wrong_files_are_refused_by_line(folder, old, new, message):
    path = folder / "windows.txt"
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(DataError, match=message):
        read_windows(str(path))


def test_wrong_windows_are_named_when_they_are_shown(folder):
    path = folder / "windows.txt"
    path.write_text(path.read_text().replace("10 0 24 9", "10 0 26 9"))
    with pytest.raises(
        DataError,
        match=r"windows\.txt:17: box 10 0 26 9 leaves its image of 30 x 26 pixels, .* context_pad "
        r"or crop_mode square; image '.*1\.png'",
    ):
        make(folder, "fg_fraction: 1")()
    path.write_text(path.read_text().replace("10 0 26 9", "90 0 96 9"))
    with pytest.raises(DataError, match="box 90 0 96 9 lies outside its image of 30 x 26 pixels"):
        make(folder, "fg_fraction: 1 context_pad: 1")()
    path.write_text(path.read_text().replace("90 0 96 9", "9 0 8 9"))
    with pytest.raises(DataError, match="box 9 0 8 9 is empty"):
        make(folder, "fg_fraction: 1 context_pad: 1")()
    (folder / "1.png").unlink()
    with pytest.raises(DataError, match=r"Could not open file .*1\.png: No such file"):
        make(folder, "fg_fraction: 1")()
    with pytest.raises(DataError, match=r"Could not open file .*1\.png: No such file"):
        make(folder, "cache_images: true")
    (folder / "1.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"windows\.txt:1\d: cannot be decoded as an image"):
        make(folder, "fg_fraction: 1")()


@pytest.mark.parametrize(
    ("param", "transform", "message"),
    [
        ("batch_size: 0", "", "window_data_param.batch_size must be > 0"),
        ("", "crop_size: 0", "transform_param.crop_size must be > 0"),
        ("context_pad: 6", "", "context_pad must be less than half .* got 6 and 11"),
        ("fg_fraction: 1.5", "", r"fg_fraction must lie in 0\.\.1, got 1\.5"),
        ('source: ""', "", "window_data_param.source is not set"),
        ("", 'mean_file: "m" mean_value: 1', "mean_file or mean_value, not both"),
        ("fg_threshold: 2", "", "lists no foreground windows, but a batch of 6 has 1"),
        ("bg_threshold: 0", "", "lists no background windows, but a batch of 6 has 5"),
    ],
)
def test_refused_settings(folder, param, transform, message):
    with pytest.raises(CaffeError, match=message) as caught:
        make(folder, param, transform)
    assert isinstance(caught.value, LayerParamError | DataError)


def test_missing_and_empty_files(folder):
    text = (
        'layer { name: "w" type: "WindowData" top: "data" top: "label" '
        'window_data_param { source: "no.txt" batch_size: 2 } transform_param { crop_size: 5 } }'
    )
    with pytest.raises(
        FileError, match=r"layer 'w' \(WindowData\): Could not open file no\.txt: No such"
    ):
        build_net(parse_text(text, NetParameter()), NetState())
    with pytest.raises(FileError, match=r"Could not open file no\.txt: No such file"):
        read_windows("no.txt")
    (folder / "windows.txt").write_text("\n")
    with pytest.raises(DataError, match=r"windows\.txt: lists no images"):
        read_windows(str(folder / "windows.txt"))
