"""Per-pixel scores of images of any size: segment.py NET IMAGE.npy..."""

import sys

import caffe
import numpy as np


def upsample_filt(size):
    factor = (size + 1) // 2
    center = factor - 1 if size % 2 == 1 else factor - 0.5
    og = np.ogrid[:size, :size]
    return (1 - abs(og[0] - center) / factor) * (1 - abs(og[1] - center) / factor)


def interp(net, layers):
    for layer in layers:
        m, k, h, w = net.params[layer][0].data.shape
        if m != k and k != 1:
            raise Exception("input + output channels need to be the same or |output| == 1")
        if h != w:
            raise Exception("filters need to be square")
        net.params[layer][0].data[range(m), range(k), :, :] = upsample_filt(h)


net = caffe.Net(sys.argv[1], caffe.TEST)
interp(net, [k for k in net.params if "up" in k])
outs = []
for name in sys.argv[2:]:
    in_ = np.load(name).transpose((2, 0, 1))
    net.blobs["data"].reshape(1, *in_.shape)
    net.blobs["data"].data[...] = in_
    net.forward()
    outs.append(net.blobs["score"].data[0].argmax(axis=0))
    print(name, outs[-1].shape)
