"""Save a layer's output for listed images: extract_features.py NET WEIGHTS LAYER LIST OUT.npy."""

import sys

import caffe
import numpy as np

model_def, weights, layer, list_file, out = sys.argv[1:]

net = caffe.Net(model_def, caffe.TEST, weights=weights)
transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
transformer.set_transpose("data", (2, 0, 1))
transformer.set_channel_swap("data", (2, 1, 0))

batch = net.blobs["data"].num
with open(list_file) as f:
    files = [line.strip() for line in f]
features = []
for start in range(0, len(files), batch):
    chunk = files[start : start + batch]
    for i, name in enumerate(chunk):
        net.blobs["data"].data[i, ...] = transformer.preprocess("data", caffe.io.load_image(name))
    found = net.forward(end=layer)[layer]
    features.append(found[: len(chunk)].copy())
features = np.concatenate(features)
np.save(out, features)
print(features.shape)
