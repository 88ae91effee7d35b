"""Train DSOD300 from scratch on VOC2012 trainval alone (comp3), write result files for its test set.

70.8 mAP with no other data. Without flags: writes models/DSOD300/VOC12/DSOD300_300x300/*.prototxt
and a shell job, and trains from the newest snapshot there, on up to 8 GPUs.
"""

import sys

from caffe.models.dsod_recipes import VARIANTS, dsod_pascal12
from caffe.models.script import train

if __name__ == "__main__":
    sys.exit(train(dsod_pascal12, VARIANTS, __file__, __doc__))
