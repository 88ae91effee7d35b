"""Time SSD300 on the VOC2007 test set: its passes in phase TEST, reading and NMS included.

The net saves no detections, reads no labels and is silent. Time depends on what is found, so
trained weights matter: the newest snapshot that ssd_pascal.py has left, or --weights. Other nets
by --variant, other batches by --test-batch-size.
"""

import sys

from caffe.models.script import time
from caffe.models.ssd_recipes import SSD

if __name__ == "__main__":
    sys.exit(time(SSD, "VOC0712", __file__, __doc__))
