"""Score DSOD300 on the VOC2007 test set: AP per class and mAP, and VOC result files.

Without flags it takes the newest snapshot that DSOD300_pascal.py has left. A released model is
scored with --weights.
"""

import sys

from caffe.models.dsod_recipes import VARIANTS, dsod_pascal
from caffe.models.script import score

if __name__ == "__main__":
    sys.exit(score(dsod_pascal, VARIANTS, __file__, __doc__))
