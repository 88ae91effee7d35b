"""Train DSOD300 from scratch on VOC2012 trainval, no other data (comp3): 70.8 mAP.

Writes result files for the VOC2012 test set. Without flags: writes
models/DSOD300/VOC12/DSOD300_300x300/*.prototxt and a shell job, and trains from the newest snapshot
there, on up to 8 GPUs.
"""

import sys

from caffe.models.dsod_recipes import DSOD
from caffe.models.script import train

if __name__ == "__main__":
    sys.exit(train(DSOD, "VOC12", __file__, __doc__))
