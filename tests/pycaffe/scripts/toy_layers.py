"""Layers in Python for the scripts beside this file."""

import caffe
import numpy as np
import yaml_free_params


class BlobsDataLayer(caffe.Layer):
    """Points around one centre per class; the parameters are a Python dict in `param_str`."""

    def setup(self, bottom, top):
        if len(bottom) != 0:
            raise Exception("a data layer has no bottoms")
        if len(top) != 2:
            raise Exception("tops are data and label")
        params = yaml_free_params.parse(self.param_str)
        self.batch_size = params["batch_size"]
        self.classes = params["classes"]
        self.random = np.random.RandomState(params.get("seed", self.phase))

    def reshape(self, bottom, top):
        self.label = self.random.randint(self.classes, size=self.batch_size)
        angle = 2 * np.pi * self.label / self.classes
        centre = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        self.data = centre + 0.1 * self.random.randn(self.batch_size, 2)
        top[0].reshape(*self.data.shape)
        top[1].reshape(*self.label.shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.data
        top[1].data[...] = self.label

    def backward(self, top, propagate_down, bottom):
        pass


class EuclideanLossLayer(caffe.Layer):
    """Half the mean squared distance, in the way of the original's example."""

    def setup(self, bottom, top):
        if len(bottom) != 2:
            raise Exception("Need two inputs to compute distance.")

    def reshape(self, bottom, top):
        if bottom[0].count != bottom[1].count:
            raise Exception("Inputs must have the same dimension.")
        self.diff = np.zeros_like(bottom[0].data, dtype=np.float32)
        top[0].reshape(1)

    def forward(self, bottom, top):
        self.diff[...] = bottom[0].data - bottom[1].data
        top[0].data[...] = np.sum(self.diff**2) / bottom[0].num / 2.0

    def backward(self, top, propagate_down, bottom):
        for i in range(2):
            if not propagate_down[i]:
                continue
            sign = 1 if i == 0 else -1
            bottom[i].diff[...] = sign * self.diff / bottom[i].num
