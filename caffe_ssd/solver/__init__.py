"""Training: learning-rate policies, update rules, the loop, snapshots and Caffe's log."""

from caffe_ssd.solver.hooks import Action, Callback, Observer
from caffe_ssd.solver.solver import Solver
from caffe_ssd.solver.testing import TestResult

__all__ = ["Action", "Callback", "Observer", "Solver", "TestResult"]
