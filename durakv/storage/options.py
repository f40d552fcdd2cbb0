"""How a log is to be kept: when it is synced, how large a write may be, how much of it stays in memory.

Rule: the only place that names sync policies and the log's numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

SYNC_ALWAYS: Final = "always"
SYNC_EVERYSEC: Final = "everysec"
SYNC_NO: Final = "no"

# One write stays below this so that a sync cannot take seconds on a slow disk; the rest goes into the next one.
BATCH_BYTES_MAX: Final = 16 << 20
READ_BYTES_MAX: Final = 8 << 20
MARK_DELAY_MS: Final = 20
CACHE_BYTES: Final = 32 << 20

Stamp = Callable[[bytes], tuple[int, int]]


class LogOptions:
    """Tuning. ``stamp(data)`` gives (unix ms, command count) of a normal entry's payload for the frame header."""

    def __init__(
        self,
        sync: str = SYNC_ALWAYS,
        cache_bytes: int = CACHE_BYTES,
        batch_bytes_max: int = BATCH_BYTES_MAX,
        stamp: Stamp | None = None,
    ) -> None:
        self.sync = sync
        self.cache_bytes = cache_bytes
        self.batch_bytes_max = batch_bytes_max
        self.stamp = stamp
