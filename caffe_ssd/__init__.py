"""The engine: SSD-Caffe's nets, layers, data and solvers on PyTorch."""
