"""Train ScratchDet300 (Root-ResNet-34) on VOC2007 + VOC2012 trainval (07+12): 80.4 mAP on VOC2007.

Without flags: 128 images on 4 GPUs, in models/ROOT_RES34/VOC0712/SSD_root_res34_300x300. Fewer or
smaller GPUs: --batch-size 8 accumulates more passes per iteration.
"""

import sys

from caffe.models.scratchdet_recipes import SCRATCHDET
from caffe.models.script import train

if __name__ == "__main__":
    sys.exit(train(SCRATCHDET, "VOC0712", __file__, __doc__))
