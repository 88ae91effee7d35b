"""What one error says of another one."""

from __future__ import annotations

import pytest

from caffe_ssd.errors import first_line


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("too small\nby far"), "too small"),
        (ValueError("\n  the first \nthe second"), "the first"),
        (RuntimeError(), "RuntimeError"),
        (ValueError("x" * 1000), "x" * 300),
    ],
)
def test_first_line(error: Exception, said: str) -> None:
    assert first_line(error) == said
