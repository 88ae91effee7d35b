"""Print the ablation table of the DSOD paper with the parameters that our nets have.

A row is trained by DSOD300_pascal.py --variant ablation<row>.
"""

import sys

from caffe.models.ablations import ABLATIONS, AblationRow
from caffe.models.dsod_recipes import ablation_floats

COLUMNS = (
    "row  notation          stem  w/o pooling  front end  parameters  published  "
    "difference  mAP   why"
)


def line_of(row: AblationRow) -> str:
    """Return a row of the table; parameters in millions, batch norm statistics included."""
    ours = ablation_floats(row) / 1e6
    return (
        f"{row.number:3}  {row.body.notation:16}  {'yes' if row.has_stem else 'no':4}  "
        f"{'yes' if row.has_transition_without_pooling else 'no':11}  "
        f"{'dense' if row.body.dense_front else 'plain':9}  {ours:10.6f}  "
        f"{row.parameters_million:9.1f}  {ours - row.parameters_million:+10.2f}  "
        f"{row.map_percent:4.1f}  {row.reason}"
    )


def main() -> int:
    print(COLUMNS)
    for row in ABLATIONS:
        print(line_of(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
