"""Score DSOD300 on the VOC2007 test set: AP per class and mAP, and VOC result files.

Without flags it takes the newest snapshot that DSOD300_pascal.py has left. A released model is
scored with --weights.
"""

import sys

from caffe.models.dsod_recipes import DSOD
from caffe.models.script import score

if __name__ == "__main__":
    sys.exit(score(DSOD, "VOC0712", __file__, __doc__))
