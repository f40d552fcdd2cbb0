"""The state all roles share, and the few moves every role makes: send, step down, change the membership.

Rule: no decision of the protocol is made here except "a message may not leave before what it promises is durable":
deliver() is at once, deliver_durable() after. Roles are functions over this state in follower.py, candidate.py and
leader.py; must not know how they are routed.
"""

from collections import deque
from typing import Protocol

from raft.config import Config
from raft.log import RaftLog
from raft.messages import Message, ReadIndexResp, Snapshot
from raft.progress import Progress
from raft.reads import Reads, RemoteRead
from raft.replication_set import ReplicationSet
from raft.storage import LogReader
from raft.types import EntryKind, HardState, Membership, Role, SnapshotMeta


class Rng(Protocol):
    """The only source of chance."""

    def below(self, n: int) -> int:
        """A number in 0 .. n-1."""
        ...


def stored_memberships(storage: LogReader) -> list[tuple[int, Membership]]:
    """Every (index, membership) of a stored log, oldest first; reads the whole log."""
    meta = storage.snapshot_meta()
    out = [(0, Membership())] if meta is None else [(meta.index, meta.membership)]
    at = storage.first_index()
    while at <= storage.last_index():
        for entry in storage.entries(at, storage.last_index() + 1, 1024 * 1024):
            if entry.kind == EntryKind.CONFIG and entry.index > out[0][0]:
                out.append((entry.index, Membership.decode(entry.data)))
            at = entry.index + 1
    return out


