"""Writes docs/models.md, the published models and the commands that train them.

python docs/make_models.py
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from caffe.catalogue import ABLATIONS, CATALOGUE, Published, look_at
from caffe.models.dsod_recipes import DSOD

from caffe_ssd.files import atomic_write

TARGET = Path(__file__).with_name("models.md")

HEAD = """\
# Models

Every published model of the four families, and what to type to train it. `make docs` writes
this page from `caffe.catalogue`; a test fails when it is out of date. `caffe models` prints the
same, `caffe models NAME` more of each.

Scores are the papers' (VOC's mAP in percent; for COCO the mean over IoU 0.5 to 0.95). Nothing
below was trained here. *Parameters* count every number in the file of weights, BatchNorm's
statistics included, and are those of the published files where the net is known exactly. Nets,
solvers and folders of `DSOD300_pascal.py`, `DSOD300_pascal++.py`, `DSOD300_coco.py`,
`GRP_DSOD320_pascal.py`, `ssd_pascal.py`, `scratchdet_pascal.py` and `scratchdet_coco.py` equal
what the original scripts write, field for field, but for two oversights, mended here: their
results of VOC07++12 go to the folder of VOC2007, and ScratchDet's script for COCO reads VOC's
databases. The other rows are those scripts with another net, data set or rate; their schedules
were not published.

All scripts of a family take `--variant` and `--data`, so that any net is trained on any data
set, your own included (`--train-data`, `--test-data`, `--label-map`, `--name-size-file`).
`--variant tiny --data shapes` is a net of the family that learns the synthetic shapes in
minutes on a CPU.

What a flag changes in a training stands in the names of its folders (`..._batch12`,
`..._lr0.001`), so that each row, and each experiment of your own, has a folder of its own and
resumes from nothing but itself; a published script without flags keeps the original's.

`--fine-tune FILE` starts from a detector of other data, at a learning rate of 0.001. A model with
COCO's 81 classes keeps the 20 of VOC (`data/coco/coco_voc_map.txt`); for other classes give
`--class-map FILE` with lines of `old label,new label,name`, or let the class predictions start
anew.
"""

TAIL = """
Nets of other forks of Caffe run, too: [extensions.md](extensions.md) has the layer types and fields
beyond the original, from which fork they are, and what proves them.
"""

COLUMNS = """\
| net | trained on | tested on | mAP | parameters | MB | command |
|---|---|---|---|---|---|---|
"""

ABLATION_HEAD = """
## The ablation table of DSOD

`python examples/dsod/ablations.py` prints it; `--variant ablation3` trains row 3. Without a stem
the first convolution is 7x7; without *transition w/o pooling* there is no fourth block.

| row | notation | stem | transition w/o pooling | front end | parameters | published | why | mAP |
|---|---|---|---|---|---|---|---|---|
"""


def document() -> str:
    """The text of docs/models.md."""
    parts = [HEAD]
    trained = [row for row in CATALOGUE if not row.variant.startswith("ablation")]
    for name, rows in groupby(trained, key=lambda row: row.family.name):
        parts.append(f"\n## {name}\n\n{COLUMNS}")
        parts += [_line(row) for row in rows]
    parts.append(ABLATION_HEAD)
    for row in ABLATIONS:
        floats = look_at(DSOD.recipe("VOC0712", row.variant)).cost.num_parameters
        stem, pooling = (_yes(row.has_stem), _yes(row.has_transition_without_pooling))
        front = "dense" if row.body.dense_front else "plain"
        parts.append(
            f"| {row.number} | {row.body.notation} | {stem} | {pooling} | {front} "
            f"| {floats / 1e6:.6f} | {row.parameters_million} | {row.reason} "
            f"| {row.map_percent} |\n"
        )
    parts.append(TAIL)
    return "".join(parts)


def _line(row: Published) -> str:
    floats = "" if row.floats is None else f"{row.floats:,}"
    size = "" if row.file_mb is None else f"{row.file_mb}"
    net = f"{row.variant} ({row.note})" if row.note else row.variant
    return (
        f"| {net} | {row.trained_on} | {row.tested_on} | {row.score_percent} | {floats} | {size} "
        f"| `{row.commands()['train']}` |\n"
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    atomic_write(TARGET, document().encode())
    sys.stdout.write(f"wrote {TARGET}\n")
