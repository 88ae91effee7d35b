"""A detector of a few layers with random blobs: one map, one prior per cell, three classes."""

from __future__ import annotations

import torch

from caffe_ssd.net import Net, build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase
from caffe_ssd.proto.text import parse_text

INPUT = """
layer { name: "data" type: "Input" top: "data"
  input_param { shape { dim: 2 dim: 3 dim: 32 dim: 48 } } }
"""
DATA = """
layer { name: "data" type: "AnnotatedData" top: "data" top: "label"
  transform_param { mean_value: 104 resize_param { height: 32 width: 48 } }
  data_param { source: "lmdb" batch_size: 4 backend: LMDB } }
"""
JUDGE = """
layer { name: "score" type: "DetectionEvaluate" bottom: "found" bottom: "label" top: "score"
  detection_evaluate_param { num_classes: 3 } }
"""
BODY = """
layer { name: "f" type: "Convolution" bottom: "data" top: "f"
  convolution_param { num_output: 6 kernel_size: 5 pad: 2 stride: 4 } }
layer { name: "loc" type: "Convolution" bottom: "f" top: "loc"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "f" top: "conf"
  convolution_param { num_output: 3 kernel_size: 3 pad: 1 } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_rows" type: "Reshape" bottom: "conf_perm" top: "conf_rows"
  reshape_param { shape { dim: 0 dim: -1 dim: 3 } } }
layer { name: "conf_soft" type: "Softmax" bottom: "conf_rows" top: "conf_soft"
  softmax_param { axis: 2 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_soft" top: "conf_flat" }
layer { name: "priors" type: "PriorBox" bottom: "f" bottom: "data" top: "priors"
  prior_box_param { min_size: 12 } }
layer { name: "found" type: "DetectionOutput" bottom: "loc_flat" bottom: "conf_flat"
  bottom: "priors" top: "found"
  detection_output_param { num_classes: 3 code_type: CENTER_SIZE keep_top_k: 40
    confidence_threshold: 0.35 nms_param { nms_threshold: 0.4 } } }
"""


def tiny_detector(layers: str = INPUT + BODY) -> Net:
    """Build layers in phase TEST; equal layers get equal blobs, whatever else the net has."""
    param = parse_text(layers, NetParameter(), "tiny.prototxt")
    net = build_net(param, NetState(phase=Phase.Value("TEST")))
    for name, blobs in net.layer_blobs():
        rng = torch.Generator().manual_seed(len(name) + ord(name[0]))
        for blob in blobs:
            spread = 12 if name == "f" else 1
            blob.data.copy_(torch.randn(blob.shape, generator=rng) / spread)
    return net
