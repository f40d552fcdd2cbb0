"""A picture of a data node for operators: INFO sections, administration, test transcripts.

Rule: plain copies; holding one never reaches into the core.
"""

from raft.primary_backup.node import Member
from raft.progress import STATE_NAMES
from raft.types import Role


class PeerStatus:
    """What the primary knows of one other node. `in_sync`: nothing commits without it."""

    __slots__ = ("in_sync", "inflight", "leased", "match", "next", "node", "state")

    def __init__(
        self, node: int, state: int, match: int, next_: int, in_sync: bool, leased: bool, inflight: int
    ) -> None:
        self.node = node
        self.state = STATE_NAMES[state]
        self.match = match
        self.next = next_
        self.in_sync = in_sync
        self.leased = leased
        self.inflight = inflight


class Status:
    """One data node at one moment; `peers` is empty unless it is primary.

    `isr`, `learners`, `min_isr` and `config_epoch` are of the newest configuration known; `effective_isr` is who counts
    now, more than `isr` while a change is open. `not_serving` says why no read is served, "" if one is.
    """

    def __init__(self, r: Member, peers: list[PeerStatus], serving: bool, lease_left_ns: int, missing: str) -> None:
        known = r.known
        leads = r.role == Role.LEADER
        self.node = r.id
        self.role = r.role
        self.term = r.term
        self.leader = r.leader
        self.commit = r.log.commit
        self.applied = r.log.applied
        self.last_index = r.log.last
        self.stable = r.log.stable
        self.config_epoch = 0 if known is None else known.epoch
        self.isr = () if known is None else known.isr
        self.learners = () if known is None else known.learners
        self.min_isr = 0 if known is None else known.min_isr
        self.forced_epoch = 0 if known is None else known.forced_epoch
        self.effective_isr = r.effective() if leads else ()
        self.change_open = r.change is not None
        self.joining = r.joining
        self.transferee = r.transferee
        self.serving = serving
        self.lease_left_ns = lease_left_ns
        self.not_serving = "" if serving else missing or "this node is not sure of its office yet"
        self.rebuilding = r.rebuild_for != 0
        self.clock_drops = r.clock_drops
        self.pauses = r.pauses
        self.peers = peers

    def role_name(self) -> str:
        """The role as a word."""
        if self.role == Role.LEADER:
            return "primary"
        return "secondary" if self.node in self.isr else "candidate"
