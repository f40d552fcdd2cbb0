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


_COLUMNS: Final = 80
_ROWS: Final = 4
_TOPS: Final = "_o#"


def graph(event: str, spikes: Spikes, now_s: int) -> str:
    """The samples as columns of letters, older ones left, each over its age; Valkey's layout (latency.c)."""
    values = [took_ms for _, took_ms in spikes.samples]
    low, high = min(values), max(values)
    labels = [_age(now_s - at_s) for at_s, _ in spikes.samples]
    lines = [f"{event} - high {high} ms, low {low} ms (all time high {spikes.worst_ms} ms)", "-" * _COLUMNS]
    for start in range(0, len(values), _COLUMNS):
        if start:
            lines.append("")
        columns = [_column(value - low, high - low) for value in values[start : start + _COLUMNS]]
        names = labels[start : start + _COLUMNS]
        lines += ["".join(column[row] for column in columns) for row in range(_ROWS)]
        lines.append(" " * len(columns))
        for at in range(max(map(len, names))):
            lines.append("".join(name[at] if at < len(name) else " " for name in names))
    return "\n".join(lines) + "\n"


def _column(above: int, span: int) -> str:
    """One value, top row first."""
    steps = len(_TOPS) * _ROWS
    step = min(above * steps // max(1, span), steps - 1)
    full, top = divmod(step, len(_TOPS))
    return " " * (_ROWS - full - 1) + _TOPS[top] + "|" * full


def _age(seconds: int) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"
