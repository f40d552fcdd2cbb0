"""Leadership given up on purpose: a follower asks for it, or this leader's log volume is nearly full.

Rule: asks Raft for a transfer and nothing else; a transfer loses no write and needs a quorum, so no wish can do harm.
Nodes whose volume is nearly full say so every second, so that a full leader does not hand over to another full node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.observe.events import Notice
from durakv.replication.transport import KIND_HANDOVER, LANE_CONTROL
from durakv.resp.errors import CommandError
from raft.errors import ProposalDropped

if TYPE_CHECKING:
    from durakv.replication.node import GroupNode

_WISH: Final = b"\x01"
_FULL: Final = b"\x02"
# A node that has said nothing for this long has room again.
_FULL_HOLDS_NS: Final = 3_000_000_000
# Seconds a full leader listens first: others may be full as well, or about to have room again.
_LISTEN_SECONDS: Final = 3

MASTER_DOWN: Final = "ERR Master is down or failed, please use CLUSTER FAILOVER FORCE"
LEARNER: Final = "ERR a learner cannot lead; make it a voter with CLUSTER PROMOTENODE first"


class Handover:
    """One node's part in it."""

    def __init__(self, node: GroupNode) -> None:
        self.node = node
        # Node -> when it last said that it is full.
        self.full_ns: dict[int, int] = {}
        self.full_seconds = 0

    def ask(self, *, force: bool) -> None:
        """Ask the leader to hand over to this node; without a leader, ``force`` starts an election. CommandError."""
        node = self.node
        if node.node_id not in node.core.membership.voters:
            raise CommandError(LEARNER)
        if node.leader_id:
            sent = node.transport.send(node.leader_id, LANE_CONTROL, KIND_HANDOVER, _WISH)
            if sent:
                return
        if not force:
            raise CommandError(MASTER_DOWN)
        node.core.campaign()
        node.engine.schedule()

    def on_frame(self, from_id: int, payload: bytes) -> None:
        """Another node asks for leadership, or is full. Raises ValueError when malformed."""
        if payload == _FULL:
            self.full_ns[from_id] = self.node.clock.monotonic_ns()
        elif payload == _WISH:
            if self.node.leading:
                self._to(from_id, "it asked for leadership")
        else:
            raise ValueError("malformed hand-over frame")

    def second(self) -> None:
        """Call once a second: tell the others when this volume is nearly full, and do not lead with it."""
        node = self.node
        if node.engine.disk_refusal is None:
            self.full_seconds = 0
            return
        for peer in node.transport.lanes:
            node.transport.send(peer, LANE_CONTROL, KIND_HANDOVER, _FULL)
        if not node.leading:
            self.full_seconds = 0
            return
        self.full_seconds += 1
        if self.full_seconds >= _LISTEN_SECONDS:
            target = node.most_caught_up(self._full())
            if target:
                # Given up after an election timeout when the target is slow; then it is asked for again.
                self._to(target, "the log volume of this node is nearly full")

    def _full(self) -> list[int]:
        now_ns = self.node.clock.monotonic_ns()
        return [peer for peer, at_ns in self.full_ns.items() if now_ns - at_ns < _FULL_HOLDS_NS]

    def _to(self, target: int, why: str) -> None:
        node = self.node
        if node.core.transferee == target:
            return
        try:
            node.core.transfer_leader(target)
        except ProposalDropped as e:
            node.engine.observer.event(Notice("hand-over-refused", f"to node {target}: {e}"))
            return
        node.engine.observer.event(Notice("hand-over", f"to node {target}: {why}"))
        node.engine.schedule()
