"""MONITOR: a line for every command a node takes, to the sessions that asked for it.

Rule: costs one truth test per command while nobody watches; lines are redacted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from durakv.observe.redact import quoted, redacted

if TYPE_CHECKING:
    from durakv.commands.session import Session


class Monitors:
    """``watchers`` is empty almost always; test it before calling feed(). ``wake`` asks for a flush."""

    def __init__(self, wake: Callable[[Session], None]) -> None:
        self.wake = wake
        self.watchers: dict[Session, None] = {}

    def add(self, s: Session) -> None:
        """Begin to show commands to ``s``."""
        s.monitor = True
        self.watchers[s] = None

    def forget(self, s: Session) -> None:
        """Stop; harmless when it was not watching."""
        s.monitor = False
        self.watchers.pop(s, None)

    def feed(self, s: Session, argv: list[bytes], now_us: int) -> None:
        """Show one command of ``s`` to all watchers; ``now_us`` is Unix microseconds."""
        line = b"+%d.%06d [%d %s] %s\r\n" % (
            now_us // 1_000_000,
            now_us % 1_000_000,
            s.db,
            s.address.encode(),
            b" ".join(quoted(arg) for arg in redacted(argv)),
        )
        for watcher in self.watchers:
            watcher.write(line)
            self.wake(watcher)
