"""Dividing a data set: shares, what stays together, seeds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets import AnnotatedPicture, Dataset, split
from caffe_ssd.datasets.likeness import groups, looks, near_duplicates
from caffe_ssd.datasets.pictures import PictureFile, look_at
from caffe_ssd.errors import DataError, UsageError
from tests.support.golden import BCCD, needs_bccd


def random_dataset(count: int, seed: int = 0) -> Dataset:
    """Pictures that do not look alike, with a common, a rare and a very rare class."""
    rng = np.random.default_rng(seed)
    pictures = []
    for index in range(count):
        names = ["common"] * int(rng.integers(1, 9)) + ["rare"] * int(rng.integers(4) == 0)
        names += ["very rare"] * (index % 25 == 3)
        boxes = [AnnotatedBox(name, 1, 2, 3, 4, False) for name in names]
        thumbnail = rng.integers(0, 256, (32, 32), dtype=np.uint8)
        file = PictureFile(size=(60, 80), digest=bytes(rng.bytes(8)), thumbnail=thumbnail)
        name = f"p{rng.integers(1 << 30)}_{index}.jpg"
        pictures.append(AnnotatedPicture(path=name, name=name, file=file, boxes=boxes))
    classes = ["common", "rare", "very rare"]
    return Dataset(root="drawn", format="voc", pictures=pictures, classes=classes)


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_every_class_gets_its_share(share: float) -> None:
    dataset = random_dataset(300)
    divided = split(dataset, share, seed=1)
    assert len(divided.part("test")) == pytest.approx(300 * share, abs=3)
    assert len(divided.part("train")) + len(divided.part("test")) == 300
    test = replace(divided, pictures=divided.part("test")).boxes_of_class()
    for name, count in dataset.boxes_of_class().items():
        assert test[name] == pytest.approx(count * share, abs=max(1.0, 0.02 * count)), name


def test_one_seed_one_division() -> None:
    dataset = random_dataset(60)
    parts = [[p.split for p in split(dataset, 0.25, seed).pictures] for seed in (1, 1, 2)]
    assert parts[0] == parts[1] != parts[2]
    assert not dataset.is_split
    divided = split(dataset, 0.25, 1)
    assert split(divided, 0.5, 9) is divided


def test_copies_and_frames_stay_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    background = cv2.resize(rng.integers(0, 255, (9, 12, 3), np.uint8), (240, 180))
    scenes = [cv2.resize(rng.integers(0, 255, (9, 12, 3), np.uint8), (240, 180)) for _ in range(6)]
    images = {f"scene_{'abcdef'[i]}.png": scene for i, scene in enumerate(scenes)}
    images["smaller.png"] = cv2.resize(scenes[0], (120, 90))
    images["brighter.png"] = cv2.convertScaleAbs(scenes[1], alpha=0.8, beta=40)
    for number in range(5):  # an object crosses the scene
        frame = background.copy()
        cv2.circle(frame, (40 + 30 * number, 90), 10, (255, 255, 255), -1)
        images[f"video_{number:03d}.png"] = frame
    for number in range(3):
        images[f"other_{number}.png"] = rng.integers(0, 255, (180, 240, 3), np.uint8)
    pictures = []
    for name, image in sorted(images.items()):
        cv2.imwrite(str(tmp_path / name), image)
        boxes = [AnnotatedBox("ring", 1, 2, 30, 40, False)]
        file = look_at(tmp_path / name)
        pictures.append(AnnotatedPicture(path=name, name=name, file=file, boxes=boxes))
    names = [picture.name for picture in pictures]
    together = {
        frozenset(names[index] for index in group)
        for group in groups(pictures, looks(pictures))
        if len(group) > 1
    }
    assert together == {
        frozenset(("scene_a.png", "smaller.png")),
        frozenset(("scene_b.png", "brighter.png")),
        frozenset(f"video_{number:03d}.png" for number in range(5)),
    }
    dataset = Dataset(root=str(tmp_path), format="voc", pictures=pictures, classes=["ring"])
    for seed in range(5):
        divided = {p.name: p.split for p in split(dataset, 0.3, seed).pictures}
        assert all(len({divided[name] for name in group}) == 1 for group in together)
        assert set(divided.values()) == {"train", "test"}


def test_a_camera_that_stands_still() -> None:
    """One scene, 100 pictures that differ little: runs of neighbours are parted, copies are not."""
    rng = np.random.default_rng(8)
    scene = rng.integers(0, 256, (32, 32)).astype(np.int16)
    pictures = []
    for index in range(100):
        thumbnail = scene.copy()
        row, column = rng.integers(0, 28, 2)
        thumbnail[row : row + 3, column : column + 3] += 20
        digest = bytes([index if index != 77 else 3])
        small = thumbnail.clip(0, 255).astype(np.uint8)
        file = PictureFile(size=(60, 80), digest=digest, thumbnail=small)
        name = f"part_{index:04d}.jpg"
        boxes = [AnnotatedBox("ring", 1, 2, 3, 4, False)]
        pictures.append(AnnotatedPicture(path=name, name=name, file=file, boxes=boxes))
    vectors = looks(pictures)
    assert near_duplicates(pictures, vectors) == [(3, 77)]
    found = sorted(groups(pictures, vectors))
    assert [index for group in found for index in group] != list(range(100))
    assert found[0] == [*range(10), 77]
    assert found[7] == [70, 71, 72, 73, 74, 75, 76, 78, 79]
    dataset = Dataset(root="line", format="voc", pictures=pictures, classes=["ring"])
    divided = split(dataset, 0.2, 1)
    assert 15 <= len(divided.part("test")) <= 25


def test_it_refuses() -> None:
    dataset = random_dataset(10)
    for share in (0, 1, -0.5):
        with pytest.raises(UsageError, match="test_share is"):
            split(dataset, share)
    alone = replace(dataset, pictures=dataset.pictures[:1])
    with pytest.raises(DataError, match="cannot be divided into train and test"):
        split(alone)


@needs_bccd
def test_cells_on_glass_are_no_copies_of_each_other() -> None:
    """Real pictures that are alike in kind: of 364, two show the same field of view."""
    files = sorted((BCCD / "JPEGImages").glob("*.jpg"))
    pictures = [
        AnnotatedPicture(path=str(path), name=path.name, file=look_at(path), boxes=[])
        for path in files
    ]
    vectors = looks(pictures)
    pairs = [
        (files[i].stem[-5:], files[j].stem[-5:]) for i, j in near_duplicates(pictures, vectors)
    ]
    assert pairs == [("00037", "00038")]
    assert sum(len(group) > 1 for group in groups(pictures, vectors)) == 1
