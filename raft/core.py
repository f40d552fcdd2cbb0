"""Raft: the door to one member of one group. Routes messages by term and role, and gathers what is to be done.

Rule: a pure state machine. It does no IO, keeps no clock and draws no chance of its own, so the same calls give the
same Readys. The only place that compares a message's term with ours. Errors it raises are definite refusals
(raft.errors); an AssertionError means a broken promise (lost durable entries, two leaders) and must stop the node.
"""

from collections.abc import Callable
from typing import Final

from raft import candidate, follower, leader, snapshots
from raft.config import Config
from raft.errors import NotLeader
from raft.lease import lease_valid, note_clock
from raft.messages import (
    Append,
    AppendResp,
    Heartbeat,
    HeartbeatResp,
    Message,
    PreVote,
    PreVoteResp,
    ReadIndexReq,
    ReadIndexResp,
    Snapshot,
    SnapshotResp,
    StorageAppendDone,
    TimeoutNow,
    Vote,
    VoteResp,
    WitnessAppendResp,
    WitnessVoteResp,
)
from raft.node import Node, Rng, stored_memberships
from raft.pin import asking, engaged, pinned
from raft.ready import Ready, SoftState
from raft.status import PeerStatus, Status, WitnessView
from raft.storage import LogReader
from raft.types import ConfChange, HardState, Membership, Role

_Handler = Callable[[Node, Message], None]

_AS_LEADER: Final[dict[type[Message], _Handler]] = {
    AppendResp: leader.handle_append_resp,
    HeartbeatResp: leader.handle_heartbeat_resp,
    SnapshotResp: snapshots.handle_snapshot_resp,
    ReadIndexReq: leader.handle_read_index_req,
    WitnessAppendResp: leader.handle_witness_append_resp,
    Vote: candidate.handle_vote,
    PreVote: candidate.handle_pre_vote,
    # Only to notice a second leader of the same term.
    Append: follower.handle_append,
    Heartbeat: follower.handle_heartbeat,
    Snapshot: follower.handle_snapshot,
}

_OTHERWISE: Final[dict[type[Message], _Handler]] = {
    Append: follower.handle_append,
    Heartbeat: follower.handle_heartbeat,
    Snapshot: follower.handle_snapshot,
    ReadIndexResp: follower.handle_read_index_resp,
    ReadIndexReq: leader.handle_read_index_req,
    Vote: candidate.handle_vote,
    PreVote: candidate.handle_pre_vote,
    VoteResp: candidate.handle_vote_resp,
    PreVoteResp: candidate.handle_pre_vote_resp,
    WitnessVoteResp: candidate.handle_witness_vote_resp,
    TimeoutNow: candidate.handle_timeout_now,
}

_FROM_LEADER: Final = (Append, Heartbeat, Snapshot)


def _grants_pre_vote(m: Message) -> bool:
    if isinstance(m, WitnessVoteResp):
        return m.pre and m.granted
    return isinstance(m, PreVoteResp) and m.granted


