"""The config holder as a data node sees it: somewhere calls go, and from where answers come.

Rule: must not know which holder it is; the composition root connects one (durakv.holder), a test another.
"""

from __future__ import annotations

from collections.abc import Callable

from raft.primary_backup.holder import HolderPort
from raft.primary_backup.messages import HolderAnswer, HolderCall

Rows = Callable[[], list[tuple[str, object]]]


def _no_rows() -> list[tuple[str, object]]:
    return []


def _nothing() -> None:
    """There is nothing to close."""


def _unheard(answer: HolderAnswer) -> None:
    """The node is not there yet."""


class HolderLink:
    """Set ``port`` before the node starts; ``rows`` gives lines for INFO, ``end`` closes what was opened for it."""

    def __init__(self) -> None:
        self.port: HolderPort | None = None
        self.on_answer: Callable[[HolderAnswer], None] = _unheard
        self.rows: Rows = _no_rows
        self.end: Callable[[], None] = _nothing

    def answered(self, answer: HolderAnswer) -> None:
        """For the port: pass an answer on."""
        self.on_answer(answer)

    def submit(self, call: HolderCall) -> None:
        """See HolderPort."""
        assert self.port is not None, "the node was started before its config holder was connected"
        self.port.submit(call)

    def close(self) -> None:
        """No more calls, no more answers."""
        self.on_answer = _unheard
        self.end()
