"""Lease-based primary-backup replication: the door to one data node of one shard. Same seams as raft.Raft.

A primary commits what every in-sync member has on its disk; a small consistent store, the config holder, says who is
primary and who is in sync, and is asked only when that changes (PacificA, MSR-TR-2008-25). Writes are safe whatever the
clocks do; reads are served by leases and are linearizable while clocks keep their rate within the bound.

Rule: a pure state machine. It does no IO, keeps no clock and draws no chance of its own, so the same calls give the
same Readys. The only place that compares a message's epoch with ours. Errors it raises are definite refusals
(errors.py); an AssertionError means a broken promise (lost durable entries, two primaries) and must stop the node.

Where the design leaves a choice:
- A member promises from the moment it *handles* a beacon, and keeps the promise after it has come into office itself.
- A started node waits the grace time before it serves, in whatever role it was.
- No commit while fewer than min_isr members would hold it, so a new primary below min_isr serves nothing until one more
  is joining; the entry of its own that admits the joiner commits on both.
- With other in-sync members the holder's lease is not needed, so that the loss of the holder stops nothing; for that, a
  forced promotion has to name the members it gives up.
"""

from raft.messages import Snapshot, SnapshotResp, StorageAppendDone
from raft.primary_backup import candidate, changes, leases, office, primary, secondary, transfer
from raft.primary_backup.errors import ChangeRefused
from raft.primary_backup.messages import (
    Beacon,
    BeaconOk,
    HolderAnswer,
    PeerMessage,
    Prepare,
    PrepareOk,
    Relinquish,
)
from raft.primary_backup.node import ChangeKind, Member, Rng
from raft.primary_backup.ready import Ready
from raft.primary_backup.settings import Settings
from raft.primary_backup.status import PeerStatus, Status
from raft.progress import ProgressState
from raft.ready import SoftState
from raft.storage import LogReader
from raft.types import HardState, Role

_FROM_PRIMARY = (Prepare, Beacon, Snapshot, Relinquish)


