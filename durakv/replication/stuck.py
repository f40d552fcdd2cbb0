"""A leader whose disk stands still answers nobody, and its heartbeats keep the others from leading: it hands over.

Rule: judges by progress alone, whatever the reason (full, hung, slow). The log may be durable on a majority meanwhile;
this node could apply nothing of it, for it applies only what its own disk holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from raft.errors import ProposalDropped

if TYPE_CHECKING:
    from durakv.replication.node import GroupNode


class StuckDisk:
    """Watches one node's durable index while it leads."""

    def __init__(self, node: GroupNode) -> None:
        self.node = node
        self.durable = 0
        self.since_ns = 0

    def check(self) -> None:
        """Call every tick: hand over when entries have waited for the disk for an election timeout without progress."""
        node = self.node
        now_ns = node.clock.monotonic_ns()
        durable = node.log.durable_index()
        if not node.leading or durable != self.durable or durable >= node.core.log.last:
            self.durable, self.since_ns = durable, now_ns
            return
        if now_ns - self.since_ns < node.core.config.election_ticks * node.tick_ms * 1_000_000:
            return
        self.since_ns = now_ns
        target = node.most_caught_up()
        if not target:
            return
        try:
            node.core.transfer_leader(target)
        except ProposalDropped:
            # Nobody is fit to take over now; another attempt follows after as long again.
            return
