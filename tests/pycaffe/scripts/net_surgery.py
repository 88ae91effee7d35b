"""Turn a classifier into a net for maps of scores: net_surgery.py NET FULL_CONV_NET WEIGHTS OUT."""

import sys

import caffe

model_def, full_conv_def, weights, out = sys.argv[1:]

net = caffe.Net(model_def, weights, caffe.TEST)
params = ["fc6", "fc7"]
fc_params = {pr: (net.params[pr][0].data, net.params[pr][1].data) for pr in params}
for fc in params:
    print(f"{fc} weights are {fc_params[fc][0].shape} and biases {fc_params[fc][1].shape}")

net_full_conv = caffe.Net(full_conv_def, weights, caffe.TEST)
params_full_conv = ["fc6-conv", "fc7-conv"]
conv_params = {
    pr: (net_full_conv.params[pr][0].data, net_full_conv.params[pr][1].data)
    for pr in params_full_conv
}
for pr, pr_conv in zip(params, params_full_conv):  # noqa: B905 (as people wrote it)
    conv_params[pr_conv][0].flat = fc_params[pr][0].flat  # unrolls the arrays
    conv_params[pr_conv][1][...] = fc_params[pr][1]

net_full_conv.save(out)
