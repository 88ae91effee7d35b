"""Gradient ascent on an image: deep_dream.py NET WEIGHTS LAYER STEPS."""

import sys

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

model_def, weights, end, steps = sys.argv[1:]

# patch the model so that gradients reach the input
model = caffe_pb2.NetParameter()
with open(model_def) as f:
    text_format.Merge(f.read(), model)
model.force_backward = True
with open("tmp.prototxt", "w") as f:
    f.write(str(model))
net = caffe.Classifier("tmp.prototxt", weights, mean=np.float32([104.0, 116.0, 122.0]))


def preprocess(net, img):
    return np.float32(np.rollaxis(img, 2)[::-1]) - net.transformer.mean["data"]


def objective_L2(dst):
    dst.diff[:] = dst.data


def make_step(net, step_size=1.5, jitter=2):
    src = net.blobs["data"]
    dst = net.blobs[end]
    ox, oy = np.random.randint(-jitter, jitter + 1, 2)
    src.data[0] = np.roll(np.roll(src.data[0], ox, -1), oy, -2)

    net.forward(end=end)
    objective_L2(dst)
    net.backward(start=end)
    g = src.diff[0]
    src.data[:] += step_size / np.abs(g).mean() * g

    src.data[0] = np.roll(np.roll(src.data[0], -ox, -1), -oy, -2)
    return float((dst.data**2).sum())


np.random.seed(0)
img = np.random.uniform(size=(12, 10, 3)) + 100.0
net.blobs["data"].reshape(1, 3, *img.shape[:2])
net.blobs["data"].data[0] = preprocess(net, img)
energies = [make_step(net) for _ in range(int(steps))]
print("from", energies[0], "to", energies[-1])
