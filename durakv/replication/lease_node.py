"""Drives one data node of lease mode: Ready -> peers, holder, disk, apply, behind the seam that GroupNode serves too.

The order of one Ready is GroupNode's; calls to the config holder leave with the messages that promise nothing. The
clocks are read before anything else of a turn is looked at. Rule: nothing is decided here but what a client is told
when the core says no. Log, snapshots, checkpoints, transport and what writes (writing.py) are those of Raft mode.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import error as StructError
from typing import TYPE_CHECKING, Final

from durakv.commands.services import GroupView
from durakv.engine import failure
from durakv.engine.consensus import Dropped
from durakv.observe.events import Notice
from durakv.replication.gather import GATHER_MS, Gathering
from durakv.replication.lease_handover import LeaseHandover
from durakv.replication.lease_members import LeaseMembers
from durakv.replication.lease_view import lease_view
from durakv.replication.stuck import StuckDisk
from durakv.replication.transport import (
    KIND_HANDOVER,
    KIND_LEASE,
    KIND_REMOVED,
    KIND_SLOTS,
    LANE_BULK,
    LANE_CONTROL,
    Transport,
)
from durakv.replication.writing import Writing
from durakv.storage.hardstate import HardState, HardStateFile
from durakv.storage.log import Log
from durakv.storage.options import SYNC_ALWAYS
from raft.messages import Snapshot
from raft.primary_backup.codec import decode, encode
from raft.primary_backup.core import PrimaryBackup
from raft.primary_backup.errors import NoReplicas, Refused
from raft.primary_backup.leases import missing, silent
from raft.primary_backup.messages import CreateCall, HolderAnswer, Outcome, PeerMessage, Prepare, Reason
from raft.primary_backup.ready import Ready
from raft.primary_backup.types import RequestId, ShardConfig
from raft.types import Entry, EntryKind, Membership, Role
from raft.types import HardState as Promised

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.batch import Batch
    from durakv.engine.engine import Engine
    from durakv.replication.checkpoints import Checkpoints
    from durakv.replication.forward import ForwardHub
    from durakv.replication.lease_holder import HolderLink
    from durakv.replication.neighbours import Neighbours
    from durakv.replication.snapshots import Snapshots
    from durakv.world.ports import Buggify, Clock, Disk

# Entries applied per turn of the loop before other input gets its chance.
_APPLY_ROUNDS_PER_TURN: Final = 4
_HINT_MS: Final = 1000
# When nothing else is sent, members hear of a commit this late.
_ANNOUNCE_MS: Final = 2
# Two clocks are read as good as at once, if need be at the third attempt.
_CLOCKS_APART_NS: Final = 2_000_000
_CLOCK_READINGS: Final = 3
# The core's calls have numbers from a large random one on.
_CREATE_CALL: Final = 1


def _nothing() -> None:
    """No disk to check."""


class LeaseNode:
    """Implements Consensus for the engine on top of the lease protocol's core, log, hard state and transport."""

    def __init__(
        self, core: PrimaryBackup, log: Log[Entry], hardstate: HardStateFile, transport: Transport, engine: Engine,
        hub: ForwardHub, clock: Clock, tick_ms: int, log_sync: str, disk: Disk, directory: str, founding: Membership,
        min_isr: int, holder: HolderLink,
    ) -> None:  # fmt: skip
        self.core = core
        self.log = log
        self.hardstate = hardstate
        self.transport = transport
        self.engine = engine
        self.hub = hub
        self.clock = clock
        self.tick_ms = tick_ms
        self.node_id = core.id
        self.holder = holder
        holder.on_answer = self.on_answer
        self.min_isr = min_isr
        self.writing: Writing[PeerMessage] = Writing(
            log, hardstate, log_sync, self._send, self._to_write, self._caught_up, self.refresh_refusals
        )
        self.pumping = False
        # The clocks were read since the last turn ended.
        self.turn_begun = False
        self.gathering = Gathering()
        self.gather_timer = False
        self.announcing = False
        self.leading = False
        self.leader_id = 0
        # The first epoch of this node's reign, or the one in which the present primary was first heard.
        self.term = 0
        self.own_start = 0
        self.members = LeaseMembers(self, disk, directory, founding)
        self.handover = LeaseHandover(self)
        self.boot_last_index = log.last_index()
        self.stuck_disk = StuckDisk(clock, log, 2 * core.config.lease_ns)
        # Since when reads have waited for a lease; 0: none does.
        self.reads_wait_ns = 0
        # Both are set where checkpoints are kept.
        self.checkpoints: Checkpoints | None = None
        self.snapshots: Snapshots | None = None
        # Set in cluster mode.
        self.neighbours: Neighbours | None = None
        self.loading_from = 0
        self.told_missing = False
        self.stopping: Callable[[], None] | None = None
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

    def close(self) -> None:
        """The node stops: nothing is asked of the config holder any more."""
        self.holder.close()

    def follow_appendfsync(self) -> None:
        """Take over a changed appendfsync. Raises ValueError: an acknowledgement is a promise to others."""
        if self.engine.settings.appendfsync != SYNC_ALWAYS:
            raise ValueError("a shard of lease mode always syncs before it acknowledges; appendfsync stays always")

    def start(self) -> None:
        """Begin ticking."""
        self.log.set_sync(SYNC_ALWAYS)
        self.begin_turn()
        self.members.dial()
        if self.neighbours is not None:
            self.neighbours.start()
        self.clock.call_later(self.tick_ms, self._tick)
        self.clock.call_later(_HINT_MS, self._hint_timer)
        self.pump()

    def notice(self, what: str, text: str) -> None:
        """Tell the operators."""
        self.engine.observer.event(Notice(what, text))

    # -- time ----------------------------------------------------------------------------------------------------------

    def begin_turn(self) -> int:
        """The time; the first call of a turn lets the core see both clocks before anything else."""
        clock = self.clock
        now_ns = clock.monotonic_ns()
        if self.turn_begun:
            return now_ns
        self.turn_begun = True
        raw_ns = clock.raw_ns()
        for _ in range(_CLOCK_READINGS):
            apart_ns = clock.monotonic_ns() - now_ns
            if apart_ns < _CLOCKS_APART_NS:
                break
            # Held up between the two: that would look as if they disagreed.
            now_ns += apart_ns
            raw_ns = clock.raw_ns()
        self.core.begin_turn(now_ns, raw_ns)
        return now_ns

    def _tick(self) -> None:
        if self.stopped:
            return
        self.clock.call_later(self.tick_ms, self._tick)
        now_ns = self.begin_turn()
        core = self.core
        core.tick(now_ns)
        if core.snapshot_wanted:
            core.snapshot_wanted = False
            if self.snapshots is not None:
                # Asks for one to be made.
                self.snapshots.meta()
        self._role()
        self.refresh_refusals()
        if self.stuck_disk.check(leading=self.leading, last_index=core.log.last):
            self.try_transfer(self.most_caught_up())
        self._give_up_reads(now_ns)
        self.pump()

    def _give_up_reads(self, now_ns: int) -> None:
        """A primary that cannot prove that it is one lets reads wait for a lease's length, then refuses them."""
        core = self.core
        if not core.waiting_reads:
            self.reads_wait_ns = 0
        elif not self.reads_wait_ns:
            self.reads_wait_ns = now_ns
        elif now_ns - self.reads_wait_ns >= core.config.lease_ns:
            self.reads_wait_ns = 0
            given_up, core.waiting_reads = core.waiting_reads, []
            why = missing(core) or "this node is not sure of its office yet"
            for batch in given_up:
                self.engine.rounds -= 1
                failure.refuse(self.engine, batch, f"LEASEEXPIRED {why}; send it again")  # type: ignore[arg-type]

    # -- Consensus -----------------------------------------------------------------------------------------------------

    def propose(self, data: bytes) -> tuple[int, int]:
        """See Consensus."""
        try:
            return self.core.propose(data, self.begin_turn()), self.core.term
        except Refused as refused:
            raise Dropped(refused.text) from None

    def read_index(self, batch: Batch) -> None:
        """See Consensus."""
        try:
            self.core.read_index(batch, self.begin_turn())
        except Refused:
            self.engine.reads_failed(batch)

    def can_take(self, batch: Batch) -> bool:
        """See GroupNode.can_take."""
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
        """See Consensus. False while something committed is not applied here, for others may have seen it."""
        applied = self.engine.applier.applied
        if not applied >= self.own_start > 0 or applied < self.core.log.commit:
            return False
        return self.core.lease_valid(self.begin_turn())

    def uncommitted_bytes(self) -> int:
        """See Consensus."""
        return self.core.uncommitted_bytes

    def durable_index(self) -> int:
        """See Consensus."""
        return self.log.durable_index()

    def stable_replicas(self, index: int) -> int:
        """Members acknowledge only what they synced, so match is stable."""
        return sum(1 for peer in self.core.peer_list if peer.progress.match >= index)

    def quorum(self) -> int:
        """Every in-sync member is needed to commit."""
        core = self.core
        if self.leading:
            return len(core.effective())
        return len(core.known.isr) if core.known is not None else len(self.members.ids)

    def transfer(self, node_id: int, *, force: bool) -> None:
        """See Consensus."""
        self.handover.transfer(node_id, force=force)

    def try_transfer(self, target: int) -> bool:
        """Hand over to that node (0: nobody) if the core agrees; another attempt may be made at any time."""
        if not target:
            return False
        try:
            self.core.transfer_leader(target, self.begin_turn())
        except Refused:
            return False
        return True

    def change(self, session: Session, verb: str, node_id: int, address: str) -> None:
        """See Consensus."""
        self.members.change(session, verb, node_id, address)

    def stop(self, *, transfer: bool, now: bool) -> None:
        """See Consensus."""
        self.handover.stop(transfer=transfer, now=now)

    def not_leader(self, what: str) -> str:
        """The error of a request only a primary can do."""
        leader = self.members.book.get(self.leader_id)
        where = f"; ask {leader.host}:{leader.client_port}" if leader else "; no primary is known yet, retry shortly"
        return f"ERR {what} needs the primary{where}"

    def reign(self) -> tuple[int, int]:
        """What orders what primaries say of this shard: the epoch each came into office in, and that of its members."""
        return self.core.reign_term, self.members.epoch()

    def membership(self) -> Membership:
        """Who belongs to the shard, as far as this node knows: in-sync members vote, the others learn."""
        return self.members.membership

    def pinned(self) -> bool:
        """Whether this primary has the only copy of what is written now, and other members are away."""
        return self.core.sure_size == 1 and len(self.members.ids) > 1

    def most_caught_up(self) -> int:
        """The in-sync member beside this node that has most of the log; 0 when none is connected."""
        best, best_match = 0, -1
        for peer in self.core.peer_list:
            if peer.node in self.core.isr and self.transport.connected(peer.node) and peer.progress.match > best_match:
                best, best_match = peer.node, peer.progress.match
        return best

    def view(self) -> GroupView:
        """See Consensus."""
        return lease_view(self)

    # -- input ---------------------------------------------------------------------------------------------------------

    def on_frame(self, from_id: int, kind: int, payload: bytes) -> None:
        """Any frame of a peer. Raises ValueError or struct.error when malformed."""
        now_ns = self.begin_turn()
        if kind == KIND_LEASE:
            self._on_message(from_id, payload, now_ns)
        elif kind == KIND_REMOVED:
            self.members.removed_by(payload)
        elif kind == KIND_HANDOVER:
            self.handover.on_frame(from_id, payload)
        elif kind == KIND_SLOTS:
            self.engine.moving.receive(payload)
        else:
            self.hub.on_frame(from_id, kind, payload)

    def _on_message(self, from_id: int, payload: bytes, now_ns: int) -> None:
        try:
            message = decode(payload)
        except StructError as e:
            raise ValueError(f"malformed message: {e}") from None
        if message.from_ != from_id or message.to != self.node_id or message.group != self.core.group:
            raise ValueError(f"message from {message.from_} to {message.to} on the stream of node {from_id}")
        self.core.step(message, now_ns)
        self.engine.schedule()

    def on_peer_down(self, node_id: int) -> None:
        """A stream to or from the peer broke."""
        self.core.report_unreachable(node_id)
        self.hub.lost(node_id)
        self.engine.schedule()

    def on_answer(self, answer: HolderAnswer) -> None:
        """The config holder answered a call."""
        if self.stopped:
            return
        now_ns = self.begin_turn()
        if answer.outcome == Outcome.REFUSED and answer.reason == Reason.MISSING:
            self._found()
        self.core.answer(answer, now_ns)
        self.engine.schedule()

    def _found(self) -> None:
        """The holder knows no such shard: a founding member that has seen nothing since creates it.

        Every one of them asks for the same, and the first epoch is in force only once, so it does not matter who did.
        A shard that has a history is never created anew: a holder that lost its state must not get an old one.
        """
        members = self.members.founding.members()
        core = self.core
        if self.node_id not in members or core.term > 1 or core.log.last > 1:
            if not self.told_missing:
                self.told_missing = True
                self.notice("shard-missing", "the config holder knows no such shard, which has a history; restore it")
            return
        request = RequestId(0, 0, 0)
        context = self.members.founding.context
        config = ShardConfig(core.group, 1, members[0], members, (), self.min_isr, 0, request, context)
        self.holder.submit(CreateCall(_CREATE_CALL, core.group, request, config))

    # -- the pump ------------------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Do everything the core asks for now. Not re-entrant: inner calls only leave work for the outer one."""
        if self.pumping or self.stopped:
            return
        self.pumping = True
        now_ns = self.begin_turn()
        core = self.core
        rounds = 0
        while core.has_ready():
            self._handle(core.ready())
            rounds += 1
            if rounds >= _APPLY_ROUNDS_PER_TURN and core.has_ready():
                self.engine.schedule()
                break
        self.pumping = False
        self.hub.flush()
        engine = self.engine
        if engine.dirty:
            engine.flush_output()
            self.hub.flush()
        # The loop is what executes commands: a turn that came to its end is its progress.
        core.executor_ticked(now_ns)
        self.turn_begun = False

    def _handle(self, rd: Ready) -> None:
        led = self.leading
        self.members.changed()
        self._role()
        if rd.messages:
            self._send(rd.messages)
        for call in rd.calls:
            self.holder.submit(call)
        if rd.snapshot is not None:
            self.members.found(rd.snapshot.membership.context)
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
        if rd.force_loss is not None:
            self.notice("forced-promotion", rd.force_loss.text())
        if rd.finished:
            # What a change allows may be asked in the same breath as its answer.
            self.refresh_refusals()
            self.members.finished(rd.finished)
        entries = rd.committed_entries
        if entries:
            self.members.read(entries)
            if self.leading:
                self._observe_commit()
            engine.committed(entries)  # type: ignore[arg-type]
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
        if self.leading and not self.stopped:
            self.begin_turn()
            self.core.announce_commit()
            self.pump()

    def _role(self) -> None:
        """Whether this node is primary, and who is, may have changed. A reign goes on through its changes of epoch."""
        core = self.core
        leading = core.role == Role.LEADER
        # A primary that is not heard for so long does not answer what is sent to it.
        leader_id = 0 if not leading and silent(core) else core.leader
        if leading == self.leading and leader_id == self.leader_id and (not leading or core.reign_term == self.term):
            return
        self.leading = self.writing.leading = leading
        self.leader_id = leader_id
        self.term = core.reign_term if leading else core.term
        self.own_start = core.noop_index if leading else 0
        self.reads_wait_ns = 0
        self.hub.lost(0)
        if not leading:
            self.members.demoted()
        self.engine.role_changed(leading, leader_id, self.term)
        self.engine.serving_changed(False, False)
        self.refresh_refusals()

    def _send(self, messages: list[PeerMessage]) -> None:
        for message in messages:
            if message.to == self.node_id:
                self.core.step(message, self.clock.monotonic_ns())
                continue
            lane = LANE_BULK if isinstance(message, (Prepare, Snapshot)) else LANE_CONTROL
            if not self.transport.send(message.to, lane, KIND_LEASE, encode(message)) and lane == LANE_BULK:
                self.core.report_unreachable(message.to)

    def _to_write(self, promised: Promised) -> HardState | None:
        """What has to be on disk for a Ready's hard state; None when it is there already.

        Before a snapshot replaces what a forced promotion gave up, the proof that it was ever there is taken back.
        """
        current = self.hardstate.current
        core = self.core
        differs = promised.term != current.term or promised.vote != current.voted_for
        if core.rebuild_for or core.log.pending_snapshot is not None:
            # What the log on disk could prove now may be about to go.
            commit = min(current.commit_hint, promised.commit)
            if not differs and commit == current.commit_hint:
                return None
            return current.voted(promised.term, promised.vote, commit, min(current.synced_hint, commit))
        if not differs:
            return None
        return self._hardstate(promised.term, promised.vote)

    def _hardstate(self, term: int, vote: int) -> HardState:
        # After a start the log knows of nothing committed yet; what an earlier run proved holds all the same.
        current = self.hardstate.current
        synced = max(current.synced_hint, self.log.synced_hint())
        commit = max(current.commit_hint, min(self.core.log.commit, synced))
        return current.voted(term, vote, commit, synced)

    def _caught_up(self) -> None:
        if self.pumping or self.stopped:
            return
        self.begin_turn()
        # A batch may have gathered while the disk was busy.
        if self.engine.batch.items and self.writing.pending == 0:
            self.engine.turn_end()
        else:
            self.pump()

    def _after_apply(self, entries: list[Entry]) -> None:
        engine = self.engine
        if engine.waits:
            engine.wait_check()
        if self.leading and not engine.lease_reads and engine.applier.applied >= self.own_start > 0:
            engine.serving_changed(False, True)
        for entry in entries:
            if entry.kind == EntryKind.NOOP:
                self.hub.new_leader()
        if self.checkpoints is not None:
            self.checkpoints.applied(entries)

    def _hint_timer(self) -> None:
        """Persist how far is committed and synced now and then: a restart applies that much without waiting."""
        if self.stopped:
            return
        self.clock.call_later(_HINT_MS, self._hint_timer)
        self.check_disk()
        if self.checkpoints is not None:
            self.checkpoints.second()
        self.members.tell_strangers()
        syncs, stats = self.log.lane.stats, self.engine.stats
        stats.fsyncs, stats.fsync_us, stats.fsync_max_us = syncs.syncs, syncs.total_us, syncs.max_us
        core = self.core
        current = self.hardstate.current
        # Nothing may be proven again that a snapshot is about to take away.
        if core.rebuild_for or core.log.pending_snapshot is not None or self.writing.pending:
            return
        if min(core.log.commit, self.log.synced_hint()) > current.commit_hint:
            self.writing.hint(self._hardstate(current.term, current.voted_for))

    # -- refusals ------------------------------------------------------------------------------------------------------

    def rebuilding(self) -> bool:
        """Whether what this node holds is being replaced, or has been given up: it then answers no read."""
        core = self.core
        return self.writing.installing is not None or core.rebuild_for != 0 or core.log.pending_snapshot is not None

    def refresh_refusals(self) -> None:
        """Judge again what is refused at the gate: loading, rebuilding, a full disk, too few members in sync."""
        core = self.core
        engine = self.engine
        behind = core.log.commit - engine.applier.applied
        # Only a node that starts with a long log is "loading"; a little lag is answered by waiting.
        loading = engine.applier.applied < min(self.boot_last_index, core.log.commit) and behind > 16
        engine.update_refusals(loading or self.rebuilding(), False)
        if engine.refusal is None and self.leading and core.sure_size < core.min_isr:
            engine.refusal = NoReplicas(core.sure_size, core.min_isr).text
        if engine.refusal is None and self.checkpoints is not None:
            engine.refusal = self.checkpoints.refusal()

    def not_serving(self) -> str:
        """Why this primary takes no write now; empty when it does, or is no primary."""
        core = self.core
        if not self.leading:
            return ""
        if core.sure_size < core.min_isr:
            return NoReplicas(core.sure_size, core.min_isr).text
        if self.engine.lease_reads and core.lease_valid(self.begin_turn()):
            return ""
        return f"LEASEEXPIRED {missing(core) or 'this node is not sure of its office yet'}"
