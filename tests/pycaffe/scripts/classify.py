"""Classify an image: classify.py NET WEIGHTS IMAGE MEAN.npy."""

import sys

import caffe
import numpy as np

model_def, model_weights, image_file, mean_file = sys.argv[1:]

caffe.set_mode_cpu()
net = caffe.Net(model_def, model_weights, caffe.TEST)

mu = np.load(mean_file).mean(1).mean(1)
transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
transformer.set_transpose("data", (2, 0, 1))
transformer.set_mean("data", mu)
transformer.set_raw_scale("data", 255)
transformer.set_channel_swap("data", (2, 1, 0))

# one image at a time, whatever the batch of the prototxt
net.blobs["data"].reshape(1, *net.blobs["data"].data.shape[1:])
image = caffe.io.load_image(image_file)
net.blobs["data"].data[...] = transformer.preprocess("data", image)

output = net.forward()
output_prob = output["prob"][0]
top_inds = output_prob.argsort()[::-1][:3]
for i in top_inds:
    print(f"{output_prob[i]:.4f} class {i}")

for layer_name, blob in net.blobs.items():
    print(layer_name + "\t" + str(blob.data.shape))
for layer_name, param in net.params.items():
    print(layer_name + "\t" + str(param[0].data.shape), str(param[1].data.shape))
