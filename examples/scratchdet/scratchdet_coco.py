"""Train ScratchDet300 (Root-ResNet-34) on COCO trainval: 32.7 AP on test-dev.

Writes result files for minival only when a test is asked for (--test-interval) or by
score_scratchdet_pascal.py --data coco.
"""

import sys

from caffe.models.scratchdet_recipes import SCRATCHDET
from caffe.models.script import train

if __name__ == "__main__":
    sys.exit(train(SCRATCHDET, "coco", __file__, __doc__))
