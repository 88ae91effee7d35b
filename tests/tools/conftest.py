"""The tools leave no trace either; see tests/cli."""

from tests.cli.conftest import _leave_no_trace

__all__ = ["_leave_no_trace"]
