"""How long writes gather before they become a log entry: group commit across the round trip. [compiled]

An entry costs every node a fixed amount whatever it holds, so clients that wait for one entry's commit should share the
next one. ``expected`` estimates how many requests are out at a time; a new entry starts once most of them are here, or
after GATHER_MS. A lone client never waits: nothing more is expected. Rule: delays only what is not proposed yet, and
never beyond GATHER_MS; it must not know sessions, entries or disks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from durakv.world.ports import Clock

GATHER_MS: Final = 1
# From here on a larger entry saves nothing worth waiting for.
ENOUGH_ITEMS: Final = 256
ENOUGH_BYTES: Final = 64 * 1024


class Gathering:
    """The estimate and the deadline of the batch that is being gathered."""

    def __init__(self) -> None:
        self.expected = 0
        # When the batch now gathering was first held back, monotonic ns; 0 = none is.
        self.since_ns = 0

    def observe(self, outstanding: int) -> None:
        """``outstanding`` requests, its own included, were out when an entry committed: rises at once, falls slowly."""
        if outstanding >= self.expected:
            self.expected = outstanding
        else:
            self.expected -= (self.expected - outstanding + 7) // 8

    def enough(self, items: int, size_bytes: int) -> bool:
        """Whether so much has gathered that the next entry should start."""
        want = self.expected - self.expected // 8 - 1
        return items >= want or items >= ENOUGH_ITEMS or size_bytes >= ENOUGH_BYTES

    def may_start(self, items: int, size_bytes: int, clock: Clock) -> bool:
        """Whether the next entry starts now; if not, ask again GATHER_MS later."""
        if self.enough(items, size_bytes):
            self.since_ns = 0
            return True
        now_ns = clock.monotonic_ns()
        if not self.since_ns:
            self.since_ns = now_ns
        elif now_ns - self.since_ns >= GATHER_MS * 1_000_000:
            self.since_ns = 0
            return True
        return False
