"""`caffe test` and `caffe detect` with -scales and -flip."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
import torch

from caffe_ssd.boxes.merging import merge_detections, mirrored
from caffe_ssd.cli.flags import ActionParser, add_scale_flags, scales_of
from caffe_ssd.cli.main import main
from caffe_ssd.errors import UsageError
from caffe_ssd.net import Net
from caffe_ssd.net.weights import save_binary
from caffe_ssd.scoring.multi_scale import MultiScaleRule, merge_rule
from caffe_ssd.scoring.multi_scale_passes import MultiScalePasses, own_size
from caffe_ssd.scoring.scales import MultiScale, Scale, scaled
from caffe_ssd.scoring.whole_set import end_with_set
from tests.data.databases import picture, write_small_database
from tests.support.golden import SHARED_GOLDEN, needs_shared
from tests.support.tiny_detector import BODY, DATA, INPUT, JUDGE, tiny_detector

EVAL = SHARED_GOLDEN / "eval"
SAVED = """save_output_param { output_directory: "out" output_name_prefix: "boxes"
  output_format: "COCO" label_map_file: "map.prototxt" name_size_file: "sizes.txt" }"""
SIZES = ((24, 40), (32, 48), (48, 64))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven pictures in batches of four, nets to run on them, and weights."""
    monkeypatch.chdir(tmp_path)
    write_small_database(tmp_path / "lmdb")
    Path("sizes.txt").write_text("".join(f"{n} 30 40\n" for n in range(7)))
    classes = enumerate(("none_of_the_above", "a", "b"))
    Path("map.prototxt").write_text(
        "".join(f'item {{ name: "{n}" label: {i} display_name: "{n}" }}\n' for i, n in classes)
    )
    saving = BODY.replace("keep_top_k: 40", f"keep_top_k: 40 {SAVED}")
    Path("test.prototxt").write_text(DATA + saving + JUDGE)
    Path("deploy.prototxt").write_text(INPUT + saving)
    save_binary(tiny_detector(), "w.caffemodel")
    return tmp_path


def rule(net: Net, *sizes: tuple[int, int], flip: bool = False) -> MultiScaleRule:
    return MultiScaleRule(sizes=sizes, flip=flip, merge=merge_rule(net))


def flags(*arguments: str) -> MultiScale | None:
    parser = ActionParser("test", description="", examples="")
    add_scale_flags(parser)
    return scales_of(parser.parse_action(list(arguments)))


def passes(
    net: Net, make: Callable[[Net], Callable[[], dict[str, torch.Tensor]]]
) -> list[dict[str, torch.Tensor]]:
    end_with_set(net)
    forward = make(net)
    with torch.no_grad():
        return [forward() for _ in range(2)]


def looking(looks: MultiScaleRule) -> Callable[[Net], Callable[[], dict[str, torch.Tensor]]]:
    def make(net: Net) -> Callable[[], dict[str, torch.Tensor]]:
        multi_scale = MultiScalePasses(net, looks)
        return lambda: multi_scale.forward().blobs

    return make


def test_a_single_scale_is_the_plain_pass(folder: Path) -> None:
    """Bit for bit, also in the short last batch; and so are the files."""
    plain, single = (tiny_detector(Path("test.prototxt").read_text()) for _ in range(2))
    want = passes(plain, lambda net: lambda: net(keep=["found"]).blobs)
    text = Path("out/boxes.json").read_text()
    Path("out/boxes.json").unlink()
    only = rule(single, own_size(single))
    have = passes(single, looking(only))
    for mine, theirs in zip(have, want, strict=True):
        assert len(mine["found"][0, 0]) > 40
        assert torch.equal(mine["found"], theirs["found"])
        assert torch.equal(mine["score"], theirs["score"])
    assert Path("out/boxes.json").read_text() == text


def test_each_scale_reads_what_a_net_of_that_size_would(folder: Path) -> None:
    """The net's own size is not among the scales; the set ends in mid-batch."""
    text = (DATA + BODY + JUDGE).replace
    looks: list[list[torch.Tensor]] = [[], []]
    for height, width in (SIZES[0], SIZES[2]):
        net = tiny_detector(text("height: 32 width: 48", f"height: {height} width: {width}"))
        for batch, blobs in enumerate(passes(net, lambda n: lambda: n(keep=["data"]).blobs)):
            deploy = tiny_detector()
            for data in (blobs["data"], blobs["data"].flip(3)):
                rows = deploy({"data": data}).blobs["found"][0, 0]
                looks[batch].append(rows if data is blobs["data"] else mirrored(rows))
    net = tiny_detector(text("found", "found"))
    both = rule(net, SIZES[0], SIZES[2], flip=True)
    have = passes(net, looking(both))
    for blobs, parts in zip(have, looks, strict=True):
        assert torch.equal(blobs["found"][0, 0], merge_detections(parts, both.merge))


