"""Train SSD300 with VGG16 on COCO trainval, write result files for minival.

Without flags it fine-tunes models/VGGNet/VGG_ILSVRC_16_layers_fc_reduced.caffemodel on up to 4
GPUs, in models/VGGNet/coco/SSD_300x300.
"""

import sys

from caffe.models.script import train
from caffe.models.ssd_recipes import SSD

if __name__ == "__main__":
    sys.exit(train(SSD, "coco", __file__, __doc__))
