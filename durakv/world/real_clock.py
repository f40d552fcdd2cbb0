"""The kernel's clocks and the event loop's timers.

Rule: with real_network.py the only place that knows the event loop. The loop must be uvloop: its call_soon() callbacks
run before the next input is read, so everything ready in one turn is handled before they do.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from durakv.world.ports import Timer

# Elsewhere than on Linux the plain monotonic clock is all there is; it may stand still while the machine sleeps.
_CLOCK: Final[int] = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
# Stands still while the machine sleeps, so it is compared over the gaps between turns only. -1: there is none.
_RAW: Final[int] = getattr(time, "CLOCK_MONOTONIC_RAW", -1)


class RealClock:
    """See ports.Clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def monotonic_ns(self) -> int:
        """Nanoseconds since boot, suspend included."""
        return time.clock_gettime_ns(_CLOCK)

    def raw_ns(self) -> int:
        """Nanoseconds since an arbitrary start, at the rate of the machine's own counter."""
        return time.clock_gettime_ns(_RAW) if _RAW >= 0 else -1

    def wall_ms(self) -> int:
        """Unix milliseconds."""
        return time.time_ns() // 1_000_000

    def call_later(self, delay_ms: float, fn: Callable[[], None]) -> Timer:
        """Run ``fn`` once after at least ``delay_ms``; the loop's resolution is a millisecond."""
        return self._loop.call_later(delay_ms / 1000, fn)

    def call_soon(self, fn: Callable[[], None]) -> None:
        """Run ``fn`` in the next round of the loop."""
        self._loop.call_soon(fn)
