"""The list of a layer's learnt blobs, with the name that scripts ask for."""

from __future__ import annotations

from caffe_ssd.layers.blob import Blob


class BlobVec(list[Blob]):
    """`net.params[layer]` and `net.layers[i].blobs`."""


BlobVec.__module__ = "caffe._caffe"
