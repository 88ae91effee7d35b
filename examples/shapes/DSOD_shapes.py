"""Train a small DSOD from scratch on the shapes of `python -m lmdb_tools.shapes`.

Start it in the folder that holds the data bases, as demo.sh beside it does.
"""

import sys

from caffe.models.script import train
from caffe.models.shapes import VARIANTS, dsod_shapes

if __name__ == "__main__":
    sys.exit(train(dsod_shapes, VARIANTS, __file__, __doc__))
