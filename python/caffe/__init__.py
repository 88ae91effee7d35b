"""pycaffe: SSD-Caffe's Python interface, on the engine `caffe_ssd`."""

from caffe import io, proto
from caffe.classifier import Classifier
from caffe.detector import Detector
from caffe.logs import init_log, log
from caffe.mode import set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from caffe.net_spec import NetSpec, layers, params, to_proto
from caffe.pycaffe import TEST, TRAIN, Net
from caffe.solvers import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)
from caffe_ssd.layers.python_interface import PythonLayer as Layer
from caffe_ssd.layers.registry import layer_types as _layer_types

__version__ = "1.0.0-rc3"


def layer_type_list() -> list[str]:
    """The layer types that can be built, in byte order."""
    return list(_layer_types())


__all__ = [
    "TEST",
    "TRAIN",
    "AdaDeltaSolver",
    "AdaGradSolver",
    "AdamSolver",
    "Classifier",
    "Detector",
    "Layer",
    "NesterovSolver",
    "Net",
    "NetSpec",
    "RMSPropSolver",
    "SGDSolver",
    "get_solver",
    "init_log",
    "io",
    "layer_type_list",
    "layers",
    "log",
    "params",
    "proto",
    "set_device",
    "set_mode_cpu",
    "set_mode_gpu",
    "set_random_seed",
    "to_proto",
]
