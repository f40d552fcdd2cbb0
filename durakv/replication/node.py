"""Drives one Raft member: Ready -> peers, disk, apply. The one place where the order of those is written.

Order of one Ready: 1. role changes reach the engine, 2. messages that promise nothing leave, 3. entries then hard state
go to the disk lane, 4. proven reads and committed entries reach the engine, 5. when the disk is done, the messages that
promise durability leave (those to this node go back into the core). The leader's sends run beside its own sync.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import error as StructError
from typing import TYPE_CHECKING, Final

from durakv.commands.services import GroupView
from durakv.engine.consensus import Dropped
from durakv.replication.copies import DataCopies
from durakv.replication.gather import GATHER_MS, Gathering
from durakv.replication.handover import Handover
from durakv.replication.members import Members
from durakv.replication.stopping import Stopping
from durakv.replication.stuck import StuckDisk
from durakv.replication.transport import (
    KIND_HANDOVER,
    KIND_RAFT,
    KIND_REMOVED,
    KIND_SLOTS,
    LANE_BULK,
    LANE_CONTROL,
    Transport,
)
from durakv.replication.view import group_view
from durakv.replication.witness_port import WitnessPort
from durakv.replication.writing import Writing
from durakv.resp.errors import CommandError
from durakv.storage.hardstate import HardState, HardStateFile
from durakv.storage.log import Log
from durakv.storage.options import SYNC_ALWAYS
from raft.codec import decode, encode
from raft.core import Raft
from raft.errors import NotLeader, Overloaded, ProposalDropped, Transferring
from raft.messages import Append, AppendResp, Message, Snapshot
from raft.ready import Ready
from raft.types import Entry, EntryKind, Membership, Role
from raft.types import HardState as Promised

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.batch import Batch
    from durakv.engine.engine import Engine
    from durakv.replication.checkpoints import Checkpoints
    from durakv.replication.forward import ForwardHub
    from durakv.replication.neighbours import Neighbours
    from durakv.replication.snapshots import Snapshots
    from durakv.witness.parts import WitnessParts
    from durakv.world.ports import Buggify, Clock

# Entries applied per turn of the loop before other input gets its chance.
_APPLY_ROUNDS_PER_TURN: Final = 4
_HINT_MS: Final = 1000
# A kind the engine has nothing to do for.
_SILENT: Final = EntryKind.CONFIG
# When nothing else is sent, followers hear of a commit this late.
_ANNOUNCE_MS: Final = 2


def _nothing() -> None:
    """No disk to check."""


def _for_engine(entries: list[Entry]) -> list[Entry]:
    """``entries`` with those without a payload that no new leader began its term with as entries that say nothing.

    A leader that lets the witness stand in, or rest, marks the moment in the log; its clients wait and watch on.
    """
    out = entries
    for i in range(len(entries)):
        entry = entries[i]
        if entry.kind == EntryKind.NOOP and entry.subterm:
            if out is entries:
                out = list(entries)
            out[i] = Entry(entry.index, entry.term, entry.subterm, _SILENT, b"")
    return out


class GroupNode:
    """Implements Consensus for the engine on top of raft, log, hard state and transport."""

    def __init__(
        self, core: Raft, log: Log[Entry], hardstate: HardStateFile, transport: Transport, engine: Engine,
        hub: ForwardHub, clock: Clock, tick_ms: int, log_sync: str, witness_parts: WitnessParts | None = None,
    ) -> None:  # fmt: skip
        self.core = core
        self.log = log
        self.hardstate = hardstate
        self.transport = transport
        self.engine = engine
        self.hub = hub
        self.clock = clock
        self.tick_ms = tick_ms
        self.node_id = core.config.node_id
        self.pumping = False
        self.writing: Writing[Message] = Writing(
            log, hardstate, log_sync, self._send, self._to_write, self._caught_up, self.refresh_refusals
        )
        self.gathering = Gathering()
        self.gather_timer = False
        # Followers have not been told of all commits; the next Append or the timer does it.
        self.announcing = False
        self.done_messages: list[Message] = []
        self.leading = False
        self.leader_id = 0
        self.term = 0
        self.own_start = 0
        self.witness = WitnessPort(self, witness_parts)
        self.copies = DataCopies(self)
        self.members = Members(self)
        self.handover = Handover(self)
        self.boot_last_index = log.last_index()
        # Both are set where checkpoints are kept.
        self.checkpoints: Checkpoints | None = None
        self.snapshots: Snapshots | None = None
        # Set in cluster mode.
        self.neighbours: Neighbours | None = None
        self.loading_from = 0
        self.stuck_disk = StuckDisk(clock, log, core.config.election_ticks * tick_ms * 1_000_000)
        self.stopping: Callable[[], None] | None = None
        self.stop_begun = Stopping(self)
        self.on_fatal: Callable[[str], None] | None = None
        # Measures free space; set by the owner of the store.
        self.check_disk: Callable[[], None] = _nothing
        self.buggify: Buggify | None = None

    @property
    def stopped(self) -> bool:
        """Whether the store is closing: nothing may reach the log any more."""
        return self.writing.stopped

    @stopped.setter
    def stopped(self, stopped: bool) -> None:
        self.writing.stopped = stopped

    def follow_appendfsync(self) -> None:
        """Take over a changed appendfsync. Raises ValueError in a group, which always syncs."""
        policy = self.engine.settings.appendfsync
        if not self.members.alone() and policy != SYNC_ALWAYS:
            raise ValueError("a group of nodes always syncs before it acknowledges; appendfsync stays always")
        self.engine.moving.refuse_lazy()
        self.log.set_sync(policy)
        self.engine.moving.sync_changed()

    def start(self) -> None:
        """Begin ticking. A lone voter campaigns at once."""
        self.members.changed()
        if self.core.membership.voters == (self.node_id,):
            self.core.campaign()
        self.clock.call_later(self.tick_ms, self._tick)
        self.members.start()
        if self.neighbours is not None:
            self.neighbours.start()
        self.clock.call_later(_HINT_MS, self._hint_timer)
        self.pump()

    # -- Consensus ---------------------------------------------------------------------------------------------------

    def propose(self, data: bytes) -> tuple[int, int]:
        """See Consensus."""
        if self.buggify is not None and self.buggify("refuse-proposal"):
            raise Dropped("THROTTLED too many uncommitted bytes; nothing was logged, try again")
        try:
            return self.core.propose(data), self.core.term
        except NotLeader:
            raise Dropped("CLUSTERDOWN this node no longer leads; nothing was logged, try again") from None
        except Overloaded:
            raise Dropped("THROTTLED too many uncommitted bytes; nothing was logged, try again") from None
        except Transferring:
            raise Dropped("CLUSTERDOWN leadership is being handed over; nothing was logged, try again") from None

    def read_index(self, batch: Batch) -> None:
        """See Consensus."""
        try:
            self.core.read_index(batch)
        except NotLeader:
            # A message of this very turn has ended leadership; the engine hears of that from the next Ready.
            self.engine.reads_failed(batch)

    def can_take(self, batch: Batch) -> bool:
        """One entry is on its way to the disk at a time; what arrives meanwhile becomes the next one. In a group it
        also gathers while an entry's commit is awaited, see gather.py.
        """
        if self.writing.pending:
            return False
        if not self.core.peer_list:
            self.gathering.since_ns = 0
            return True
        if self.gathering.may_start(len(batch.items), batch.size_bytes, self.clock):
            return True
        if not self.gather_timer:
            self.gather_timer = True
            self.clock.call_later(GATHER_MS, self._gathered)
        return False

    def _gathered(self) -> None:
        self.gather_timer = False
        if self.gathering.since_ns:
            self.engine.schedule()

    def lease_valid(self) -> bool:
        """See Consensus. False until this leader's own first entry is applied here."""
        return self.engine.applier.applied >= self.own_start > 0 and self.core.lease_valid(self.clock.monotonic_ns())

    def uncommitted_bytes(self) -> int:
        """See Consensus."""
        return self.core.uncommitted_bytes

    def durable_index(self) -> int:
        """See Consensus."""
        return self.log.durable_index()

    def stable_replicas(self, index: int) -> int:
        """Followers acknowledge only what they synced, so match is stable."""
        status = self.core.status()
        return sum(1 for peer in status.peers if peer.node != self.node_id and peer.match >= index)

    def quorum(self) -> int:
        """See Consensus."""
        membership = self.core.membership
        return (len(membership.voters) + (1 if membership.witness else 0)) // 2 + 1

    def transfer(self, node_id: int, *, force: bool) -> None:
        """See Consensus."""
        if not self.leading and node_id == self.node_id:
            self.handover.ask(force=force)
            return
        if not self.leading:
            raise CommandError(self.not_leader("transfer"))
        target = node_id or self.most_caught_up()
        if not target:
            raise CommandError("ERR no other voter is reachable; start one, or add one with CLUSTER ADDNODE")
        try:
            self.core.transfer_leader(target)
        except ProposalDropped as e:
            raise CommandError(f"ERR cannot transfer leadership to node {target}: {e}") from None
        self.engine.schedule()

    def try_transfer(self, target: int) -> bool:
        """Hand over to that node (0: nobody) if Raft agrees; another attempt may be made at any time."""
        if not target:
            return False
        try:
            self.core.transfer_leader(target)
        except ProposalDropped:
            return False
        return True

    def change(self, session: Session, verb: str, node_id: int, address: str) -> None:
        """See Consensus."""
        self.members.change(session, verb, node_id, address)

    def close(self) -> None:
        """The node stops."""
        self.witness.close()

    def stop(self, *, transfer: bool, now: bool) -> None:
        """See Consensus."""
        self.stop_begun.begin(transfer=transfer, now=now)

    def not_leader(self, what: str) -> str:
        """The error of a request only a leader can do."""
        leader = self.members.book.get(self.leader_id)
        where = f"; ask {leader.host}:{leader.client_port}" if leader else "; no leader is known yet, retry shortly"
        return f"ERR {what} needs the leader{where}"

    def reign(self) -> tuple[int, int]:
        """What orders what leaders say of this group: the term, and where the log has its membership."""
        return self.core.term, self.core.conf_index

    def membership(self) -> Membership:
        """Who belongs to the group, as far as this node knows."""
        return self.core.membership

    def pinned(self) -> bool:
        """Whether the only other copy is away, and a witness stands in for it."""
        return bool(self.core.membership.witness_id()) and self.core.witness_state().pinned

    def most_caught_up(self, but: Sequence[int] = ()) -> int:
        """The voter beside this node that could take over soonest, ``but`` those; 0 when none is connected."""
        best, best_match = 0, -1
        voters = self.core.membership.voters
        for peer in self.core.status().peers:
            node = peer.node
            # Not `in (..., *but)`: mypyc cannot compile that.
            if node in voters and node != self.node_id and node not in but and self.transport.connected(node):
                if peer.match > best_match:
                    best, best_match = node, peer.match
        return best

    # -- input ---------------------------------------------------------------------------------------------------------

    def on_frame(self, from_id: int, kind: int, payload: bytes) -> None:
        """Any frame of a peer. Raises ValueError or struct.error when malformed."""
        if kind == KIND_RAFT:
            self.on_raft_frame(from_id, payload)
        elif kind == KIND_REMOVED:
            self.members.removed_by(payload)
        elif kind == KIND_HANDOVER:
            self.handover.on_frame(from_id, payload)
        elif kind == KIND_SLOTS:
            self.engine.moving.receive(payload)
        else:
            self.hub.on_frame(from_id, kind, payload)

    def on_raft_frame(self, from_id: int, payload: bytes) -> None:
        """A message from a peer. Raises ValueError when malformed or not from whom it says."""
        try:
            message = decode(payload)
        except StructError as e:
            raise ValueError(f"malformed message: {e}") from None
        if message.from_ != from_id or message.to != self.node_id or message.group != self.core.config.group:
            raise ValueError(f"message from {message.from_} to {message.to} on the stream of node {from_id}")
        self.core.step(message, self.clock.monotonic_ns())
        self.engine.schedule()

    def on_peer_down(self, node_id: int) -> None:
        """A stream to or from the peer broke."""
        self.core.report_unreachable(node_id)
        self.hub.lost(node_id)
        self.engine.schedule()

    def _tick(self) -> None:
        self.clock.call_later(self.tick_ms, self._tick)
        if self.buggify is not None and self.buggify("early-election"):
            self.core.campaign()
        self.core.tick(self.clock.monotonic_ns())
        self.refresh_refusals()
        if self.stuck_disk.check(leading=self.leading, last_index=self.core.log.last):
            self.try_transfer(self.most_caught_up())
        self.witness.show()
        self.pump()

    # -- the pump ------------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Do everything the core asks for now. Not re-entrant: inner calls only leave work for the outer one."""
        if self.pumping or self.writing.stopped:
            return
        self.pumping = True
        core = self.core
        rounds = 0
        while core.has_ready():
            self._handle(core.ready())
            rounds += 1
            tired = rounds >= _APPLY_ROUNDS_PER_TURN or (self.buggify is not None and self.buggify("yield"))
            if tired and core.has_ready():
                self.engine.schedule()
                break
        self.pumping = False
        self.hub.flush()
        engine = self.engine
        if engine.dirty:
            engine.flush_output()
            self.hub.flush()

    def _handle(self, rd: Ready) -> None:
        led = self.leading
        if self.core.membership is not self.members.membership:
            # Appended or rolled back just now; whoever leads next has to reach everybody in it.
            self.members.changed()
        if rd.soft_state is not None or self.core.term != self.term:
            self._role(rd)
        if rd.messages:
            self._send(rd.messages)
        hard = rd.hard_state if rd.must_sync else None
        self.writing.take(rd.entries, hard, rd.after_persist, rd.snapshot_chunks, rd.snapshot)
        engine = self.engine
        for ctx in rd.failed_reads:
            engine.reads_failed(ctx)  # type: ignore[arg-type]
        for ctx, index in rd.read_states:
            engine.reads_ready(ctx, index)  # type: ignore[arg-type]
        if led and not self.leading:
            self.hub.end_images()
        if rd.read_states:
            engine.run_proven()
        entries = rd.committed_entries
        if entries:
            if self.leading:
                self._observe_commit()
                self.copies.withhold(entries)
            engine.committed(_for_engine(entries))  # type: ignore[arg-type]
            self.core.applied_to(entries[-1].index)
            self.log.set_committed(self.core.log.commit)
            self._after_apply(entries)

    def _observe_commit(self) -> None:
        engine = self.engine
        outstanding = len(engine.batch.items)
        for batch in engine.proposed.values():
            outstanding += len(batch.items)
        self.gathering.observe(outstanding)
        if not self.announcing and self.core.peer_list:
            self.announcing = True
            self.clock.call_later(_ANNOUNCE_MS, self._announce)

    def _announce(self) -> None:
        self.announcing = False
        if self.leading:
            self.core.announce_commit()
            self.pump()

    def _role(self, rd: Ready) -> None:
        core = self.core
        leading = core.role == Role.LEADER
        leader_id = core.leader
        if (leading, leader_id, core.term) == (self.leading, self.leader_id, self.term):
            return
        changed_leader = leader_id != self.leader_id or core.term != self.term
        self.leading = self.writing.leading = leading
        self.leader_id = leader_id
        self.term = core.term
        self.own_start = core.noop_index if leading else 0
        if changed_leader:
            self.hub.lost(0)
        if not leading:
            self.members.demoted()
        self.engine.role_changed(leading, leader_id, core.term)
        self.engine.serving_changed(False, False)
        self.refresh_refusals()

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            if message.to == self.node_id:
                self.core.step(message, self.clock.monotonic_ns())
                continue
            if self.buggify is not None and self._loses(message):
                continue
            if message.to == self.witness.node_id:
                self.witness.send(message)
                continue
            lane = LANE_BULK if isinstance(message, (Append, Snapshot)) else LANE_CONTROL
            if not self.transport.send(message.to, lane, KIND_RAFT, encode(message)) and lane == LANE_BULK:
                self.core.report_unreachable(message.to)

    def _loses(self, message: Message) -> bool:
        """Whether chance has it that the message is never sent, as the network may lose it."""
        assert self.buggify is not None
        if isinstance(message, Append):
            # A group whose new leader cannot bring its first entry across must still commit nothing by counting.
            return message.prev_index < self.own_start <= self.core.log.last and self.buggify("hold-noop")
        return isinstance(message, AppendResp) and self.buggify("drop-ack")

    def _to_write(self, promised: Promised) -> HardState | None:
        """What has to be on disk for a Ready's hard state; None when it is there already."""
        return self._hardstate(promised.term, promised.vote) if self._vote_differs(promised) else None

    def _vote_differs(self, promised: Promised) -> bool:
        current = self.hardstate.current
        return promised.term != current.term or promised.vote != current.voted_for

    def _hardstate(self, term: int, vote: int) -> HardState:
        # After a start the log knows of nothing committed yet; what an earlier run proved holds all the same.
        current = self.hardstate.current
        synced = max(current.synced_hint, self.log.synced_hint())
        commit = max(current.commit_hint, min(self.core.log.commit, synced))
        return current.voted(term, vote, commit, synced)

    def _caught_up(self) -> None:
        if self.pumping:
            return
        # A batch may have gathered while the disk was busy.
        if self.engine.batch.items and self.writing.pending == 0:
            self.engine.turn_end()
        else:
            self.pump()

    def _after_apply(self, entries: list[Entry]) -> None:
        engine = self.engine
        if engine.waits:
            engine.wait_check()
        if self.leading and not engine.reads_now and self.own_start and engine.applier.applied >= self.own_start:
            membership = self.core.membership
            single = membership.voters == (self.node_id,) and not membership.voters_outgoing and not membership.witness
            engine.serving_changed(single, self.core.config.lease_reads)
        for entry in entries:
            if entry.kind == EntryKind.CONFIG:
                self.members.committed(entry.index)
            elif entry.kind == EntryKind.NOOP and not entry.subterm:
                self.hub.new_leader()
        if self.checkpoints is not None:
            self.checkpoints.applied(entries)

    def _hint_timer(self) -> None:
        """Persist how far is committed and synced now and then: a restart applies that much without waiting."""
        if self.writing.stopped:
            return
        self.clock.call_later(_HINT_MS, self._hint_timer)
        self.check_disk()
        if self.checkpoints is not None:
            self.checkpoints.second()
        self.members.tell_strangers()
        self.handover.second()
        syncs, stats = self.log.lane.stats, self.engine.stats
        stats.fsyncs, stats.fsync_us, stats.fsync_max_us = syncs.syncs, syncs.total_us, syncs.max_us
        current = self.hardstate.current
        if min(self.core.log.commit, self.log.synced_hint()) > current.commit_hint and self.writing.pending == 0:
            self.writing.hint(self._hardstate(current.term, current.voted_for))

    def refresh_refusals(self) -> None:
        """Judge again what is refused at the gate: loading, a full disk, too few copies."""
        core = self.core
        behind = core.log.commit - self.engine.applier.applied
        # Only a node that starts with a long log is "loading"; a little lag is answered by waiting.
        loading = self.engine.applier.applied < min(self.boot_last_index, core.log.commit) and behind > 16
        engine = self.engine
        engine.update_refusals(loading or self.writing.installing is not None, False)
        if engine.refusal is None:
            engine.refusal = self.copies.refusal()
        if engine.refusal is None and self.checkpoints is not None:
            engine.refusal = self.checkpoints.refusal()

    def view(self) -> GroupView:
        """See Consensus."""
        return group_view(self)
