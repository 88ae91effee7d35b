"""Score ScratchDet300 on the VOC2007 test set: AP per class and mAP, and VOC result files.

Without flags it takes the newest snapshot that scratchdet_pascal.py has left. A released model is
scored with --weights.
"""

import sys

from caffe.models.scratchdet_recipes import SCRATCHDET
from caffe.models.script import score

if __name__ == "__main__":
    sys.exit(score(SCRATCHDET, "VOC0712", __file__, __doc__))
