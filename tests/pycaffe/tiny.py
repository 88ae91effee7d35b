"""Tiny nets and solvers, written to files on the spot."""

from __future__ import annotations

from pathlib import Path

import caffe

REGRESSION = """
name: "tiny"
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 } } }
layer { name: "y" type: "Input" top: "y" input_param { shape { dim: 4 dim: 2 } } }
layer {
  name: "fc" type: "InnerProduct" bottom: "x" top: "fc"
  inner_product_param { num_output: 2 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "EuclideanLoss" bottom: "fc" bottom: "y" top: "loss" }
"""

CONV = """
name: "conv_net"
force_backward: true
layer {
  name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 8 dim: 6 } }
}
layer {
  name: "conv" type: "Convolution" bottom: "data" top: "conv"
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer {
  name: "pool" type: "Pooling" bottom: "conv" top: "pool"
  pooling_param { pool: AVE global_pooling: true }
}
layer {
  name: "score" type: "InnerProduct" bottom: "pool" top: "score"
  inner_product_param { num_output: 5 weight_filler { type: "xavier" } }
}
layer { name: "prob" type: "Softmax" bottom: "score" top: "prob" }
"""


def write_net(folder: Path, text: str = REGRESSION, name: str = "net.prototxt") -> str:
    """Write a prototxt; returns its path."""
    path = folder / name
    path.write_text(text)
    return str(path)


def make_net(folder: Path, text: str = REGRESSION, phase: int = caffe.TEST) -> caffe.Net:
    """A net of this text, its fillers seeded."""
    caffe.set_random_seed(7)
    return caffe.Net(write_net(folder, text), phase)


def write_solver(folder: Path, text: str = REGRESSION, extra: str = "") -> str:
    """Write a solver of a net of this text; returns its path."""
    path = folder / "solver.prototxt"
    path.write_text(
        f'net: "{write_net(folder, text)}" base_lr: 0.1 momentum: 0.9 lr_policy: "fixed" '
        f'max_iter: 6 display: 0 random_seed: 3 snapshot_prefix: "{folder}/tiny" {extra}'
    )
    return str(path)
