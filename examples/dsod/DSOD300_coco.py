"""Train DSOD300 from scratch on COCO trainval, write result files for minival: 29.3 AP (test-dev).

Without flags: writes models/DSOD300/coco/DSOD300_300x300/*.prototxt and a shell job, and trains
from the newest snapshot there, on up to 8 GPUs.
"""

import sys

from caffe.models.dsod_recipes import DSOD
from caffe.models.script import train

if __name__ == "__main__":
    sys.exit(train(DSOD, "coco", __file__, __doc__))
