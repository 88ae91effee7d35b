"""The pycaffe-compatible face of the engine: what `import caffe` gave users of SSD-Caffe.

Spec: caffe-net.md sections 13 to 18.
"""

from __future__ import annotations

from caffe.net_spec import NetSpec as NetSpec
from caffe.net_spec import layers as layers
from caffe.net_spec import params as params
from caffe.net_spec import to_proto as to_proto
