"""Models rewritten for other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import caffe
import numpy as np
import pytest
from caffe.models import transfer
from caffe.models.dsod_recipes import DSOD
from caffe.models.recipe import make_nets
from caffe.models.scratchdet_recipes import SCRATCHDET

ROOT = Path(__file__).resolve().parents[2]


def open_tiny(folder: Path, family: Any, num_classes: int) -> Any:
    """Return a tiny net for pictures with that many classes."""
    recipe = family.recipe("shapes", "tiny")
    recipe = recipe._replace(dataset=recipe.dataset._replace(num_classes=num_classes))
    deploy = make_nets(recipe, "")["deploy"]
    deploy.layer[-1].detection_output_param.ClearField("save_output_param")
    path = folder / f"deploy{num_classes}.prototxt"
    path.write_text(str(deploy))
    return caffe.Net(str(path), caffe.TEST)


def filled(net: Any) -> Any:
    rng = np.random.default_rng(7)
    for name, blobs in net.params.items():
        for index, blob in enumerate(blobs):
            low, high = (0.5, 1.5) if "bn" in name.lower() or index else (-0.1, 0.1)
            blob.data[...] = rng.uniform(low, high, blob.data.shape)
    return net


def class_scores(net: Any, image: Any) -> Any:
    net.blobs["data"].data[...] = image
    net.forward()
    num_priors = net.blobs["mbox_loc"].data.shape[1] // 4
    return net.blobs["mbox_conf"].data.reshape(num_priors, -1).copy()


@pytest.mark.parametrize("family", [DSOD, SCRATCHDET], ids=lambda f: f.name)
def test_kept_classes_keep_their_scores(family: Any, tmp_path: Path) -> None:
    labels = [0, 4, 2]
    old = filled(open_tiny(tmp_path, family, 6))
    path = tmp_path / "old.caffemodel"
    old.save(str(path))
    model = transfer.read_model(str(path))
    assert transfer.count_classes_of(model) == 6
    picked = tmp_path / "picked.caffemodel"
    transfer.write_model(str(picked), transfer.with_classes(model, labels))
    new = open_tiny(tmp_path, family, len(labels))
    new.copy_from(str(picked))
    image = np.random.default_rng(1).uniform(-99, 99, old.blobs["data"].data.shape)
    expected = class_scores(old, image)[:, labels]
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(class_scores(new, image), expected, rtol=1e-4, atol=1e-4)


def test_forgotten_classes_start_anew(tmp_path: Path) -> None:
    old = filled(open_tiny(tmp_path, DSOD, 6))
    path = tmp_path / "old.caffemodel"
    old.save(str(path))
    forgotten = transfer.without_classes(transfer.read_model(str(path)))
    transfer.write_model(str(tmp_path / "start.caffemodel"), forgotten)
    new = open_tiny(tmp_path, DSOD, 9)
    before = new.params["First_norm_mbox_conf"][0].data.copy()
    new.copy_from(str(tmp_path / "start.caffemodel"))
    np.testing.assert_array_equal(new.params["First_norm_mbox_conf"][0].data, before)
    for name in ("Convolution1", "First_norm_mbox_loc"):
        np.testing.assert_array_equal(new.params[name][0].data, old.params[name][0].data)


def test_class_map_of_coco() -> None:
    labels = transfer.read_class_map(str(ROOT / "data/coco/coco_voc_map.txt"), 21)
    assert (labels[0], labels[1], labels[15], labels[20]) == (0, 5, 1, 63)
    assert len(set(labels)) == 21


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,0,none\n1;1;a\n", r"map.txt:2: expected old label,new label,name, got '1;1;a'"),
        ("0,0,none\n5,2,b\n", r"new labels \[0, 2\], but the model has labels 0 to 2"),
    ],
)
def test_malformed_class_maps(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "map.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        transfer.read_class_map(str(path), 3)


def test_unusable_models(tmp_path: Path) -> None:
    path = tmp_path / "model.caffemodel"
    with pytest.raises(ValueError, match=r"cannot read model .*No such file"):
        transfer.read_model(str(path))
    path.write_bytes(b"\xff\xff not a message")
    with pytest.raises(ValueError, match="is no binary caffemodel"):
        transfer.read_model(str(path))
    with pytest.raises(ValueError, match=r"no layers .*_mbox_conf"):
        transfer.count_classes_of(caffe.proto.caffe_pb2.NetParameter())
    net = open_tiny(tmp_path, DSOD, 6)
    net.save(str(path))
    with pytest.raises(ValueError, match="label 6 is none of the model's 0 to 5"):
        transfer.with_classes(transfer.read_model(str(path)), [0, 6])
    with pytest.raises(ValueError, match="cannot read class map"):
        transfer.read_class_map(str(tmp_path / "absent.txt"), 3)
