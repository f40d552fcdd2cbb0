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
    LANE_BULK,
    LANE_CONTROL,
    Transport,
)
from durakv.replication.view import group_view
from durakv.replication.witness_port import WitnessPort
from durakv.resp.errors import CommandError
from durakv.storage.hardstate import HardState, HardStateFile
from durakv.storage.log import SYNC_ALWAYS, Log
from raft.codec import decode, encode
from raft.core import Raft
from raft.errors import NotLeader, Overloaded, ProposalDropped, Transferring
from raft.messages import Append, AppendResp, Message, Snapshot
from raft.ready import Ready
from raft.types import Entry, EntryKind, Role

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.batch import Batch
    from durakv.engine.engine import Engine
    from durakv.replication.forward import ForwardHub
    from durakv.witness.parts import WitnessParts
    from durakv.world.ports import Buggify, Clock

# Entries applied per turn of the loop before other input gets its chance.
_APPLY_ROUNDS_PER_TURN: Final = 4
_HINT_MS: Final = 1000
# A sync that takes longer would be felt by clients of this node; it then goes to the log thread.
_INLINE_SYNC_US_MAX: Final = 2000
_LEADER_INLINE_US_MAX: Final = 200
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


class _Both:
    """Calls ``then`` when done() was called twice, with the first error if there was one."""

    def __init__(self, then: Callable[[OSError | None], None]) -> None:
        self.then = then
        self.left = 2
        self.error: OSError | None = None

    def done(self, error: OSError | None) -> None:
        """One of the two ended."""
        self.left -= 1
        self.error = self.error or error
        if self.left == 0:
            self.then(self.error)


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
        self.log_sync = log_sync
        self.node_id = core.config.node_id
        self.pumping = False
        self.persisting = 0
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
        self.loading_from = 0
        self.stuck_disk = StuckDisk(self)
        self.stopping: Callable[[], None] | None = None
        self.stop_begun = Stopping(self)
        # The store is closing: nothing may reach the log any more.
        self.stopped = False
        self.on_fatal: Callable[[str], None] | None = None
        # Measures free space; set by the owner of the store.
        self.check_disk: Callable[[], None] = _nothing
        self.buggify: Buggify | None = None

    def follow_appendfsync(self) -> None:
        """Take over a changed appendfsync. Raises ValueError in a group, which always syncs."""
        policy = self.engine.settings.appendfsync
        if not self.members.alone() and policy != SYNC_ALWAYS:
            raise ValueError("a group of nodes always syncs before it acknowledges; appendfsync stays always")
        self.log.set_sync(policy)

    def start(self) -> None:
        """Begin ticking. A lone voter campaigns at once."""
        self.members.changed()
        if self.core.membership.voters == (self.node_id,):
            self.core.campaign()
        self.clock.call_later(self.tick_ms, self._tick)
        self.members.start()
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
        if self.persisting:
            return False
        gathering = self.gathering
        if not self.core.peer_list or gathering.enough(len(batch.items), batch.size_bytes):
            gathering.since_ns = 0
            return True
        now_ns = self.clock.monotonic_ns()
        if not gathering.since_ns:
            gathering.since_ns = now_ns
        elif now_ns - gathering.since_ns >= GATHER_MS * 1_000_000:
            gathering.since_ns = 0
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

    def change(self, session: Session, verb: str, node_id: int, address: str) -> None:
        """See Consensus."""
        self.members.change(session, verb, node_id, address)

    def stop(self, *, transfer: bool, now: bool) -> None:
        """See Consensus."""
        self.stop_begun.begin(transfer=transfer, now=now)

    def not_leader(self, what: str) -> str:
        """The error of a request only a leader can do."""
        leader = self.members.book.get(self.leader_id)
        where = f"; ask {leader.host}:{leader.client_port}" if leader else "; no leader is known yet, retry shortly"
        return f"ERR {what} needs the leader{where}"

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
        self.stuck_disk.check()
        self.witness.show()
        self.pump()

    # -- the pump ------------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Do everything the core asks for now. Not re-entrant: inner calls only leave work for the outer one."""
        if self.pumping or self.stopped:
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
        self._persist(rd)
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
        self.leading = leading
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

    def _persist(self, rd: Ready) -> None:
        after = rd.after_persist
        assert rd.snapshot is None and not rd.snapshot_chunks, "snapshots arrive with checkpoints"
        vote_changed = rd.hard_state is not None and rd.must_sync and self._vote_differs(rd)
        if not rd.entries and not vote_changed:
            if after:
                if self.persisting:
                    self.persisting += 1
                    self.log.append([], lambda error: self._persisted(error, after))
                else:
                    self._send(after)
            return
        self.persisting += 1
        if vote_changed:
            # The log may still hold entries of earlier Readys in memory, so `after` waits for both: the hard state
            # first, then everything appended so far.
            assert rd.hard_state is not None
            self.persisting += 1
            state = self._hardstate(rd.hard_state.term, rd.hard_state.vote)
            both = _Both(lambda error: self._persisted(error, after))
            self.hardstate.write(state, lambda error: self._half(both, error))
            self.log.append(rd.entries, both.done)
        elif self._sync_here():
            self.log.append_inline(rd.entries, lambda error: self._persisted(error, after))
        else:
            self.log.append(rd.entries, lambda error: self._persisted(error, after))

    def _sync_here(self) -> bool:
        """Whether to write on the loop, which saves two thread switches. A follower has little else to do meanwhile; a
        leader has clients waiting for reads, and a slow disk must not hold up heartbeats.
        """
        if self.log_sync == "inline" or self.log.lazy():
            return True
        if self.log_sync != "auto":
            return False
        return self.log.lane.stats.smooth_us < (_LEADER_INLINE_US_MAX if self.leading else _INLINE_SYNC_US_MAX)

    def _half(self, both: _Both, error: OSError | None) -> None:
        self.persisting -= 1
        both.done(error)

    def _vote_differs(self, rd: Ready) -> bool:
        current = self.hardstate.current
        assert rd.hard_state is not None
        return rd.hard_state.term != current.term or rd.hard_state.vote != current.voted_for

    def _hardstate(self, term: int, vote: int) -> HardState:
        # After a start the log knows of nothing committed yet; what an earlier run proved holds all the same.
        current = self.hardstate.current
        synced = max(current.synced_hint, self.log.synced_hint())
        commit = max(current.commit_hint, min(self.core.log.commit, synced))
        return current.voted(term, vote, commit, synced)

    def _persisted(self, error: OSError | None, after: list[Message]) -> None:
        """A hand-over to the disk ended. After an error the lane has already told the owner, who stops the node."""
        self.persisting -= 1
        if error is not None:
            return
        if after:
            self._send(after)
        if self.pumping:
            return
        # A batch may have gathered while the disk was busy.
        if self.engine.batch.items and self.persisting == 0:
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

    def _hint_timer(self) -> None:
        """Persist how far is committed and synced now and then: a restart applies that much without waiting."""
        if self.stopped:
            return
        self.clock.call_later(_HINT_MS, self._hint_timer)
        self.check_disk()
        self.members.tell_strangers()
        self.handover.second()
        syncs, stats = self.log.lane.stats, self.engine.stats
        stats.fsyncs, stats.fsync_us, stats.fsync_max_us = syncs.syncs, syncs.total_us, syncs.max_us
        current = self.hardstate.current
        if min(self.core.log.commit, self.log.synced_hint()) > current.commit_hint and self.persisting == 0:
            self.persisting += 1
            self.hardstate.write(
                self._hardstate(current.term, current.voted_for), lambda error: self._persisted(error, [])
            )

    def refresh_refusals(self) -> None:
        """Judge again what is refused at the gate: loading, a full disk, too few copies."""
        core = self.core
        behind = core.log.commit - self.engine.applier.applied
        # Only a node that starts with a long log is "loading"; a little lag is answered by waiting.
        loading = self.engine.applier.applied < min(self.boot_last_index, core.log.commit) and behind > 16
        engine = self.engine
        engine.update_refusals(loading, False)
        if engine.refusal is None:
            engine.refusal = self.copies.refusal()

    def view(self) -> GroupView:
        """See Consensus."""
        return group_view(self)
