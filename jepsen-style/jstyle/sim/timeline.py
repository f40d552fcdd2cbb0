"""The one queue of everything that will happen in a simulated world, and the digest of everything that did.

Rule: the only place where simulated time moves. An event is ``(t_ns, seq, fn)``; of two at the same instant the one
asked for first runs first, so a run is a function of its seed. It must not know what an event means.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Final
from zlib import crc32

MS: Final = 1_000_000
SECOND: Final = 1_000_000_000
# True time at the start of every run; not zero, so that nothing passes by treating zero as "never".
START_NS: Final = 10**12

_MASK: Final = (1 << 64) - 1
_FACTOR: Final = 0x5851F42D4C957F2D

Trace = Callable[[int, str, tuple[object, ...]], None]


class Timeline:
    """``now_ns`` is true time; ``events`` counts what has run; ``trace(t_ns, kind, fields)`` hears every fold."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self.events = 0
        self.trace: Trace | None = None
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._asked = 0
        self._digest = 0

    def at(self, delay_ns: int, fn: Callable[[], None]) -> None:
        """Run ``fn`` after ``delay_ns`` (0 or more) of true time."""
        assert delay_ns >= 0, f"an event {-delay_ns} ns in the past"
        self._asked += 1
        heappush(self._queue, (self.now_ns + delay_ns, self._asked, fn))

    def run_until(self, t_ns: int, until: Callable[[], bool] | None = None) -> bool:
        """Let time pass up to ``t_ns``, or less when ``until`` comes true after an event; returns whether it did."""
        queue = self._queue
        while queue and queue[0][0] <= t_ns:
            now, seq, fn = heappop(queue)
            self.now_ns = now
            self.events += 1
            self._digest = ((self._digest ^ now ^ (seq << 20)) * _FACTOR) & _MASK
            fn()
            if until is not None and until():
                return True
        self.now_ns = max(self.now_ns, t_ns)
        return False

    def run_for(self, delay_ns: int, until: Callable[[], bool] | None = None) -> bool:
        """``run_until`` counted from now."""
        return self.run_until(self.now_ns + delay_ns, until)

    def fold(self, kind: str, *fields: object) -> None:
        """Take a fact of this run into the digest, and tell the trace. ``fields`` must have a stable ``repr``."""
        self.mix(crc32(repr((kind, fields)).encode()))
        if self.trace is not None:
            self.trace(self.now_ns, kind, fields)

    def mix(self, number: int) -> None:
        """Take a number (0 or more) into the digest; cheaper than ``fold`` and not traced."""
        self._digest = ((self._digest ^ number) * _FACTOR) & _MASK

    def digest(self) -> str:
        """16 hex digits that differ, as good as surely, when two runs differed in any event."""
        return f"{self._digest:016x}"
