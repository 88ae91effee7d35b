"""examples/dsod/DSOD300_detection_demo.py: `caffe detect` on a generated deploy net."""

from __future__ import annotations

from pathlib import Path

import caffe
import cv2
import numpy as np
import pytest
from caffe.models.dsod_recipes import dsod_pascal
from caffe.models.recipe import default_places, make_nets

from tests.examples.conftest import Run

SCRIPT = "dsod/DSOD300_detection_demo.py"


def write_tiny_model(folder: Path) -> tuple[Path, Path]:
    """Write a tiny DSOD as generated, result files and all, and random weights."""
    deploy = make_nets(dsod_pascal("tiny"), str(folder / "results"))["deploy"]
    folder.mkdir(parents=True, exist_ok=True)
    model, bare = folder / "deploy.prototxt", folder / "bare.prototxt"
    model.write_text(str(deploy))
    deploy.layer[-1].detection_output_param.ClearField("save_output_param")
    bare.write_text(str(deploy))
    net = caffe.Net(str(bare), caffe.TEST)
    rng = np.random.default_rng(0)
    for name, blobs in net.params.items():
        if len(blobs) == 3:  # BatchNorm: unit statistics
            blobs[0].data[...], blobs[1].data[...], blobs[2].data[...] = 0, 1, 1
        elif "mbox" in name and len(blobs) == 1:
            blobs[0].data[...] = 0.1 * rng.standard_normal(blobs[0].data.shape)
    weights = folder / f"{dsod_pascal().model_name}_iter_9.caffemodel"
    net.save(str(weights))
    return model, weights


@pytest.mark.parametrize("is_named", [True, False])
def test_detects(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], is_named: bool
) -> None:
    folder = tmp_path / ("mine" if is_named else default_places(dsod_pascal()).model_dir)
    model, weights = write_tiny_model(folder)
    Path("labels.prototxt").write_text("item { name: 'thing' label: 1 display_name: 'a thing' }")
    picture = np.random.default_rng(1).integers(0, 256, (70, 110, 3), dtype=np.uint8)
    cv2.imwrite("street.png", picture)
    flags = ["--image", "street.png", "--label-map", "labels.prototxt", "--threshold", "0.01"]
    if is_named:
        flags += ["--model", str(model), "--weights", str(weights)]
    assert run(SCRIPT, *flags, "-json", "found.json") == 0
    assert "xmin" in capsys.readouterr().out
    drawn = cv2.imread("street_detections.png")
    assert drawn is not None
    assert drawn.shape == picture.shape
    assert not (drawn == picture).all()
    assert Path("found.json").exists()  # a flag of `caffe detect`
    assert not Path("mine/results").exists()


def test_without_a_snapshot(run: Run) -> None:
    cv2.imwrite("street.png", np.zeros((9, 9, 3), np.uint8))
    assert run(SCRIPT, "--image", "street.png") == 1
