#!/usr/bin/env python2
# Top classes of a net, printed as people printed.
import sys, os
import numpy as np
import caffe

net = caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST)
n, c, h, w = net.blobs['data'].data.shape
image = np.arange(c * h * w).reshape(c, h, w) / (c * h * w / 4)   # whole steps
net.blobs['data'].data[...] = image
prob = net.forward()['prob'][0]
order = prob.argsort()[::-1]
print 'input', image.min(), image.max(),
print 'of', net.blobs.keys()
for rank, k in enumerate(order[:3]):
    print '%d. class %d' % (rank + 1, k)
middle = order[len(order) / 2]
print >> sys.stderr, 'middle', middle
if not net.params.has_key('fc'):
    raise SystemExit, 1
sys.exit(0 if middle in order else 2)