def test_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = ["-weights", "w.caffemodel"]
    looks = ["-scales", "24x40,1,48x64", "-flip"]
    test = ["test", "-model", "test.prototxt", *net, "-workers", "0"]
    assert main([*test, *looks, "-protocol", "voc2007", "-json", "scores.json"]) == 0
    shown = capsys.readouterr()
    assert "Looking at 24x40, 32x48, 48x64 (height x width), mirrored too; merged by vote" in (
        shown.err
    )
    assert "VOC2007" in shown.out
    found = json.loads(Path("out/boxes.json").read_text())
    assert {item["image_id"] for item in found} == set(range(7))
    numbers = json.loads(Path("scores.json").read_text())["numbers"]
    assert "reference mAP (11point)" in numbers

    cv2.imwrite("a.png", picture(33, 57))
    detect = ["detect", "a.png", "-model", "deploy.prototxt", *net, "-threshold", "0"]
    counts = []
    for more in ([], ["-scales", "1"], [*looks, "-merge", "nms"]):
        assert main([*detect, *more, "-json", "d.json"]) == 0
        (entry,) = json.loads(Path("d.json").read_text())
        counts.append([each["box"] for each in entry["detections"]])
    assert counts[0] == counts[1] != counts[2]
    assert main([*detect, "-scales", "2x48"]) == 0  # padded layers take nearly everything


@pytest.mark.parametrize(
    ("scale", "size", "want"),
    [
        (1.0, (300, 300), (300, 300)),
        (0.8, (300, 300), (240, 240)),
        (500, (300, 300), (500, 500)),
        (1.2, (144, 192), (176, 224)),  # multiples of 16, as the net's own
        (288, (144, 192), (288, 384)),
        ((300, 416), (144, 192), (300, 416)),
        (0.001, (320, 512), (64, 64)),
    ],
)
def test_scales_as_sizes(scale: Scale, size: tuple[int, int], want: tuple[int, int]) -> None:
    assert scaled(scale, size) == want


@pytest.mark.parametrize("word", ["", "big", "-1", "0", "300.5", "nan", "inf", "3x"])
def test_what_is_no_scale(word: str) -> None:
    with pytest.raises(UsageError, match=r"takes factors like 0\.8"):
        flags(f"-scales={word}")


def test_rules_from_flags() -> None:
    net = tiny_detector()
    looks = flags("-scales", "1,64", "-merge", "vote", "-object_sizes", "0.2:9,0:0.5")
    assert looks is not None
    made = looks.rule(net, (32, 48))
    assert made.sizes == ((32, 48), (64, 96))
    assert made.object_sizes == ((0.2, 9.0), (0.0, 0.5))
    assert made.merge.vote_threshold == 0.5
    assert flags() is None
    mirrored = flags("-flip", "-merge", "nms")
    assert mirrored is not None
    assert mirrored.rule(net, (32, 48)).sizes == ((32, 48),)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("-merge nms", "-merge belongs to -scales or -flip"),
        ("-vote_threshold 0.5", "-vote_threshold belongs to -scales or -flip"),
        ("-flip -merge nms -vote_threshold 0.5", "-vote_threshold belongs to -merge vote"),
        ("-flip -vote_threshold 2", "must be from 0 to 1, got 2"),
        ("-scales 1,1.0", r"a size is there twice \(32x48, 32x48\)"),
        ("-scales 1,2 -object_sizes 0:1", r"one range per scale \(2\), got 1"),
        ("-scales 1 -object_sizes 1:0", "takes ranges like 0.1:0.5, got '1:0'"),
        ("-scales 1 -object_sizes 1", "takes ranges like 0.1:0.5, got '1'"),
    ],
)
def test_flags_that_make_no_sense(arguments: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        (flags(*arguments.split()) or MultiScale()).rule(tiny_detector(), (32, 48))


def test_nets_that_are_refused(folder: Path) -> None:
    extra = 'layer { name: "more" type: "Flatten" bottom: "loc" top: "more" }'
    for text, message in (
        (INPUT + BODY, "one layer that reads a database; this one has 0"),
        (DATA + 'layer { name: "s" type: "Silence" bottom: "data" bottom: "label" }', "Output"),
        (DATA + BODY + JUDGE + extra, "the net has the output 'more'"),
    ):
        net = tiny_detector(text)
        looks = MultiScaleRule(sizes=((32, 48),), merge=merge_rule(tiny_detector()))
        with pytest.raises(UsageError, match=message):
            MultiScalePasses(net, looks)


@pytest.mark.slow
@needs_shared
@pytest.mark.parametrize(
    ("more", "want"),
    [
        ([], 0.863322),
        (["-scales", "1"], 0.863322),
        (["-flip"], 0.870497),
        (["-scales", "0.8,1,1.2", "-flip"], 0.876624),
        (["-scales", "0.8,1,1.2", "-flip", "-merge", "nms"], 0.873129),
    ],
)
def test_recorded_detector(
    more: list[str], want: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The numbers of docs/results.md."""
    for path in EVAL.iterdir():
        if path.suffix in (".prototxt", ".caffemodel", ".txt"):
            shutil.copyfile(path, tmp_path / path.name)
    shutil.copytree(EVAL / "bccd_test_lmdb", tmp_path / "bccd_test_lmdb")
    monkeypatch.chdir(tmp_path)
    net = ["-model", "test.prototxt", "-weights", "bccd_dense_iter_3200.caffemodel"]
    flags = ["-protocol", "voc2007", "-json", "scores.json", "-workers", "0"]
    assert main(["test", *net, *flags, *more]) == 0
    have = json.loads(Path("scores.json").read_text())["numbers"]["reference mAP (11point)"]
    assert have == pytest.approx(want, abs=1e-3 if more else 1e-6)
