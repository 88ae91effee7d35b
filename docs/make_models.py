"""Writes docs/models.md, the published models and the commands that train them.

python docs/make_models.py
"""

from __future__ import annotations

import sys
from itertools import groupby
from pathlib import Path

from caffe.catalogue import ABLATIONS, CATALOGUE, AblationRow, Published, look_at
from caffe.catalogue.assumptions import ASSUMPTIONS, Assumption
from caffe.catalogue.schedules import FIELDS, differences, published_schedule, schedule_of
from caffe.models.dsod_recipes import DSOD

from caffe_ssd.files import atomic_write

TARGET = Path(__file__).with_name("models.md")
# tests/pycaffe/test_recipes.py and tests/parity/test_forward.py hold these.
SAME_FILES = {
    *("DSOD300-07+12", "DSOD300-07++12", "DSOD300-COCO", "GRP_DSOD320-07+12", "SSD300-07+12"),
    *("res34-07+12", "res34-COCO"),
}
SAME_BLOBS = {"DSOD300-07+12", "SSD300-07+12"}

HEAD = """\
# Models

Every published model of the four families, a row for each training, and what to type to get it.
`make docs` writes this page from `caffe.catalogue`; a test fails when it is out of date.

```sh title="needs VOC"
caffe models                           # the rows
caffe models DSOD300                   # a net in full, its rows, their commands and assumptions
caffe models check DSOD300-07+12       # what a row lacks in this folder, and what it would take
caffe models run DSOD300-07+12 -print  # its files and commands; without -print it is trained
```

A row has a folder of its own, for its files, snapshots and results, and resumes from nothing but
itself. What a flag changes in a training stands in the names of its folders (`..._batch12`,
`..._lr0.001`); a published script without flags keeps the original's.

Scores are the papers' (VOC's mAP in percent; for COCO the mean over IoU 0.5 to 0.95). **None of
these rows was trained here**: their data are not free to hand on, and on this kind of machine a row
takes months. What was run of each stands in the last column:

- *files*: nets, solvers and folders equal what the original script writes, field for field, but for
  two oversights, mended here: its results of VOC07++12 go to the folder of VOC2007, and
  ScratchDet's script for COCO reads VOC's databases;
- *forward*: a forward pass with drawn weights gives the blobs that the original computed;
- *passes*: forward and backward passes at the row's input size, on random pictures.

*Parameters* count every number in the file of weights, BatchNorm's statistics and their factor
included (three blobs a layer), and are given where the published net is known exactly: `smallest`
has 5,872,372 and `lite` 10,436,854 with these factors.

All scripts of a family take `--variant` and `--data`, so that any net is trained on any data
set, your own included (`--train-data`, `--test-data`, `--label-map`, `--name-size-file`).
`--variant tiny --data shapes` is a net of the family that learns the synthetic shapes in
minutes on a CPU. `--sync-bn` and `--sync-loss` are those of `caffe train`.

`--fine-tune FILE` starts from a detector of other data, at a learning rate of 0.001. A model with
COCO's 81 classes keeps the 20 of VOC (`data/coco/coco_voc_map.txt`); for other classes give
`--class-map FILE` with lines of `old label,new label,name`, or let the class predictions start
anew.

Devices do not change the images per iteration: fewer of them take more passes, and where there are
more than the images fill, each takes fewer (`..._batch16`, which batch norm sees). Where a number
of devices cannot share the total, or `--batch-size` forbids it, the scripts warn and name the
folder after the new total (`..._total132`).

COCO's test set is made by `python -m lmdb_tools.make_lmdb --layout coco_test_dev ~/data/coco` and
scored by `--test-dev` of the scoring scripts; `caffe evaluate RESULTS.json -pack FILE.zip` packs
what the server takes. `--scales 0.75,1,1.25,1.5,2 --flip` of the same scripts tests at several
scales.
"""

SCHEDULES_HEAD = """
## Schedules

What was published of each training, and what `caffe models run ROW -print` gives: a single value
where both are the same, `ours (published: theirs)` where not, `ours (open)` where nothing was
published. `--` stands for a row that only tests. Steps divide the rate by ten; those at the last
iteration, which change nothing, are left out.

| row | rate | steps | iterations | images per iteration | input |
|---|---|---|---|---|---|
"""

ASSUMPTIONS_HEAD = """
## What the rows leave open

| assumed here | because | rows |
|---|---|---|
"""

OTHERS_HEAD = """
## Without a row

| system | what is published | why there is no row |
|---|---|---|
"""
OTHERS = (
    (
        "SSD300 with DSOD's dense front end",
        "70.4 from scratch, 76.1 from ImageNet (75.8 for SSD300 in the same table)",
        "how the front end joins VGG16 is not described, and no size is given to check a guess by",
    ),
    (
        "DSOD300 without batch norm",
        "71.5, in ScratchDet's paper",
        "neither its net (where biases take over) nor its rate is given",
    ),
    (
        "SSD300 for ILSVRC (201 classes, 440,000 iterations, MaxIntegral)",
        "its script's options",
        "the class list, the half of the validation set it tests on and the steps of its rate are "
        "not known here; `--train-data`, `--test-data`, `--label-map` and `--name-size-file` of "
        "`ssd_pascal.py` train on databases of yours",
    ),
    (
        "SSD's first data handling (`ssd_pascal_orig.py`)",
        "FIT_SMALL_SIZE at 300, one image per GPU",
        "layers and resize mode are here; the rest of its schedule is not known",
    ),
    (
        "SSD's timing script",
        "no labels, nothing saved, silent output",
        "it trains nothing: `examples/ssd/ssd_pascal_speed.py`, and `caffe time -engine`",
    ),
    (
        "SSD's scripts for a video and a webcam",
        "`caffe test` on VideoData, drawing what scores above 0.3",
        "they train nothing: `caffe detect VIDEO` and `caffe detect 0`, and `caffe test` of such a "
        "net",
    ),
)

