"""Train DSOD300 from scratch on VOC07++12, write result files for VOC2012 test: 76.3 mAP.

07++12 is VOC2007 trainval and test with VOC2012 trainval. Without flags: writes
models/DSOD300/VOC0712Plus/DSOD300_300x300/*.prototxt and a shell job, and trains from the newest
snapshot there, on up to 8 GPUs.
"""

import sys

from caffe.models.dsod_recipes import DSOD
from caffe.models.script import train

if __name__ == "__main__":
    sys.exit(train(DSOD, "VOC0712Plus", __file__, __doc__))
