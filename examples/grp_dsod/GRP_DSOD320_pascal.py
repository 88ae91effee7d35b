"""Train GRP-DSOD320 from scratch on VOC2007 + VOC2012 trainval (07+12): 79.0 mAP on VOC2007.

Without flags: the variant 320* of the paper, 48 images on 8 GPUs, in
models/GRP_DSOD320_v2_gate/VOC0712/GRP_DSOD320_v2_gate_320x320. --variant takes the other two,
--data VOC0712Plus, VOC12 (comp3) or coco the paper's other trainings.
"""

import sys

from caffe.models.grp_dsod_recipes import GRP_DSOD
from caffe.models.script import train

if __name__ == "__main__":
    sys.exit(train(GRP_DSOD, "VOC0712", __file__, __doc__))