COLUMNS = """\
| row | trained on | tested on | mAP | parameters | MB | run here |
|---|---|---|---|---|---|---|
"""

TAIL = """
Nets of other forks of Caffe run, too: [extensions.md](extensions.md) has the layer types and fields
beyond the original, from which fork they are, and what proves them.
"""

ABLATION_HEAD = """
## The ablation table of DSOD

`python examples/dsod/ablations.py` prints it; `--variant ablation3` trains row 3. Without a stem
the first convolution is 7x7; without *transition w/o pooling* there is no fourth block.

| row | notation | stem | transition w/o pooling | front end | parameters | published | why | mAP |
|---|---|---|---|---|---|---|---|---|
"""

ABLATION_TAIL = """
What the table can be and what it cannot: rows 1 to 6, 10 and 11 have the published parameters, to a
unit of the last digit, with one rule each for blocks, transitions and front end. Rows 7 to 9, the
stem with the plain front end, have not, with any stem that is known: the released nets' 64-64-128
(which rows 10 and 11 confirm, and which these rows use) gives 6.121, 13.213 and 19.110 million, a
stem of 64-64-64 gives 5.695, 12.446 and 18.043, and 5.2, 12.5 and 18.2 are published. The narrower
stem is near in rows 8 and 9 and half a million off in row 7, so it is no explanation; the paper
does not describe the front end of these rows. Their scores belong to nets that differ a little from
ours.
"""


def document() -> str:
    """The text of docs/models.md."""
    parts = [HEAD]
    for name, rows in groupby(CATALOGUE, key=lambda row: row.family.name):
        parts.append(f"\n## {name}\n\n{COLUMNS}")
        parts += [_line(row) for row in rows]
    parts += [SCHEDULES_HEAD, *(_schedule_line(row) for row in CATALOGUE)]
    parts += [ASSUMPTIONS_HEAD, *(_assumption_line(each) for each in ASSUMPTIONS)]
    parts += [OTHERS_HEAD, *(f"| {' | '.join(cells)} |\n" for cells in OTHERS)]
    parts += [ABLATION_HEAD, *(_ablation_line(row) for row in ABLATIONS)]
    return "".join([*parts, ABLATION_TAIL, TAIL])


def _line(row: Published) -> str:
    floats = "" if row.floats is None else f"{row.floats:,}"
    size = "" if row.file_mb is None else f"{row.file_mb}"
    name = f"`{row.name}` ({row.note})" if row.note else f"`{row.name}`"
    score = "" if row.score_percent is None else f"{row.score_percent}"
    return (
        f"| {name} | {row.trained_on} | {row.tested_on} | {score} | {floats} | {size} "
        f"| {_proof(row)} |\n"
    )


def _proof(row: Published) -> str:
    words = ["files"] if row.name in SAME_FILES else []
    words += ["forward"] if row.name in SAME_BLOBS else []
    return ", ".join([*words, "passes"])


def _schedule_line(row: Published) -> str:
    if row.at_scales:
        return f"| `{row.name}` | -- | -- | -- | -- | {row.recipe.detector.image_size} |\n"
    ours, published = schedule_of(row), published_schedule(row)
    different = differences(row)
    cells = [
        _cell(
            _text(getattr(ours, name), ours.max_iter),
            _text(getattr(published, name), ours.max_iter),
            is_same=name not in different,
        )
        for name in FIELDS
    ]
    return f"| `{row.name}` | {' | '.join(cells)} |\n"


def _text(value: object, max_iter: int | None) -> str:
    if isinstance(value, tuple):
        return ", ".join(f"{step // 1000}k" for step in value if step < (max_iter or 0))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else f"{value}"


def _cell(ours: str, published: str, *, is_same: bool) -> str:
    if not published:
        return f"{ours} (open)"
    return ours if is_same else f"{ours} (published: {published})"


def _assumption_line(assumption: Assumption) -> str:
    rows = ", ".join(f"`{row.name}`" for row in CATALOGUE if assumption.holds_for(row))
    return f"| {assumption.text} | {assumption.source} | {rows} |\n"


def _ablation_line(row: AblationRow) -> str:
    floats = look_at(DSOD.recipe("VOC0712", row.variant)).cost.num_parameters
    stem, pooling = (_yes(row.has_stem), _yes(row.has_transition_without_pooling))
    front = "dense" if row.body.dense_front else "plain"
    return (
        f"| {row.number} | {row.body.notation} | {stem} | {pooling} | {front} "
        f"| {floats / 1e6:.6f} | {row.parameters_million} | {row.reason} | {row.map_percent} |\n"
    )


def _yes(value: bool) -> str:
    return "yes" if value else "no"


if __name__ == "__main__":
    atomic_write(TARGET, document().encode())
    sys.stdout.write(f"wrote {TARGET}\n")
