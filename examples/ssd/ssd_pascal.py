"""Train SSD300 with VGG16 on VOC2007 + VOC2012 trainval (07+12): 77.2 mAP on VOC2007.

Without flags it fine-tunes models/VGGNet/VGG_ILSVRC_16_layers_fc_reduced.caffemodel on up to 4
GPUs, in models/VGGNet/VOC0712/SSD_300x300. --variant SSD512 takes the larger net;
scratch_bn and its like learn from scratch with batch norm, as the ScratchDet paper does.
"""

import sys

from caffe.models.script import train
from caffe.models.ssd_recipes import SSD

if __name__ == "__main__":
    sys.exit(train(SSD, "VOC0712", __file__, __doc__))
