"""Score GRP-DSOD320 on the VOC2007 test set: AP per class and mAP, and VOC result files.

Without flags it takes the newest snapshot that GRP_DSOD320_pascal.py has left. A released model is
scored with --weights.
"""

import sys

from caffe.models.grp_dsod_recipes import GRP_DSOD
from caffe.models.script import score

if __name__ == "__main__":
    sys.exit(score(GRP_DSOD, "VOC0712", __file__, __doc__))