class Node:
    """All state of one member. Fields are read by the role functions; only this package touches them."""

    def __init__(
        self,
        config: Config,
        storage: LogReader,
        rng: Rng,
        hard_state: HardState,
        memberships: list[tuple[int, Membership]],
        applied: int,
    ) -> None:
        config.validate()
        base = storage.first_index() - 1
        if hard_state.commit > storage.last_index():
            raise ValueError(
                f"hard state says commit {hard_state.commit}, the log ends at {storage.last_index()}: durable entries "
                "were lost; rejoin this server under a new id"
            )
        self.config = config
        self.id = config.node_id
        self.group = config.group
        self.rng = rng
        self.log = RaftLog(storage, max(applied, base), max(hard_state.commit, base, applied))
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.role: int = Role.FOLLOWER
        self.leader = 0
        self.now_ns = 0
        # Memberships by the index that set them, oldest first; the last is in force from when it was appended.
        self.conf = list(memberships)
        self.conf_index, self.membership = self.conf[-1]

        self.election_elapsed = 0
        self.heartbeat_elapsed = 0
        self.election_timeout = 0
        self.draw_timeout()
        self.votes: dict[int, bool] = {}
        # A candidate asks the witness from this tick on.
        self.witness_ask_ticks = 0

        # The promise behind lease reads, see lease.py. A restarted node may have made one it forgot.
        self.promise_boot = config.lease_reads and hard_state.term > 1
        self.promise_boot_ns = -1
        self.promise_heard_ns = -1
        self.promise_term = 0
        self.promise_round = 0

        # A snapshot being received.
        self.incoming: SnapshotMeta | None = None
        self.incoming_offset = 0
        self.incoming_crc = 0

        self.reads = Reads()
        # Reads asked of the leader: own number -> (ctx, tick it gives up at).
        self.asked: dict[int, tuple[object, int]] = {}
        # Starts anywhere, so that an answer to a read asked before a crash is not taken for one asked after it.
        self.read_id = rng.below(1 << 31) << 32
        self.ticks = 0

        self._init_leader()
        self._init_outputs()

    def _init_leader(self) -> None:
        """What only a leader uses."""
        self.peers: dict[int, Progress] = {}
        self.peer_list: list[Progress] = []
        self.incoming_half: list[Progress] = []
        self.outgoing_half: list[Progress] = []
        self.self_incoming = False
        self.self_outgoing = False
        self.noop_index = 0
        self.subterm = 0
        self.round = 0
        self.lease_floor = 0
        self.transferee = 0
        self.transfer_sent = False
        # None unless this node leads a group with a witness; see pin.py.
        self.replication: ReplicationSet | None = None
        # Counted over all roles: messages to the witness, its refusals, changes of the replication set.
        self.witness_sent = 0
        self.witness_refused = 0
        self.witness_swaps = 0
        self.uncommitted: deque[tuple[int, int]] = deque()
        self.uncommitted_bytes = 0
        self.send_needed = False
        self.beat_due = False
        self.announce_due = False
        self.retire_due = False

    def _init_outputs(self) -> None:
        """What is collected for the next Ready."""
        self.messages: list[Message] = []
        self.after_persist: list[Message] = []
        self.chunks: list[Snapshot] = []
        self.install: SnapshotMeta | None = None
        self.failed_reads: list[object] = []

    def draw_timeout(self) -> None:
        """A fresh election timeout in [election_ticks, 2 * election_ticks)."""
        self.election_timeout = self.config.election_ticks + self.rng.below(self.config.election_ticks)

    def deliver(self, message: Message) -> None:
        """Send without waiting for anything to be durable."""
        self.messages.append(message)

    def deliver_durable(self, message: Message) -> None:
        """Send when all state up to now is durable: votes and acknowledgements."""
        self.after_persist.append(message)

    def promotable(self) -> bool:
        """True if this node may campaign: a voter with no snapshot half installed.

        A voter that an uncommitted membership leaves out still may, not counting itself: its log may be the only one
        good enough to win, and without it the group would be stuck (dissertation 4.2.2).
        """
        if self.log.pending_snapshot is not None:
            return False
        if self.membership.is_voter(self.id):
            return True
        return self.conf_index > self.log.commit and self.membership_at(self.log.commit).is_voter(self.id)

    def become_follower(self, term: int, leader: int) -> None:
        """Follow `leader` (0: nobody yet) in `term`; everything tied to the former role or term is dropped."""
        if term != self.term:
            self.term = term
            self.vote = 0
            self.incoming = None
        if self.role == Role.LEADER:
            self.fail_reads()
            self.peers = {}
            self.rewire()
            self.uncommitted.clear()
            self.uncommitted_bytes = 0
            self.transferee = 0
            self.transfer_sent = False
            self.replication = None
            self.send_needed = False
            self.beat_due = False
            self.announce_due = False
            self.retire_due = False
        if leader != self.leader:
            self.fail_asked()
        self.role = Role.FOLLOWER
        self.leader = leader
        self.votes = {}
        self.election_elapsed = 0
        self.draw_timeout()

    def fail_reads(self) -> None:
        """Give up every read whose proof needs leadership here."""
        for ctx in self.reads.fail():
            if isinstance(ctx, RemoteRead):
                self.deliver(ReadIndexResp(self.group, self.id, ctx.node, self.term, ctx.read_id, False, 0))
            else:
                self.failed_reads.append(ctx)

    def fail_asked(self) -> None:
        """Give up every read asked of a leader that is no longer ours."""
        self.failed_reads.extend([ctx for ctx, _ in self.asked.values()])
        self.asked.clear()

    def push_membership(self, index: int, membership: Membership) -> None:
        """The entry at `index` sets the membership, from now on (dissertation 4.1)."""
        self.conf.append((index, membership))
        self.conf_index = index
        self.membership = membership

    def rollback_membership(self, index: int) -> None:
        """Entries from `index` on are gone, and what they set with them."""
        while self.conf[-1][0] >= index:
            self.conf.pop()
        self.conf_index, self.membership = self.conf[-1]

    def membership_at(self, index: int) -> Membership:
        """The membership in force at `index`, which must not be below the applied index."""
        for at, membership in reversed(self.conf):
            if at <= index:
                return membership
        raise ValueError(f"the membership at {index} is no longer known; ask for the applied index or later")

    def rewire(self) -> None:
        """Recompute the flat lists the leader's hot path walks, in order of id."""
        membership = self.membership
        self.peer_list = [self.peers[node] for node in sorted(self.peers)]
        self.incoming_half = [pr for pr in self.peer_list if pr.node in membership.voters]
        self.outgoing_half = [pr for pr in self.peer_list if pr.node in membership.voters_outgoing]
        self.self_incoming = self.id in membership.voters
        self.self_outgoing = self.id in membership.voters_outgoing
