"""What a node says when its event loop meets an exception nobody caught."""

from __future__ import annotations

import pytest

from durakv.observe.events import Event
from durakv.process import report_crash
from durakv.storage.errors import CorruptionError


class _Log:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def event(self, event: Event) -> None:
        self.events.append(event)


def test_a_damaged_medium_is_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    log = _Log()
    error = CorruptionError("/d/log/1.dkl", 4096, "body of index 7 fails its checksum")
    assert report_crash({"message": "in callback", "exception": error}, log) == 70
    assert capsys.readouterr().err == f"durakv: {error}\n"
    assert log.events == []


def test_a_bug_leaves_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    log = _Log()
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("by hand")
    assert report_crash({"message": "in callback", "exception": caught.value}, log) == 70
    assert "Traceback" in capsys.readouterr().err
    assert len(log.events) == 1
