"""The engine: SSD-Caffe's nets, layers, data and solvers on PyTorch."""

__version__ = "0.1.0"
