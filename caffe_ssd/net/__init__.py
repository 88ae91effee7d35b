"""From a NetParameter to a runnable net, and weights in and out of it."""

from caffe_ssd.net.net import Net, build_net
from caffe_ssd.net.result import NetResult
from caffe_ssd.net.sharing import LearnableBlob

__all__ = ["LearnableBlob", "Net", "NetResult", "build_net"]
