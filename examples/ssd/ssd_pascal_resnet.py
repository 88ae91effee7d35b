"""Train SSD with ResNet-101 on VOC2007 + VOC2012 trainval (07+12), at 300 px.

Colours are not varied and pictures not put on larger canvases; priors are clipped to the picture.
Without flags it fine-tunes models/ResNet/ResNet-101-model.caffemodel on up to 4 GPUs, in
models/ResNet/VOC0712/SSD_resnet101_300x300.
"""

import sys

from caffe.models.script import train
from caffe.models.ssd_recipes import SSD

if __name__ == "__main__":
    sys.exit(train(SSD, "VOC0712", __file__, __doc__, variant="resnet101"))
