"""A training net without its data: random pictures and objects in place of a database.

For measuring what an iteration takes where there is nothing to read.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from caffe_ssd.proto.caffe_pb2 import LayerParameter, NetParameter

SIZE = 300
NUM_CLASSES = 21
OBJECTS_PER_IMAGE = 3


def fed_by_hand(param: NetParameter, *, batch: int, size: int = SIZE) -> NetParameter:
    """The training net with two Inputs in place of its data layer."""
    rows = batch * OBJECTS_PER_IMAGE
    given = []
    for name, shape in (("data", (batch, 3, size, size)), ("label", (1, 1, rows, 8))):
        layer = LayerParameter(name=name, type="Input", top=[name])
        layer.input_param.shape.add().dim.extend(shape)
        given.append(layer)
    fed = NetParameter()
    fed.CopyFrom(param)
    del fed.layer[:]
    fed.layer.extend([*given, *param.layer[1:]])
    return fed


def images(batch: int = 1, *, size: int = SIZE, seed: int = 3) -> Tensor:
    """(batch, 3, size, size), like pictures minus their mean."""
    rng = torch.Generator().manual_seed(seed)
    return 50 * torch.randn(batch, 3, size, size, generator=rng)


def objects(
    batch: int,
    *,
    per_image: int = OBJECTS_PER_IMAGE,
    num_classes: int = NUM_CLASSES,
    seed: int = 5,
) -> list[tuple[Tensor, Tensor]]:
    """Boxes (G, 4) in [0, 1] and classes (G,) of each image."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(batch):
        low = rng.uniform(0, 0.6, (per_image, 2))
        high = low + rng.uniform(0.1, 0.4, (per_image, 2))
        boxes = torch.from_numpy(np.concatenate([low, high], 1).astype(np.float32))
        found.append((boxes, torch.from_numpy(rng.integers(1, num_classes, per_image))))
    return found


def label_blob(found: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The objects as AnnotatedData gives them: (1, 1, rows, 8)."""
    rows = [
        [item, int(label), index, *box.tolist(), 0]
        for item, (boxes, labels) in enumerate(found)
        for index, (box, label) in enumerate(zip(boxes, labels, strict=True))
    ]
    return torch.tensor(rows, dtype=torch.float32)[None, None]
