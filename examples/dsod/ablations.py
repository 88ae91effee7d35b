"""Print the ablation table of the DSOD paper with the parameters that our nets have.

A row is trained by DSOD300_pascal.py --variant ablation<row>. Counting needs this project's engine:
unlike the trainings, the table does not run on a build of the original.
"""

import sys

from caffe.catalogue import ABLATIONS, look_at
from caffe.models.dsod_recipes import DSOD

COLUMNS = (
    "row  notation          stem  w/o pooling  front end  parameters  published  "
    "difference  mAP   why"
)


def line_of(row):
    """Return a row of the table; parameters in millions, batch norm statistics included."""
    ours = look_at(DSOD.recipe("VOC0712", row.variant)).cost.num_parameters / 1e6
    return (
        f"{row.number:3}  {row.body.notation:16}  {'yes' if row.has_stem else 'no':4}  "
        f"{'yes' if row.has_transition_without_pooling else 'no':11}  "
        f"{'dense' if row.body.dense_front else 'plain':9}  {ours:10.6f}  "
        f"{row.parameters_million:9.1f}  {ours - row.parameters_million:+10.2f}  "
        f"{row.map_percent:4.1f}  {row.reason}"
    )


def main():
    print(COLUMNS)
    for row in ABLATIONS:
        print(line_of(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
