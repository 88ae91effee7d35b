"""VideoData: files and cameras, skipping, the end of a video."""

from __future__ import annotations

import logging
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from torch import Tensor

from caffe_ssd.data.video import CameraFrames, VideoFrames
from caffe_ssd.errors import DataError, LayerError, LayerParamError
from caffe_ssd.layers.registry import LayerSpec, Runtime, build_layer
from caffe_ssd.layers.video_data import VideoData
from caffe_ssd.net import build_net
from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter, NetState
from caffe_ssd.proto.text import parse_text
from caffe_ssd.random import CaffeRandom
from caffe_ssd.scoring.whole_set import passes_over_set
from tests.layers.build import build

COUNT = 7
HEIGHT, WIDTH = 12, 16

Maker = Callable[..., VideoData]


def frame(number: int) -> np.ndarray:
    """Frame `number` of the video, BGR."""
    return np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A losslessly coded video."""
    path = str(tmp_path_factory.mktemp("video") / "v.avi")
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"FFV1"), 25, (WIDTH, HEIGHT))
    if not writer.isOpened():
        pytest.skip("this OpenCV writes no FFV1")
    for i in range(COUNT):
        writer.write(frame(i))
    writer.release()
    return path


@pytest.fixture
def make(video: str) -> Maker:
    """Builds a layer that reads the video."""

    def make(
        param: str = "", more: str = "", *, batch_size: int = 2, **kwargs: object
    ) -> VideoData:
        text = (
            f'video_data_param {{ video_type: VIDEO video_file: "{video}" {param} }} '
            f"data_param {{ batch_size: {batch_size} }} {more}"
        )
        layer = build("VideoData", text, **kwargs)  # type: ignore[arg-type]
        assert isinstance(layer, VideoData)
        return layer

    return make


@pytest.fixture
def interrupts() -> Iterator[list[int]]:
    """Collects SIGINT instead of being interrupted."""
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    yield caught
    signal.signal(signal.SIGINT, before)


def numbers(data: Tensor) -> list[int]:
    """Which frames these are."""
    known = [frame(i).transpose(2, 0, 1) for i in range(COUNT)]
    return [
        next(i for i, other in enumerate(known) if np.array_equal(other, item))
        for item in data.numpy()
    ]


def test_frames_come_in_order_with_zero_labels(make: Maker) -> None:
    layer = make(tops=2)
    assert layer.top_shapes() == ((2, 3, HEIGHT, WIDTH), (2,))
    for expected in ([0, 1], [2, 3], [4, 5]):
        data, label = layer()
        assert numbers(data) == expected
        assert label.tolist() == [0, 0]


def test_one_top(make: Maker) -> None:
    layer = make(batch_size=3)
    assert layer.top_shapes() == ((3, 3, HEIGHT, WIDTH),)
    assert numbers(layer()) == [0, 1, 2]


def test_skip_frames_drops_before_each_frame(make: Maker) -> None:
    assert numbers(make("skip_frames: 1", batch_size=3)()) == [1, 3, 5]
    assert numbers(make("skip_frames: 2")()) == [2, 5]


def test_transform_is_that_of_images(make: Maker) -> None:
    layer = make(
        "",
        "transform_param { resize_param { height: 9 width: 8 } crop_h: 5 crop_w: 6 "
        "mean_value: 3 mean_value: 4 mean_value: 5 scale: 0.5 mirror: true force_gray: true }",
    )
    assert layer.top_shapes() == ((2, 3, 5, 6),)
    for i, blob in enumerate(layer().numpy()):
        image = cv2.resize(frame(i), (8, 9))[2:7, 1:7].astype(np.float32)
        expected = (image - np.float32([3, 4, 5])).transpose(2, 0, 1) / 2
        assert any(np.array_equal(blob, e) for e in (expected, expected[:, :, ::-1]))


def test_the_process_is_interrupted_behind_the_last_frame(
    make: Maker, interrupts: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    layer = make()
    with caplog.at_level(logging.INFO):
        seen = [numbers(layer()) for _ in range(4)]
        assert seen[3] == [6, 0]  # filled up from the beginning
        assert interrupts == []
        seen = [numbers(layer()) for _ in range(4)]
    assert seen == [[1, 2], [3, 4], [5, 6], [0, 1]]
    assert interrupts == [signal.SIGINT] * 2
    assert [record.message for record in caplog.records] == ["Finished processing video."] * 2


def test_without_a_handler_it_is_a_keyboard_interrupt(make: Maker) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        layer = make(batch_size=COUNT)
        layer()
        with pytest.raises(KeyboardInterrupt):
            layer()
    finally:
        signal.signal(signal.SIGINT, before)


def test_seek_goes_on_as_if_never_stopped(make: Maker, interrupts: list[int]) -> None:
    layer = make("skip_frames: 1", batch_size=1)
    assert [numbers(layer())[0] for _ in range(2)] == [1, 3]
    for batch, expected in ((2, 5), (0, 1), (1, 3), (3, 1)):
        layer.seek(batch)
        assert numbers(layer()) == [expected]
    assert interrupts == []
    again = make("skip_frames: 1", batch_size=1)
    again.seek(1)
    assert numbers(again()) == [3]


def test_frames_in_any_order_are_the_same(video: str) -> None:
    frames = VideoFrames(video)
    expected = [frames[i] for i in range(COUNT)]
    assert len(frames) == COUNT
    for i in (4, 2, 2, 6, 0, 5):
        assert frames[i] == expected[i]
    copy = pickle.loads(pickle.dumps(frames))
    assert copy[3] == expected[3]


def test_a_pass_over_the_whole_video(video: str) -> None:
    text = (
        'layer { name: "v" type: "VideoData" top: "data" data_param { batch_size: 2 } '
        f'video_data_param {{ video_type: VIDEO video_file: "{video}" }} }}'
    )
    assert passes_over_set(build_net(parse_text(text, NetParameter()), NetState())) == 4


class Camera:
    """A camera whose pictures are numbered."""

    def __init__(self, device_id: int) -> None:
        self.taken = 0
        self.limit = 10 if device_id == 1 else 0

    def isOpened(self) -> bool:
        return True

    def grab(self) -> bool:
        self.taken += 1
        return self.taken <= self.limit

    def read(self) -> tuple[bool, np.ndarray | None]:
        if not self.grab():
            return False, None
        return True, np.full((HEIGHT, WIDTH, 3), self.taken, np.uint8)


def test_webcam(monkeypatch: pytest.MonkeyPatch, interrupts: list[int]) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    text = "video_data_param { device_id: 1 skip_frames: 1 } data_param { batch_size: 2 }"
    layer = build("VideoData", text)
    assert layer.top_shapes() == ((2, 3, HEIGHT, WIDTH),)
    # One picture is used up to learn the size.
    assert layer()[:, 0, 0, 0].tolist() == [4, 6]
    assert layer()[:, 0, 0, 0].tolist() == [8, 10]
    with pytest.raises(DataError, match=r"webcam 1 gives no picture"):
        layer()
    assert interrupts == []


def test_no_webcam(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Camera, "isOpened", lambda _: False)
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with pytest.raises(DataError, match=r"cannot open webcam 3, which video_data_param\.device_id"):
        CameraFrames(3)


def test_refused(make: Maker, tmp_path: Path, video: str) -> None:
    with pytest.raises(LayerParamError, match="video_file is not set"):
        build("VideoData", "video_data_param { video_type: VIDEO } data_param { batch_size: 1 }")
    with pytest.raises(LayerError, match="batch_size must be > 0"):
        make(batch_size=0)
    with pytest.raises(DataError, match="has 7 frames, but skip_frames 7 needs at least 8"):
        make("skip_frames: 7")
    with pytest.raises(DataError, match=r"'no\.avi' does not exist"):
        VideoFrames("no.avi")
    junk = tmp_path / "junk.avi"
    junk.write_bytes(b"no video at all")
    with pytest.raises(DataError, match=r"junk\.avi' cannot be opened by OpenCV"):
        VideoFrames(str(junk))


@pytest.mark.parametrize(("mirror", "draws"), [("false", 1), ("true", 3)])
def test_draws_from_the_net_s_stream(video: str, mirror: str, draws: int) -> None:
    text = (
        'name: "v" type: "VideoData" top: "data" data_param { batch_size: 2 } '
        f'video_data_param {{ video_type: VIDEO video_file: "{video}" }} '
        f"transform_param {{ mirror: {mirror} }}"
    )
    runtime = Runtime(rng=CaffeRandom(9))
    param = parse_text(text, LayerParameter())
    build_layer(LayerSpec(param=param, bottoms=(), runtime=runtime))
    assert runtime.rng.word() == int(CaffeRandom(9).words(draws + 1)[draws])


def test_a_webcam_without_pictures_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    with pytest.raises(DataError, match=r"^webcam 0 gives no picture$"):
        build("VideoData", "data_param { batch_size: 2 }")


def test_a_frame_that_is_missing_is_named(video: str) -> None:
    frames = VideoFrames(video)
    frames.num_frames = COUNT + 1  # as some containers claim
    with pytest.raises(
        DataError, match=r"v\.avi: frame 7 cannot be read, though there should be 8"
    ):
        frames[COUNT]


def test_the_layer_is_named(tmp_path: Path) -> None:
    text = (
        'layer { name: "film" type: "VideoData" top: "data" data_param { batch_size: 2 } '
        'video_data_param { video_type: VIDEO video_file: "gone.avi" } }'
    )
    with pytest.raises(DataError, match=r"layer 'film' \(VideoData\): video 'gone\.avi'"):
        build_net(parse_text(text, NetParameter()), NetState())
