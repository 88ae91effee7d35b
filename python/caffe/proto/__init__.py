"""Caffe's messages: `import caffe` alone gives `caffe.proto.caffe_pb2`."""

from caffe.proto import caffe_pb2

__all__ = ["caffe_pb2"]
