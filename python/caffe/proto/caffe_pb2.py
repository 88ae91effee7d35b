"""The engine's messages under the name pycaffe users import them by."""

from __future__ import annotations

from caffe_ssd.proto.caffe_pb2 import *  # noqa: F403
from caffe_ssd.proto.caffe_pb2 import DESCRIPTOR as DESCRIPTOR
