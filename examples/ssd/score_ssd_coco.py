"""Score SSD300 on COCO's minival set: AP per class and mAP, and a result file for COCO.

Without flags it takes the newest snapshot that ssd_coco.py has left. A released model is scored
with --weights. `caffe evaluate` gives COCO's own numbers for the result file.
"""

import sys

from caffe.models.script import score
from caffe.models.ssd_recipes import SSD

if __name__ == "__main__":
    sys.exit(score(SSD, "coco", __file__, __doc__))
