"""What replies, errors and silences say about a request."""

from __future__ import annotations

import pytest

from durakv.engine import failure
from durakv.resp import errors
from jstyle.history.op import FAIL, INFO
from jstyle.sim.outcomes import is_forbidden, of_error, of_silence


@pytest.mark.parametrize("text", [
    failure.NO_LEADER, failure.LOST, failure.UNBLOCKED, errors.LOADING, errors.WRONGTYPE, errors.EXECABORT,
    "THROTTLED 1 bytes wait", "MISCONF disk", "MOVED 1 a:1", "OOM command not allowed",
])  # fmt: skip
def test_definite_errors(text: str) -> None:
    assert of_error(text) == FAIL


@pytest.mark.parametrize("text", [
    failure.UNKNOWN_LEADER, failure.UNKNOWN_DEMOTED, failure.UNKNOWN_REPLACED, "MAYBE", "SOMETHING new", "", "ERRATIC",
])  # fmt: skip
def test_everything_else_is_unknown(text: str) -> None:
    assert of_error(text) == INFO


def test_silence() -> None:
    assert of_silence(sent=True, effect=True) == INFO
    assert of_silence(sent=True, effect=False) == FAIL
    assert of_silence(sent=False, effect=True) == FAIL


def test_errors_no_correct_node_gives() -> None:
    assert is_forbidden(errors.INTERNAL)
    assert not is_forbidden(failure.NO_LEADER)
