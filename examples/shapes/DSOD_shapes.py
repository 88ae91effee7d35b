"""Train a small DSOD from scratch on the shapes of `python -m lmdb_tools.shapes`.

Start it in the folder that holds the databases, as demo.sh beside it does. The other families do
the same with `--data shapes --variant tiny` of their scripts.
"""

import sys

from caffe.models.dsod_recipes import DSOD
from caffe.models.script import train

if __name__ == "__main__":
    sys.exit(train(DSOD, "shapes", __file__, __doc__, variant="tiny"))
