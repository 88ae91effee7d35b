"""Train SSD300 with ZFNet on VOC2007 + VOC2012 trainval (07+12).

The finest map is conv2 in place of VGG16's conv4_3. Without flags it fine-tunes
models/ZFNet/ZFNet.caffemodel on up to 4 GPUs, in models/ZFNet/VOC0712/SSD_zf_300x300.
"""

import sys

from caffe.models.script import train
from caffe.models.ssd_recipes import SSD

if __name__ == "__main__":
    sys.exit(train(SSD, "VOC0712", __file__, __doc__, variant="zf"))