class PrimaryBackup(Member):
    """One data node of one shard.

    `storage` shows the durable log after recovery; `hard_state` and `applied` (0, or the index the application's state
    already contains) come from disk. All times are monotonic nanoseconds of this node, the same clock in every call.
    """

    def __init__(self, config: Settings, storage: LogReader, rng: Rng, hard_state: HardState, applied: int = 0) -> None:
        super().__init__(config, storage, rng, hard_state, applied)
        self._taken_term = hard_state.term
        self._taken_vote = hard_state.vote
        self._taken_commit = hard_state.commit
        self._taken_role: int = Role.FOLLOWER
        self._taken_leader = 0
        self._seq = 0

    # Input

    def begin_turn(self, now_ns: int, raw_ns: int = -1) -> None:
        """The first act of each turn of the loop, before anything else is looked at.

        `now_ns` is CLOCK_BOOTTIME and `raw_ns` CLOCK_MONOTONIC_RAW, read together; -1 where there is only one clock.
        """
        leases.note_now(self, now_ns, raw_ns)

    def executor_ticked(self, now_ns: int) -> None:
        """Whoever executes commands made progress at `now_ns`; without this no lease is renewed for long."""
        self.executor_ns = max(self.executor_ns, now_ns)

    def tick(self, now_ns: int, raw_ns: int = -1) -> None:
        """Time has passed; call at least every settings.tick_ns."""
        leases.note_now(self, now_ns, raw_ns)
        if self.role == Role.LEADER:
            primary.tick(self)
            candidate.tick(self)
        else:
            secondary.tick(self)
        changes.tick(self)

    def step(self, m: PeerMessage, now_ns: int) -> None:
        """Take a message from a peer, or one of a Ready's after_persist addressed to this node.

        `now_ns` has to be read after the message arrived: a member's promise counts from it.
        """
        leases.note_now(self, now_ns)
        if m.to != self.id or m.group != self.group:
            return
        if isinstance(m, StorageAppendDone):
            self._storage_append_done(m)
        elif isinstance(m, _FROM_PRIMARY):
            self._from_primary(m)
        elif m.term > self.term:
            # Only the holder says who took over; it may even be this node, whose change was not answered yet.
            self.read_wanted = True
        elif self.role == Role.LEADER and m.term >= self.reign_term:
            # An answer to an earlier epoch of this reign says no less: this log only grew.
            if isinstance(m, PrepareOk):
                primary.handle_prepare_ok(self, m)
            elif isinstance(m, BeaconOk):
                primary.handle_beacon_ok(self, m)
            elif isinstance(m, SnapshotResp):
                transfer.handle_snapshot_resp(self, m)

    def _from_primary(self, m: PeerMessage) -> None:
        if m.term < self.term:
            # Silence would leave a deposed primary where it is.
            self.deliver(PrepareOk(self.group, self.id, m.from_, self.term, False, False, 0, 0, 0, 0, 0))
            return
        if m.term > self.term:
            self.follow(m.term, m.from_)
        if isinstance(m, Prepare):
            secondary.handle_prepare(self, m)
        elif isinstance(m, Beacon):
            secondary.handle_beacon(self, m)
        elif isinstance(m, Snapshot):
            secondary.handle_snapshot(self, m)
        elif isinstance(m, Relinquish):
            secondary.handle_relinquish(self, m)

    def _storage_append_done(self, m: StorageAppendDone) -> None:
        # What is durable stays durable, whatever the epoch.
        self.settled_term = max(self.settled_term, m.term)
        if self.log.handover_done(m.seq, m.index, m.term_last) and self.role == Role.LEADER:
            primary.maybe_commit(self)

    def answer(self, a: HolderAnswer, now_ns: int) -> None:
        """Take an answer of the config holder, or the adapter's word that the fate of the call is unknown."""
        leases.note_now(self, now_ns)
        office.handle_answer(self, a)

    def propose(self, data: bytes, now_ns: int) -> int:
        """Append an entry and return its index; it may still be replaced by another primary's.

        Raises Refused, always definite: NotPrimary, HandingOver, NoReplicas, LeaseExpired or Overloaded.
        """
        leases.note_now(self, now_ns)
        return primary.propose(self, data)

    def read_index(self, ctx: object, now_ns: int) -> None:
        """Ask for an index to read at; `ctx` comes back in read_states, or in failed_reads when office is lost.

        Raises NotPrimary. Waits while this node is not sure of its office; the driver may give up any time.
        """
        leases.note_now(self, now_ns)
        primary.add_read(self, ctx)

    def lease_valid(self, now_ns: int) -> bool:
        """True if a read at the commit index is linearizable right now without a message."""
        leases.note_now(self, now_ns)
        return leases.serving(self)

    def transfer_leader(self, to: int, now_ns: int) -> None:
        """Hand over to an in-sync member: bring it up to date, then leave office in its favour.

        Given up after transfer_timeout_ns. Proposals are refused meanwhile. Raises NotPrimary or ChangeRefused.
        """
        leases.note_now(self, now_ns)
        primary.transfer_to(self, to)

    def alter(
        self,
        now_ns: int,
        add: tuple[int, ...] = (),
        remove: tuple[int, ...] = (),
        min_isr: int = 0,
        context: bytes | None = None,
    ) -> int:
        """Add learners, remove members, or set min_isr (0: keep) or the context; returns a number for Ready.finished.

        Raises NotPrimary or ChangeRefused.
        """
        leases.note_now(self, now_ns)
        return candidate.alter(self, add, remove, min_isr, context)

    def admit(self, node: int, now_ns: int) -> None:
        """Begin to take a learner in that has caught up, for where admit_learners is off. Raises NotPrimary,
        ChangeRefused. It may still be given up after admit_timeout_ns.
        """
        leases.note_now(self, now_ns)
        candidate.admit(self, node)

    def force(self, given_up: tuple[int, ...], now_ns: int) -> int:
        """Promote this node whatever it lacks, for an operator who has stopped the in-sync members `given_up`.

        Acknowledged writes may be lost: Ready.force_loss says which. Returns a number for Ready.finished. Raises
        ChangeRefused.
        """
        leases.note_now(self, now_ns)
        known = self.known
        if self.role == Role.LEADER:
            raise ChangeRefused("this node is the primary already")
        if known is None or known.epoch != self.term:
            self.read_wanted = True
            raise ChangeRefused("the config holder has not said yet what is in force; retry when it has")
        if self.change is not None:
            raise ChangeRefused("this node is asking for office already; retry when that has succeeded or failed")
        if self.log.pending_snapshot is not None or self.rebuild_for:
            raise ChangeRefused("this node is being rebuilt from a snapshot; retry when that is done, or on another")
        wanted = tuple(node for node in known.isr if node != self.id)
        if given_up != wanted:
            raise ChangeRefused(
                f"the in-sync members are {list(wanted)}: stop them and name exactly those, for they may still serve"
            )
        changes.ask_force(self, ChangeKind.FORCE, given_up)
        self.operator_number = self.next_number
        return self.operator_number

    def announce_commit(self) -> None:
        """With lazy_commit: let nodes that have not heard of the newest commit hear of it now."""
        primary.announce_commit(self)

    def report_unreachable(self, node: int) -> None:
        """The connection to `node` broke: messages may be lost, so find out where its log is before sending ahead."""
        peer = self.peers.get(node)
        if peer is not None and peer.progress.state == ProgressState.REPLICATE:
            peer.progress.become_probe()
            peer.progress.probe_sent = True

    def report_snapshot(self, node: int, ok: bool) -> None:
        """A snapshot transfer the driver did by other means ended; chunks sent by the core need no report."""
        transfer.report_snapshot(self, node, ok)

    def applied_to(self, index: int) -> None:
        """The application's state contains everything through `index`."""
        if index > self.log.applied:
            if index > self.log.emitted:
                raise AssertionError(f"applied {index} but only {self.log.emitted} was given out")
            self.log.applied = index

    # Output

    def has_ready(self) -> bool:
        """True if ready() would give something to do."""
        log = self.log
        return bool(
            self.messages
            or self.after_persist
            or self.calls
            or self.send_needed
            or self.beat_due
            or log.handed < log.last
            or (log.commit > log.emitted and log.stable > log.emitted)
            or self.proven_reads
            or self.failed_reads
            or self.finished
            or self.chunks
            or self.install is not None
            or self.force_loss is not None
            or self.term != self._taken_term
            or self.vote != self._taken_vote
            or (log.commit > self._taken_commit and log.stable > self._taken_commit and not self.rebuild_for)
            or (self.rebuild_for != 0 and self._taken_commit > 0)
            or self.role != self._taken_role
            or self.leader != self._taken_leader
        )

    def ready(self) -> Ready:
        """Take everything there is to do; see raft.ready for the order of work."""
        if self.role == Role.LEADER and (self.send_needed or self.beat_due):
            primary.emit(self)
        self.send_needed = False
        self.beat_due = False
        log = self.log
        rd = Ready()
        rd.entries = log.take_unhanded()
        rd.messages, self.messages = self.messages, []
        rd.after_persist, self.after_persist = self.after_persist, []
        rd.calls, self.calls = self.calls, []
        if self.install is not None or self.chunks:
            rd.snapshot = self.install
            rd.snapshot_chunks = self.chunks
            self.install = None
            self.chunks = []
        self._take_hard_state(rd)
        if rd.entries or rd.snapshot is not None or self.term > self.settled_term:
            self._note_handover(rd)
        if log.commit > log.emitted:
            rd.committed_entries = log.take_committed(self.config.max_committed_bytes_per_ready)
        self._take_reads(rd)
        rd.finished, self.finished = self.finished, []
        rd.force_loss, self.force_loss = self.force_loss, None
        if self.role != self._taken_role or self.leader != self._taken_leader:
            self._taken_role = self.role
            self._taken_leader = self.leader
            rd.soft_state = SoftState(self.role, self.leader)
        return rd

    def _note_handover(self, rd: Ready) -> None:
        log = self.log
        self._seq += 1
        log.note_handover(self._seq)
        if rd.entries or rd.snapshot is not None:
            rd.must_sync = True
        rd.after_persist.append(
            StorageAppendDone(self.group, self.id, self.id, self.term, log.last, log.last_term, self._seq)
        )

    def _take_reads(self, rd: Ready) -> None:
        if self.proven_reads:
            emitted = self.log.emitted
            rd.read_states = [read for read in self.proven_reads if read[1] <= emitted]
            self.proven_reads = [read for read in self.proven_reads if read[1] > emitted]
        if self.failed_reads:
            rd.failed_reads, self.failed_reads = self.failed_reads, []

    def _take_hard_state(self, rd: Ready) -> None:
        log = self.log
        # Never ahead of the durable log: a crash may keep this record and lose entries written with it.
        commit = max(self._taken_commit, min(log.commit, log.stable))
        if self.rebuild_for:
            # What was committed is about to be replaced by a snapshot that may end before it.
            commit = 0
            self.commit_lowered = True
        if self.term != self._taken_term or self.vote != self._taken_vote or commit < self._taken_commit:
            rd.must_sync = True
        elif commit == self._taken_commit:
            return
        self._taken_term = self.term
        self._taken_vote = self.vote
        self._taken_commit = commit
        rd.hard_state = HardState(self.term, self.vote, commit)

    # Looking in

    def copies(self, index: int) -> int:
        """How many nodes, this one included, are known to hold `index` durably; only a primary knows of others."""
        count = 1 if self.log.stable >= index else 0
        for peer in self.peer_list:
            if peer.progress.match >= index:
                count += 1
        return count

    def status(self) -> Status:
        """A picture of this moment, for operators and tests."""
        peers = [
            PeerStatus(
                peer.node, peer.progress.state, peer.progress.match, peer.progress.next, peer.in_sync,
                leases.valid_with(self, peer), len(peer.progress.inflight),
            )
            for peer in self.peer_list
        ]  # fmt: skip
        return Status(self, peers, leases.serving(self), leases.lease_left_ns(self), leases.missing(self))
