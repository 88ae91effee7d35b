"""pycaffe: SSD-Caffe's Python interface, on the engine `caffe_ssd`."""

from caffe_ssd.startup import without_collection

with without_collection():
    from caffe import _caffe, io, proto
    from caffe._caffe import (
        NCCL,
        Timer,
        has_nccl,
        layer_type_list,
        set_multiprocess,
        set_solver_count,
        set_solver_rank,
        solver_count,
        solver_rank,
    )
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

__version__ = _caffe.__version__

__all__ = [
    "NCCL",
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
    "Timer",
    "get_solver",
    "has_nccl",
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
    "set_multiprocess",
    "set_random_seed",
    "set_solver_count",
    "set_solver_rank",
    "solver_count",
    "solver_rank",
    "to_proto",
]
