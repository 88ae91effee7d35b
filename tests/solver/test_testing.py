"""The score of a test net that detects, and a solver that does not ask for it."""

from __future__ import annotations

import pytest

from caffe_ssd.net import build_net
from caffe_ssd.proto.caffe_pb2 import NetParameter, NetState, Phase, SolverParameter
from caffe_ssd.proto.text import parse_text
from caffe_ssd.solver.testing import Score

DETECTS = """
layer { name: "d" type: "Input" top: "d" input_param { shape { dim: 1 dim: 1 dim: 2 dim: 7 } } }
layer { name: "g" type: "Input" top: "g" input_param { shape { dim: 1 dim: 1 dim: 3 dim: 8 } } }
layer { name: "eval" type: "DetectionEvaluate" bottom: "d" bottom: "g" top: "rows"
  detection_evaluate_param { num_classes: 3 background_label_id: 0 overlap_threshold: 0.5 } }
"""


def test_a_mean_of_rows_is_called_meaningless(caplog: pytest.LogCaptureFixture) -> None:
    net = build_net(parse_text(DETECTS, NetParameter()), NetState(phase=Phase.Value("TEST")))
    Score(SolverParameter(eval_type="detection", ap_version="11point"), net)
    assert not caplog.records
    Score(SolverParameter(), net)
    assert 'rows of DetectionEvaluate (rows) are averaged and mean nothing; eval_type: "det' in (
        caplog.text
    )
