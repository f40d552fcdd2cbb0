"""LATENCY: spikes by event name (``command``, ``fsync``, ``apply``, ...), the last 160 of each.

Rule: a spike is noted only from the threshold up, so an idle monitor costs one comparison.
"""

from __future__ import annotations

from collections import deque
from typing import Final

_SAMPLES_MAX: Final = 160


class Spikes:
    """Samples of one event: (Unix seconds, milliseconds), oldest first; the worst of a second is kept."""

    def __init__(self) -> None:
        self.samples: deque[tuple[int, int]] = deque(maxlen=_SAMPLES_MAX)
        self.worst_ms = 0
        self.count = 0
        self.total_ms = 0

    def add(self, at_s: int, took_ms: int) -> None:
        """Add a sample."""
        self.count += 1
        self.total_ms += took_ms
        self.worst_ms = max(self.worst_ms, took_ms)
        if self.samples and self.samples[-1][0] == at_s:
            self.samples[-1] = (at_s, max(self.samples[-1][1], took_ms))
        else:
            self.samples.append((at_s, took_ms))


class LatencyMonitor:
    """``threshold_ms`` 0 switches it off (latency-monitor-threshold)."""

    def __init__(self, threshold_ms: int = 0) -> None:
        self.threshold_ms = threshold_ms
        self.events: dict[str, Spikes] = {}

    def note(self, event: str, took_ms: int, now_ms: int) -> None:
        """Keep a spike when it reaches the threshold."""
        if self.threshold_ms <= 0 or took_ms < self.threshold_ms:
            return
        spikes = self.events.get(event)
        if spikes is None:
            spikes = Spikes()
            self.events[event] = spikes
        spikes.add(now_ms // 1000, took_ms)

    def reset(self, names: list[str]) -> int:
        """Forget the named events, all without names; returns how many there were."""
        gone = [name for name in (names or list(self.events)) if name in self.events]
        for name in gone:
            del self.events[name]
        return len(gone)
