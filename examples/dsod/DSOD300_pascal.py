"""Train DSOD300 from scratch on VOC2007 + VOC2012 trainval (07+12), test on VOC2007: 77.7 mAP.

Without flags: writes models/DSOD300/VOC0712/DSOD300_300x300/*.prototxt and a shell job, and trains
from the newest snapshot there, on up to 8 GPUs. Fewer GPUs accumulate more passes per iteration.
"""

import sys

from caffe.models.dsod_recipes import DSOD
from caffe.models.script import train

if __name__ == "__main__":
    sys.exit(train(DSOD, "VOC0712", __file__, __doc__))
