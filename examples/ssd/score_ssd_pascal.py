"""Score SSD300 on the VOC2007 test set: AP per class and mAP, and VOC result files.

Without flags it takes the newest snapshot that ssd_pascal.py has left. A released model is scored
with --weights.
"""

import sys

from caffe.models.script import score
from caffe.models.ssd_recipes import SSD

if __name__ == "__main__":
    sys.exit(score(SSD, "VOC0712", __file__, __doc__))
