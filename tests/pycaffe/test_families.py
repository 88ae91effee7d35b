"""The small net of every family, as its recipe for the shapes makes it, begins to learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import caffe
import numpy as np
import pytest
from caffe.catalogue import FAMILIES
from caffe.models.recipe import Family, make_nets
from caffe.proto import caffe_pb2

NUM_ITERATIONS = 12
BATCH_SIZE = 4


def inputs(size_px: int) -> list[Any]:
    """Layers that stand in for the database: images, and one object in each."""
    shapes = {"data": [BATCH_SIZE, 3, size_px, size_px], "label": [1, 1, BATCH_SIZE, 8]}
    layers = []
    for name, dim in shapes.items():
        layer: Any = caffe_pb2.LayerParameter(name=name, type="Input", top=[name])
        layer.input_param.shape.add().dim.extend(dim)
        layers.append(layer)
    return layers


def fill(net: caffe.Net) -> None:
    """Put a bright rectangle of its class's colour into each image, and its box into the labels."""
    images = net.blobs["data"].data
    images[...] = 20 * np.random.default_rng(5).standard_normal(images.shape)
    size_px = images.shape[-1]
    for item in range(BATCH_SIZE):
        left, top = 8 + 12 * item, 24 - 5 * item
        right, bottom = left + 30 + 4 * item, top + 40
        images[item, item % 3, top:bottom, left:right] += 120
        box = np.array([left, top, right, bottom]) / size_px
        net.blobs["label"].data[0, 0, item] = [item, 1 + item % 3, 0, *box, 0]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_loss_falls(family: Family, tmp_path: Path) -> None:
    recipe = family.recipe("shapes", "tiny")
    net = make_nets(recipe, "")["train"]
    assert net.layer[0].type == "AnnotatedData"
    layers = [*inputs(recipe.detector.image_size), *net.layer[1:]]
    del net.layer[:]
    net.layer.extend(layers)
    (tmp_path / "train.prototxt").write_text(str(net))
    (tmp_path / "solver.prototxt").write_text(
        f'train_net: "{tmp_path}/train.prototxt" type: "{recipe.schedule.solver_type}" '
        f"base_lr: {recipe.schedule.base_lr} momentum: 0.9 "
        f'weight_decay: 0.0005 lr_policy: "fixed" max_iter: {NUM_ITERATIONS} random_seed: 1 '
        f'snapshot_prefix: "{tmp_path}/tiny" snapshot_after_train: false'
    )
    solver = caffe.get_solver(str(tmp_path / "solver.prototxt"))
    fill(solver.net)
    losses = []
    for _ in range(NUM_ITERATIONS):
        solver.step(1)
        losses.append(float(solver.net.blobs["mbox_loss"].data))
    assert np.isfinite(losses).all()
    assert np.mean(losses[-3:]) < 0.6 * losses[0]
