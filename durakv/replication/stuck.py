"""A leader whose disk stands still answers nobody, and its heartbeats keep the others from leading: it hands over.

Rule: judges by progress alone, whatever the reason (full, hung, slow). The log may be durable on a majority meanwhile;
this node could apply nothing of it, for it applies only what its own disk holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from durakv.storage.log import Log
    from durakv.world.ports import Clock
    from raft.types import Entry


class StuckDisk:
    """Watches one node's durable index while it leads."""

    def __init__(self, clock: Clock, log: Log[Entry], patience_ns: int) -> None:
        self.clock = clock
        self.log = log
        self.patience_ns = patience_ns
        self.durable = 0
        self.since_ns = 0

    def check(self, *, leading: bool, last_index: int) -> bool:
        """Call every tick. True when entries have waited for the disk for ``patience_ns`` without progress, and again
        after as long: somebody else should lead.
        """
        now_ns = self.clock.monotonic_ns()
        durable = self.log.durable_index()
        if not leading or durable != self.durable or durable >= last_index:
            self.durable, self.since_ns = durable, now_ns
            return False
        if now_ns - self.since_ns < self.patience_ns:
            return False
        self.since_ns = now_ns
        return True
