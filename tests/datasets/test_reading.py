"""Annotations as other programs write them, and folders that are wrong."""

from __future__ import annotations

import json
import os
import shutil
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from caffe_ssd.data.annotation_files import AnnotatedBox
from caffe_ssd.datasets import Dataset, read_folder, write_folder, write_voc
from caffe_ssd.datasets.pictures import exif_orientation, look_at, turned
from caffe_ssd.errors import DataError, FileError, UsageError
from tests.datasets.test_doctor import with_exif
from tests.support.annotated import draw_picture, drawn_dataset

RING = AnnotatedBox("ring", 10, 20, 50, 60, False)


def picture(path: Path, size: tuple[int, int] = (90, 120), seed: int = 0) -> None:
    draw_picture(path, [RING], size, seed)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def boxes(dataset: Dataset) -> dict[str, list[AnnotatedBox]]:
    return {each.name: each.boxes for each in dataset.pictures}


def kinds(dataset: Dataset) -> set[str]:
    return {finding.kind for finding in dataset.findings}


def voc(name: str, *objects: str, size: str = "") -> str:
    return f"<annotation><filename>{name}</filename>{size}{''.join(objects)}</annotation>"


def voc_object(name: str = "ring", corners: tuple[float, ...] = (10, 20, 50, 60)) -> str:
    tags = ("xmin", "ymin", "xmax", "ymax")
    inside = "".join(f"<{tag}>{value}</{tag}>" for tag, value in zip(tags, corners, strict=True))
    return f"<object><name>{name}</name><bndbox>{inside}</bndbox></object>"


def test_voc_files_beside_their_pictures(tmp_path: Path) -> None:
    """As labelImg writes them; a name inside the file finds a picture that was renamed."""
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "deep" / "b.png")
    picture(tmp_path / "renamed.jpg")
    picture(tmp_path / "spare.jpg")
    write(tmp_path / "a.xml", voc("other.jpg", voc_object()))
    write(tmp_path / "deep" / "b.xml", voc("b.png"))
    write(tmp_path / "c.xml", voc("renamed.jpg", voc_object(corners=(1.5, 2, 3, 4))))
    write(tmp_path / "gone.xml", voc("gone.jpg", voc_object()))
    write(tmp_path / "spare.xml", "<annotation><object>")
    dataset = read_folder(tmp_path)
    assert boxes(dataset) == {
        "a.jpg": [RING],
        "deep/b.png": [],
        "renamed.jpg": [AnnotatedBox("ring", 1.5, 2, 3, 4, False)],
    }
    found = {finding.kind: [*finding.where] for finding in dataset.findings}
    assert found["no-picture"] == ["gone (gone.xml)"]
    assert found["damaged-annotation"][0].startswith("spare.xml: not a readable XML file")
    assert found["not-annotated"] == ["spare.jpg"]


