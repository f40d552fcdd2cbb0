"""The deadlines of single fields of one hash, and which of them come next. [compiled]

Rule: a hash has one of these only while some field has a deadline, so that hashes without cost nothing. It knows
neither keys nor time; undoing is the hash's business.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

# Fewer stale entries than this are not worth a rebuild.
_SLACK: Final = 64


class FieldDeadlines:
    """``at_ms[field]`` in Unix ms; ``queue`` holds an entry for each, and stale ones that are dropped when met."""

    __slots__ = ("at_ms", "queue")

    def __init__(self) -> None:
        self.at_ms: dict[bytes, int] = {}
        self.queue: list[tuple[int, bytes]] = []

    def __len__(self) -> int:
        return len(self.at_ms)

    def set(self, field: bytes, at_ms: int) -> int:
        """Give ``field`` a deadline; returns the old one, -1 without."""
        old = self.at_ms.get(field, -1)
        self.at_ms[field] = at_ms
        heappush(self.queue, (at_ms, field))
        if len(self.queue) > 2 * len(self.at_ms) + _SLACK:
            self._rebuild()
        return old

    def clear(self, field: bytes) -> int:
        """Take the deadline away; returns it, -1 when there was none."""
        return self.at_ms.pop(field, -1)

    def next_ms(self) -> int:
        """The earliest deadline; there must be one."""
        queue = self.queue
        while self.at_ms.get(queue[0][1], -1) != queue[0][0]:
            heappop(queue)
        return queue[0][0]

    def due(self, now_ms: int) -> list[bytes]:
        """Fields whose deadline is at most ``now_ms``, earliest first; they stay in place."""
        if self.next_ms() > now_ms:
            return []
        found = [(at_ms, field) for field, at_ms in self.at_ms.items() if at_ms <= now_ms]
        found.sort()
        return [field for _, field in found]

    def copy(self) -> FieldDeadlines:
        """An independent copy."""
        twin = FieldDeadlines()
        twin.at_ms = self.at_ms.copy()
        twin._rebuild()
        return twin

    def _rebuild(self) -> None:
        self.queue = [(at_ms, field) for field, at_ms in self.at_ms.items()]
        heapify(self.queue)
