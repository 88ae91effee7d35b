"""DetectionOutput against the recorded cases."""

from __future__ import annotations

import pytest

from tests.support.golden import needs_golden
from tests.support.layer_cases import (
    case_id,
    check_refusal,
    error_cases,
    layer_cases,
    run_layer_case,
)


@needs_golden
@pytest.mark.parametrize("case", layer_cases("DetectionOutput"), ids=case_id)
def test_recorded_case(case, tmp_path):
    run_layer_case(case, tmp_path)


@needs_golden
@pytest.mark.parametrize("entry", error_cases("DetectionOutput"), ids=case_id)
def test_refusal(entry, tmp_path):
    check_refusal(entry, tmp_path)