def test_voc_difficult_behind_its_box_counts(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    late = voc_object().replace("</object>", "<difficult>1</difficult></object>")
    write(tmp_path / "a.xml", voc("a.jpg", late))
    assert boxes(read_folder(tmp_path))["a.jpg"] == [RING._replace(is_difficult=True)]


def test_annotations_of_another_size_are_scaled(tmp_path: Path) -> None:
    """A picture that was halved after somebody had annotated it."""
    picture(tmp_path / "a.jpg", (90, 120))
    size = "<size><width>240</width><height>180</height></size>"
    write(tmp_path / "a.xml", voc("a.jpg", voc_object(corners=(20, 40, 100, 120)), size=size))
    dataset = read_folder(tmp_path)
    assert boxes(dataset)["a.jpg"] == [RING]
    assert kinds(dataset) == {"other-size"}


def coco(names: list[str], **changes: object) -> dict[str, object]:
    images = [
        {"id": i, "file_name": name, "width": 120, "height": 90} for i, name in enumerate(names)
    ]
    annotations = [
        {"id": i, "image_id": i, "category_id": 3, "bbox": [10, 20, 40.0, 40], "iscrowd": i % 2}
        for i in range(len(names))
    ]
    categories = [{"id": 0, "name": "things"}, {"id": 3, "name": "ring"}]
    return {"images": images, "annotations": annotations, "categories": categories} | changes


def test_coco_of_roboflow(tmp_path: Path) -> None:
    """A file in each of train, valid and test, names that stand in each, an unused class 0."""
    for part in ("train", "valid", "test"):
        names = ["a.jpg", "b.jpg"]
        for seed, name in enumerate(names):
            picture(tmp_path / part / name, seed=seed)
        write(tmp_path / part / "_annotations.coco.json", json.dumps(coco(names)))
    dataset = read_folder(tmp_path)
    assert dataset.classes == ["ring"]
    assert [(p.name, p.split) for p in dataset.pictures] == [
        ("test/a.jpg", "test"),
        ("test/b.jpg", "test"),
        ("train/a.jpg", "train"),
        ("train/b.jpg", "train"),
        ("valid/a.jpg", "train"),
        ("valid/b.jpg", "train"),
    ]
    assert all(p.boxes == [RING._replace(is_difficult=p.name[-5] == "b")] for p in dataset.pictures)
    assert kinds(dataset) == {"split", "unused-class"}


def test_coco_as_published(tmp_path: Path) -> None:
    """Pictures in train2017 and val2017, two with one name; key points stand beside instances."""
    for part in ("train", "val"):
        picture(tmp_path / f"{part}2017" / "1.jpg")
        text = json.dumps(coco(["1.jpg"]))
        write(tmp_path / "annotations" / f"instances_{part}2017.json", text)
        write(tmp_path / "annotations" / f"person_keypoints_{part}2017.json", text)
    dataset = read_folder(tmp_path)
    assert [(p.name, p.split, p.boxes) for p in dataset.pictures] == [
        ("train2017/1.jpg", "train", [RING]),
        ("val2017/1.jpg", "test", [RING]),
    ]


def test_coco_faults(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    bad = [
        {"image_id": 0, "category_id": 9, "bbox": [1, 2, 3, 4]},
        {"image_id": 0, "category_id": 3, "bbox": [1, 2, 3]},
        {"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4]},
        {"image_id": 0, "category_id": 3, "bbox": [1, 2, 3, 4]},
    ]
    document = coco(["a.jpg", "lost.jpg"], annotations=bad)
    write(tmp_path / "x.json", json.dumps(document))
    dataset = read_folder(tmp_path)
    assert boxes(dataset) == {"a.jpg": [AnnotatedBox("ring", 1, 2, 4, 6, False)]}
    where = [place for finding in dataset.findings for place in finding.where]
    assert any("annotation 0: category_id 9 is no category" in place for place in where)
    assert any("annotation 1: bbox is [1, 2, 3]" in place for place in where)
    assert {"no-picture", "damaged-annotation"} <= kinds(dataset)


LINE = "1 0.25 0.4444444444444444 0.3333333333333333 0.4444444444444444\n"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("data.yaml", "train: ../train/images\nnc: 2\nnames: ['disc', 'ring']  # two\n"),
        ("data.yaml", 'names:\n- disc\n- "ring"\n'),
        ("data.yml", "path: /somewhere\nnames:\n  0: disc\n  1: ring\nnc: 2\n"),
        ("data.yaml", "names: {0: disc, 1: 'ring'}\n"),
        ("data.yaml", 'names: ["disc",\n  "ring"]\n'),
        ("classes.txt", "disc\nring\n"),
        ("obj.names", "disc\nring\n"),
        ("labels/classes.txt", "disc\r\nring\r\n"),
    ],
)
def test_yolo_names(tmp_path: Path, file: str, text: str) -> None:
    picture(tmp_path / "images" / "a.jpg")
    write(tmp_path / "labels" / "a.txt", LINE)
    write(tmp_path / file, text)
    dataset = read_folder(tmp_path)
    assert dataset.format == "yolo"
    assert boxes(dataset)["images/a.jpg"] == [RING]


def test_yolo_without_names_and_with_more_than_boxes(tmp_path: Path) -> None:
    for seed, name in enumerate(("a", "b", "c", "d", "e")):
        picture(tmp_path / f"{name}.jpg", seed=seed)
    write(tmp_path / "a.txt", LINE)
    corners = [(10, 20), (50, 20), (30, 60)]
    polygon = " ".join(f"{x / 120:.6f} {y / 90:.6f}" for x, y in corners)
    write(tmp_path / "b.txt", f"1 {polygon}\n")
    write(tmp_path / "c.txt", "1 60 45 20 20\n")
    write(tmp_path / "d.txt", "")
    dataset = read_folder(tmp_path)
    ring = RING._replace(category="1")
    assert boxes(dataset) == {"a.jpg": [ring], "b.jpg": [ring], "d.jpg": [], "e.jpg": []}
    assert kinds(dataset) == {"no-names", "polygon", "damaged-annotation", "no-label-file"}
    damaged = next(f for f in dataset.findings if f.kind == "damaged-annotation")
    assert "holds pixels rather than fractions" in damaged.where[0]


def test_yolo_trees(tmp_path: Path) -> None:
    """The same names in train and val, as Ultralytics lays them out."""
    for part in ("train", "val"):
        picture(tmp_path / "images" / part / "a.jpg")
        write(tmp_path / "labels" / part / "a.txt", LINE)
    write(tmp_path / "data.yaml", "train: images/train\nval: images/val\nnames: [disc, ring]\n")
    dataset = read_folder(tmp_path)
    assert [(p.name, p.split) for p in dataset.pictures] == [
        ("images/train/a.jpg", "train"),
        ("images/val/a.jpg", "test"),
    ]


def test_yolo_class_without_a_name(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.txt", LINE)
    write(tmp_path / "classes.txt", "disc\n")
    with pytest.raises(DataError, match=r"not one annotated picture can be used.*class 1 has no"):
        read_folder(tmp_path)


def test_yaml_that_is_not_understood(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.txt", LINE)
    write(tmp_path / "data.yaml", "names: *anchor\n")
    with pytest.raises(DataError, match=r"names is '\*anchor'; need a list"):
        read_folder(tmp_path)


def test_cvat(tmp_path: Path) -> None:
    """Boxes, turned boxes, polygons, flags; video tasks are refused with a word of advice."""
    picture(tmp_path / "images" / "a.jpg")
    shapes = """
      <box label="ring" occluded="1" xtl="10" ytl="20" xbr="50.0" ybr="60"/>
      <box label="ring" xtl="20" ytl="30" xbr="40" ybr="50" rotation="90.0">
        <attribute name="difficult">true</attribute></box>
      <polygon label="disc" points="1,2;3.5,4;0,9"/>
      <points label="ring" points="1,2"/><tag label="ring"/>"""
    image = f'<image id="0" name="sub/a.jpg" width="120" height="90">{shapes}</image>'
    write(tmp_path / "annotations.xml", f"<annotations>{image}</annotations>")
    dataset = read_folder(tmp_path)
    found = boxes(dataset)["images/a.jpg"]
    assert found[0] == RING
    assert found[1].corners_px == pytest.approx((20, 30, 40, 50))
    assert found[1].is_difficult
    assert found[2] == AnnotatedBox("disc", 0, 2, 3.5, 9, False)
    assert len(found) == 3
    assert kinds(dataset) == {"occluded", "polygon"}
    write(tmp_path / "annotations.xml", '<annotations><track id="0" label="ring"/></annotations>')
    with pytest.raises(DataError, match="export the task as 'CVAT for images 1"):
        read_folder(tmp_path)


def test_labelme(tmp_path: Path) -> None:
    """Corners in any order, polygons, circles; points are no objects."""
    picture(tmp_path / "a.jpg")
    shapes = [
        {"label": "ring", "shape_type": "rectangle", "points": [[50, 60], [10, 20]], "flags": {}},
        {"label": "ring", "shape_type": "circle", "points": [[30, 40], [30, 60]]},
        {"label": "ring", "points": [[10, 20], [50, 30], [12, 60]]},
        {"label": "ring", "shape_type": "point", "points": [[10, 20]]},
    ]
    document = {"shapes": shapes, "imagePath": "..\\pictures\\a.jpg", "imageData": None}
    write(tmp_path / "a.json", json.dumps(document))
    dataset = read_folder(tmp_path)
    assert boxes(dataset)["a.jpg"] == [RING, RING, RING]
    assert kinds(dataset) == {"polygon", "no-box"}


@pytest.mark.parametrize(
    "text",
    [
        "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,120,90,ring,10,20,50,60\n",
        "image;x1;y1;x2;y2;label\nsomewhere/a.jpg;10;20;50;60;ring\n",
        "/home/me/a.jpg,10,20,50,60,ring\nb.jpg,,,,,\n",
        "image_id,xmin,xmax,ymin,ymax,label\na.jpg,10,50,20,60,ring\n",
    ],
)
def test_csv(tmp_path: Path, text: str) -> None:
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg", seed=1)
    write(tmp_path / "labels.csv", text)
    found = boxes(read_folder(tmp_path))
    assert found["a.jpg"] == [RING]
    assert found.get("b.jpg") == ([] if "b.jpg" in text else None)


def test_csv_in_fractions(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    write(tmp_path / "a.csv", "filename,class,xmin,ymin,xmax,ymax\na.jpg,ring,0.1,0.2,0.5,0.6\n")
    with pytest.raises(DataError, match=r"a.csv:2: the box is in fractions of the picture"):
        read_folder(tmp_path)


def test_folders_that_cannot_be_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        read_folder(tmp_path / "none")
    picture(tmp_path / "a.jpg")
    write(tmp_path / "notes.txt", "1 2 3 4 5\n")
    with pytest.raises(DataError, match=r"holds 1 picture and 2 files in all \(a.jpg, notes.txt"):
        read_folder(tmp_path)
    write(tmp_path / "a.xml", voc("a.jpg", voc_object()))
    write(tmp_path / "a.txt", LINE)
    with pytest.raises(DataError, match=r"more than one format: voc \(a.xml\); yolo \(a.txt\)"):
        read_folder(tmp_path)
    assert read_folder(tmp_path, "voc").format == "voc"
    with pytest.raises(UsageError, match="format is 'xml'; allowed: voc, coco"):
        read_folder(tmp_path, "xml")
    with pytest.raises(DataError, match="no annotations in the format coco"):
        read_folder(tmp_path, "coco")


def test_lists_divide_a_folder(tmp_path: Path) -> None:
    for index in range(4):
        picture(tmp_path / "JPEGImages" / f"{index}.jpg", seed=index)
        write(tmp_path / "Annotations" / f"{index}.xml", voc(f"{index}.jpg", voc_object()))
    write(tmp_path / "ImageSets" / "Main" / "train.txt", "0\n")
    write(tmp_path / "ImageSets" / "Main" / "val.txt", "1\n3\n")
    dataset = read_folder(tmp_path)
    assert [p.split for p in dataset.pictures] == ["train", "test", "", "test"]
    assert kinds(dataset) == {"split", "no-split"}
    write(tmp_path / "ImageSets" / "Main" / "test.txt", "2\n0\n")
    dataset = read_folder(tmp_path)
    assert [p.split for p in dataset.pictures] == ["train", "train", "test", "train"]
    assert kinds(dataset) == {"split", "in-both-lists"}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_boxes_with_pictures(tmp_path: Path, orientation: int) -> None:
    """A box of the stored pixels stays on its object when OpenCV turns the picture."""
    image = np.zeros((90, 120, 3), np.uint8)
    image[20:60, 10:50] = 255
    data = with_exif(cv2.imencode(".jpg", image)[1].tobytes(), orientation)
    (tmp_path / "a.jpg").write_bytes(data)
    assert exif_orientation(data) == orientation
    upright = cv2.imread(str(tmp_path / "a.jpg"))
    assert upright is not None
    assert look_at(tmp_path / "a.jpg").size == upright.shape[:2]
    rows, columns = np.nonzero(upright[..., 0] > 127)
    on_picture = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert turned(RING, (90, 120), orientation).corners_px == on_picture
    # Annotations that state the stored size mean the stored pixels.
    for height, width, box in ((90, 120, RING.corners_px), (*upright.shape[:2], on_picture)):
        size = f"<size><width>{width}</width><height>{height}</height></size>"
        write(tmp_path / "a.xml", voc("a.jpg", voc_object(corners=box), size=size))
        dataset = read_folder(tmp_path)
        same_frame = orientation > 4 or box == on_picture
        assert (boxes(dataset)["a.jpg"][0].corners_px == on_picture) == same_frame
        assert kinds(dataset) == ({"rotated"} if orientation > 1 else set())


SHAPE = {"label": "ring", "shape_type": "rectangle", "points": [[10, 20], [30, 40]]}


def test_what_is_written_for_databases_is_upright_and_in_colour(tmp_path: Path) -> None:
    """Data layers ignore EXIF and keep the channels of a file."""
    dataset = drawn_dataset(tmp_path / "drawn", count=4, num_test=1)
    path = Path(dataset.pictures[0].path)
    path.write_bytes(with_exif(path.read_bytes(), 6))
    gray = Path(dataset.pictures[1].path)
    image = cv2.imread(str(gray), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    gray.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    for index, drawn in enumerate(dataset.pictures):
        target = tmp_path / "all" / ("test" if index == 3 else "train") / Path(drawn.name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(drawn.path, target)
        write(
            target.with_suffix(".json"), json.dumps({"shapes": [SHAPE], "imagePath": target.name})
        )
    read = read_folder(tmp_path / "all")
    write_voc(read, tmp_path / "out")
    for each in read.pictures:
        name = Path(each.name).stem
        stored = next((tmp_path / "out" / "JPEGImages").glob(f"{name}.*"))
        shown = cv2.imread(str(stored), cv2.IMREAD_UNCHANGED)
        assert shown is not None
        assert shown.shape == (*each.size, 3)
        assert stored.is_symlink() == each.file.is_plain


def test_damaged_pictures(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "b.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "c.png").write_bytes(b"\x89PNG" + struct.pack(">I", 3))
    write(
        tmp_path / "x.csv", "".join(f"{n},10,20,50,60,ring\n" for n in ("a.jpg", "b.jpg", "c.png"))
    )
    dataset = read_folder(tmp_path)
    assert [(p.name, bool(p.file.damage)) for p in dataset.pictures] == [
        ("a.jpg", False),
        ("b.jpg", True),
    ]
    assert kinds(dataset) == {"unreadable"}


def test_a_run_inside_the_folder_is_not_read(tmp_path: Path) -> None:
    write_folder(drawn_dataset(tmp_path / "drawn", 4, 0), tmp_path / "mine", "voc")
    before = read_folder(tmp_path / "mine")
    run = tmp_path / "mine" / "mine_fit"
    write_folder(drawn_dataset(tmp_path / "drawn", 4, 1), run / "data", "voc")
    (run / "fit.json").write_text("{}")
    after = read_folder(tmp_path / "mine")
    assert [each.name for each in after.pictures] == [each.name for each in before.pictures]
    assert not after.is_split


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_of_pictures_are_text(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"x\xff.jpg")).touch()
    with pytest.raises(DataError, match=r"x\\xff\.jpg is not UTF-8"):
        read_folder(tmp_path)