class Raft(Node):
    """One member of one group.

    `storage` shows the durable log after recovery; `hard_state` and `applied` (0, or the index the application's state
    already contains) come from disk. `memberships` are all (index, Membership) of the stored log, oldest first, if the
    driver knows them from its recovery scan; otherwise the log is read through once here.
    """

    def __init__(
        self,
        config: Config,
        storage: LogReader,
        rng: Rng,
        hard_state: HardState,
        applied: int = 0,
        memberships: list[tuple[int, Membership]] | None = None,
    ) -> None:
        if not memberships:
            memberships = stored_memberships(storage)
        super().__init__(config, storage, rng, hard_state, memberships, applied)
        self._taken_term = hard_state.term
        self._taken_vote = hard_state.vote
        self._taken_commit = hard_state.commit
        self._taken_role: int = Role.FOLLOWER
        self._taken_leader = 0
        self._seq = 0

    # Input

    def step(self, m: Message, now_ns: int = 0) -> None:
        """Take a message from a peer, or one of a Ready's after_persist addressed to this node.

        `now_ns` is monotonic and, for lease reads, has to be read after the message arrived: a voter's promise counts
        from it. Without lease reads it may be left out.
        """
        if now_ns > self.now_ns:
            note_clock(self, now_ns)
        kind = type(m)
        if m.to != self.id or m.group != self.group:
            return
        if kind is StorageAppendDone:
            self._storage_append_done(m)
            return
        if m.term != self.term and not self._accept_term(m):
            return
        handler = _AS_LEADER.get(kind) if self.role == Role.LEADER else _OTHERWISE.get(kind)
        if handler is not None:
            handler(self, m)

    def _storage_append_done(self, m: Message) -> None:
        assert isinstance(m, StorageAppendDone)
        # Carries no authority of a term: what is durable stays durable.
        if self.log.handover_done(m.seq, m.index, m.term_last) and self.role == Role.LEADER:
            leader.maybe_commit(self)

    def _accept_term(self, m: Message) -> bool:
        """The rules for a term other than ours (dissertation 3.3); True if the message is to be handled."""
        if m.term > self.term:
            if isinstance(m, Vote):
                if candidate.sticky(self, m.term, m.force, m.force_round):
                    return False
                self.become_follower(m.term, 0)
            elif isinstance(m, PreVote):
                return not candidate.sticky(self, m.term, False, 0)
            elif _grants_pre_vote(m):
                return True
            else:
                self.become_follower(m.term, m.from_ if isinstance(m, _FROM_LEADER) else 0)
            return True
        if isinstance(m, _FROM_LEADER):
            # Silence would leave the old leader, or a node that ran ahead of the group, stuck where it is.
            self.deliver(AppendResp(self.group, self.id, m.from_, self.term, False, 0, 0, 0, 0, 0))
        elif isinstance(m, PreVote):
            self.deliver(PreVoteResp(self.group, self.id, m.from_, self.term, False))
        elif isinstance(m, WitnessVoteResp):
            # A refused pre-vote tells the witness's own term, which may well lag behind.
            return m.pre
        return isinstance(m, ReadIndexReq)

    def tick(self, now_ns: int = 0) -> None:
        """One tick of time passed."""
        if now_ns > self.now_ns:
            note_clock(self, now_ns)
        self.ticks += 1
        if self.asked:
            self._expire_asked()
        if self.role == Role.LEADER:
            leader.tick(self)
            return
        candidate.tick(self)

    def _expire_asked(self) -> None:
        late = [read_id for read_id, asked in self.asked.items() if asked[1] <= self.ticks]
        for read_id in late:
            self.failed_reads.append(self.asked.pop(read_id)[0])

    def propose(self, data: bytes) -> int:
        """Append an entry and return its index; it may still be replaced by another leader's.

        Raises ProposalDropped, always definite: NotLeader, Transferring or Overloaded.
        """
        return leader.propose(self, data)

    def propose_conf(self, change: ConfChange) -> int:
        """Append a membership, in force at once, and return its index.

        If the change already holds, or is under way, the index that set it is returned instead and nothing is
        appended. Several voters at once go through a joint phase; the change is done when the membership is no longer
        joint. Raises ProposalDropped: NotLeader, Transferring, ConfChangePending or ConfChangeInvalid.
        """
        return leader.propose_conf(self, change)

    def read_index(self, ctx: object) -> None:
        """Ask for an index to read at; `ctx` comes back in read_states, or in failed_reads.

        A follower asks its leader. Raises NotLeader if no leader is known.
        """
        if self.role == Role.LEADER:
            leader.add_read(self, ctx)
            return
        if self.leader == 0:
            raise NotLeader(0)
        self.read_id += 1
        self.asked[self.read_id] = (ctx, self.ticks + self.config.election_ticks)
        self.deliver(ReadIndexReq(self.group, self.id, self.leader, self.term, self.read_id))

    def transfer_leader(self, to: int) -> None:
        """Hand over to a voter: bring it up to date, then let it campaign; given up after an election timeout.

        Raises NotLeader or TransferRefused, the latter also for the voter the witness stands in for. Proposals are
        refused meanwhile.
        """
        leader.transfer(self, to)

    def announce_commit(self) -> None:
        """With lazy_commit: let followers that have not heard of the newest commit hear of it now."""
        leader.announce_commit(self)

    def campaign(self) -> None:
        """Start an election now, if this node may lead and no lease promise forbids it."""
        candidate.campaign(self)

    def report_unreachable(self, peer: int) -> None:
        """The connection to `peer` broke: messages may be lost, so find out where its log is before sending ahead."""
        leader.report_unreachable(self, peer)

    def report_snapshot(self, peer: int, ok: bool) -> None:
        """A snapshot transfer the driver did by other means ended; chunks sent by the core need no report."""
        snapshots.report_snapshot(self, peer, ok)

    def forget_leader(self) -> None:
        """A follower stops waiting for its leader, so that others may be elected; a lease promise stays."""
        if self.role == Role.FOLLOWER and self.leader != 0:
            self.become_follower(self.term, 0)

    def applied_to(self, index: int) -> None:
        """The application's state contains everything through `index`."""
        if index > self.log.applied:
            if index > self.log.emitted:
                raise AssertionError(f"applied {index} but only {self.log.emitted} was given out")
            self.log.applied = index
            conf = self.conf
            while len(conf) > 1 and conf[1][0] <= index:
                # Older ones can neither come back nor be wanted for a snapshot.
                del conf[0]

    # Output

    def has_ready(self) -> bool:
        """True if ready() would give something to do."""
        log = self.log
        return bool(
            self.messages
            or self.after_persist
            or self.send_needed
            or self.beat_due
            or log.handed < log.last
            or (log.commit > log.emitted and log.stable > log.emitted)
            or self.reads.proven_min <= log.emitted
            or self.failed_reads
            or self.chunks
            or self.install is not None
            or self.term != self._taken_term
            or self.vote != self._taken_vote
            or (log.commit > self._taken_commit and log.stable > self._taken_commit)
            or self.role != self._taken_role
            or self.leader != self._taken_leader
        )

    def ready(self) -> Ready:
        """Take everything there is to do; see raft.ready for the order of work."""
        if self.send_needed or self.beat_due:
            leader.emit(self)
        log = self.log
        rd = Ready()
        rd.entries = log.take_unhanded()
        rd.messages = self.messages
        rd.after_persist = self.after_persist
        self.messages = []
        self.after_persist = []
        if self.install is not None or self.chunks:
            rd.snapshot = self.install
            rd.snapshot_chunks = self.chunks
            self.install = None
            self.chunks = []
        if rd.entries or rd.snapshot is not None:
            self._seq += 1
            log.note_handover(self._seq)
            rd.must_sync = True
            rd.after_persist.append(
                StorageAppendDone(self.group, self.id, self.id, self.term, log.last, log.last_term, self._seq)
            )
        self._take_hard_state(rd)
        if log.commit > log.emitted:
            rd.committed_entries = log.take_committed(self.config.max_committed_bytes_per_ready)
        if self.reads.proven_min <= log.emitted:
            rd.read_states = self.reads.release(log.emitted)
        if self.failed_reads:
            rd.failed_reads = self.failed_reads
            self.failed_reads = []
        if self.role != self._taken_role or self.leader != self._taken_leader:
            self._taken_role = self.role
            self._taken_leader = self.leader
            rd.soft_state = SoftState(self.role, self.leader)
        return rd

    def _take_hard_state(self, rd: Ready) -> None:
        log = self.log
        # Never ahead of the durable log: a crash may keep this record and lose entries written with it.
        commit = max(self._taken_commit, min(log.commit, log.stable))
        if self.term != self._taken_term or self.vote != self._taken_vote:
            rd.must_sync = True
        elif commit == self._taken_commit:
            return
        self._taken_term = self.term
        self._taken_vote = self.vote
        self._taken_commit = commit
        rd.hard_state = HardState(self.term, self.vote, commit)

    # Looking in

    def lease_valid(self, now_ns: int) -> bool:
        """True if a read at the commit index is linearizable right now without a message.

        Needs lease_reads, or a leader pinned by its witness.
        """
        return lease_valid(self, now_ns)

    def witness_state(self) -> WitnessView:
        """How the group's witness stands, as far as this member knows."""
        witness = self.membership.witness_id()
        rs = self.replication
        if rs is None:
            return WitnessView(
                witness, (), 0, -1, False, False, False, self.witness_swaps, self.witness_sent, self.witness_refused
            )
        return WitnessView(
            witness,
            rs.members,
            self.subterm,
            rs.witness_subterm,
            engaged(self, rs),
            pinned(self),
            asking(self, rs),
            self.witness_swaps,
            self.witness_sent,
            self.witness_refused,
        )

    def copies(self, index: int) -> int:
        """How many members, this one included, are known to hold `index` durably; a witness holds nothing.

        Only a leader knows of others.
        """
        count = 1 if self.log.stable >= index else 0
        for pr in self.peer_list:
            if pr.match >= index and pr.leaving_index == 0:
                count += 1
        return count

    def status(self) -> Status:
        """A picture of this moment, for operators and tests."""
        log = self.log
        peers = [
            PeerStatus(pr.node, pr.state, pr.match, pr.next, pr.is_learner, pr.recent_active, len(pr.inflight))
            for pr in self.peer_list
        ]
        return Status(
            self.id,
            self.role,
            self.term,
            self.vote,
            self.leader,
            log.commit,
            log.applied,
            log.last,
            log.stable,
            self.transferee,
            self.conf_index,
            self.membership,
            peers,
            self.witness_state(),
        )
