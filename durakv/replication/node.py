"""Drives one Raft member: Ready -> peers, disk, apply. The one place where the order of those is written.

Order of one Ready: 1. role changes reach the engine, 2. messages that promise nothing leave, 3. entries then hard state
go to the disk lane, 4. proven reads and committed entries reach the engine, 5. when the disk is done, the messages that
promise durability leave (those to this node go back into the core). The leader's sends run beside its own sync.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import error as StructError
from typing import TYPE_CHECKING, Final

import raft
from durakv.commands.services import GroupView, Member
from durakv.engine.consensus import Dropped
from durakv.replication import addresses, removal
from durakv.replication.handover import Handover
from durakv.replication.transport import (
    KIND_HANDOVER,
    KIND_RAFT,
    KIND_REMOVED,
    LANE_BULK,
    LANE_CONTROL,
    Transport,
)
from durakv.resp.errors import CommandError
from durakv.resp.types import OK
from durakv.storage.hardstate import HardState, HardStateFile
from durakv.storage.log import SYNC_ALWAYS, Log
from raft.codec import decode, encode
from raft.core import Raft
from raft.errors import NotLeader, Overloaded, ProposalDropped, Transferring
from raft.messages import Append, Message, Snapshot
from raft.ready import Ready
from raft.types import ConfChange, Entry, Membership, Role

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.batch import Batch
    from durakv.engine.engine import Engine
    from durakv.replication.forward import ForwardHub
    from durakv.world.ports import Clock

# A learner within this many entries of the leader is promoted: it will catch up within a heartbeat.
_PROMOTE_LAG_ENTRIES: Final = 64
_PROMOTE_CHECK_MS: Final = 200
# Entries applied per turn of the loop before other input gets its chance.
_APPLY_ROUNDS_PER_TURN: Final = 4
_HINT_MS: Final = 1000
# A sync that takes longer would be felt by clients of this node; it then goes to the log thread.
_INLINE_SYNC_US_MAX: Final = 2000


def _nothing() -> None:
    """No disk to check."""


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
        hub: ForwardHub, clock: Clock, tick_ms: int, log_sync: str,
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
        self.done_messages: list[Message] = []
        self.leading = False
        self.leader_id = 0
        self.term = 0
        self.own_start = 0
        self.membership: Membership | None = None
        self.book: dict[int, addresses.Address] = {}
        # Being removed, told so once that is committed; until then their lanes stay.
        self.leaving: dict[int, addresses.Address] = {}
        self.handover = Handover(self)
        self.changes: list[tuple[int, Session | None]] = []
        self.boot_last_index = log.last_index()
        self.loading_from = 0
        self.stopping: Callable[[], None] | None = None
        self.stop_deadline_ns = 0
        self.removed = False
        # The store is closing: nothing may reach the log any more.
        self.stopped = False
        self.on_removed: Callable[[], None] | None = None
        self.on_fatal: Callable[[str], None] | None = None
        # Measures free space; set by the owner of the store.
        self.check_disk: Callable[[], None] = _nothing

    def follow_appendfsync(self) -> None:
        """Take over a changed appendfsync. Raises ValueError in a group, which always syncs."""
        policy = self.engine.settings.appendfsync
        alone = self.membership is not None and self.membership.members() == (self.node_id,)
        if not alone and policy != SYNC_ALWAYS:
            raise ValueError("a group of nodes always syncs before it acknowledges; appendfsync stays always")
        self.log.set_sync(policy)

    def start(self) -> None:
        """Begin ticking. A lone voter campaigns at once."""
        self._membership_changed()
        membership = self.membership
        if membership is not None and membership.voters == (self.node_id,):
            self.core.campaign()
        self.clock.call_later(self.tick_ms, self._tick)
        self.clock.call_later(_PROMOTE_CHECK_MS, self._promote_timer)
        self.clock.call_later(_HINT_MS, self._hint_timer)
        self.pump()

    # -- Consensus ---------------------------------------------------------------------------------------------------

    def propose(self, data: bytes) -> tuple[int, int]:
        """See Consensus."""
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
        self.core.read_index(batch)

    def can_take(self) -> bool:
        """One entry is on its way to the disk at a time; what arrives meanwhile becomes the next one."""
        return self.persisting == 0

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
        return len(self.core.membership.voters) // 2 + 1

    def transfer(self, node_id: int, *, force: bool) -> None:
        """See Consensus."""
        if not self.leading and node_id == self.node_id:
            self.handover.ask(force=force)
            return
        if not self.leading:
            raise CommandError(self._not_leader("transfer"))
        target = node_id or self.most_caught_up([])
        if not target:
            raise CommandError("ERR no other voter is reachable; start one, or add one with CLUSTER ADDNODE")
        try:
            self.core.transfer_leader(target)
        except ProposalDropped as e:
            raise CommandError(f"ERR cannot transfer leadership to node {target}: {e}") from None
        self.engine.schedule()

    def change(self, session: Session, verb: str, node_id: int, address: str) -> None:
        """See Consensus."""
        if not self.leading:
            raise CommandError(self._not_leader(verb))
        book = dict(self.book)
        if verb == "add-learner":
            if node_id in book:
                raise CommandError(
                    f"ERR node {node_id} is already a member; CLUSTER REMOVENODE it first, or choose another id"
                )
            book[node_id] = addresses.parse(address)
            change = ConfChange(add_learner=[node_id], context=addresses.encode(book))
        elif verb == "promote":
            change = ConfChange(promote=[node_id])
        elif verb == "remove":
            if node_id not in book:
                raise CommandError(f"ERR node {node_id} is not a member; CLUSTER NODES lists them")
            self.leaving[node_id] = book.pop(node_id)
            change = ConfChange(remove=[node_id], context=addresses.encode(book))
        else:
            raise CommandError(f"ERR unknown membership change {verb}")
        self._propose_change(change, session)

    def stop(self, *, transfer: bool, now: bool) -> None:
        """See Consensus: hand over first when leading and possible, then run the stop callback."""
        if self.stopping is None or self.stop_deadline_ns:
            return
        self.stop_deadline_ns = self.clock.monotonic_ns() + (0 if now else 3_000_000_000)
        if transfer and self.leading and not now:
            target = self.most_caught_up([])
            if target:
                try:
                    self.core.transfer_leader(target)
                except ProposalDropped:
                    target = 0
            if target:
                self.engine.schedule()
                self._stop_when_handed_over()
                return
        self.stopping()

    def _stop_when_handed_over(self) -> None:
        assert self.stopping is not None
        if not self.leading or self.clock.monotonic_ns() > self.stop_deadline_ns:
            self.stopping()
        else:
            self.clock.call_later(self.tick_ms, self._stop_when_handed_over)

    def _not_leader(self, what: str) -> str:
        leader = self.book.get(self.leader_id)
        where = f"; ask {leader.host}:{leader.client_port}" if leader else "; no leader is known yet, retry shortly"
        return f"ERR {what} needs the leader{where}"

    def most_caught_up(self, but: list[int]) -> int:
        """The voter beside this node that could take over soonest, ``but`` those; 0 when none is connected."""
        best, best_match = 0, -1
        voters = self.core.membership.voters
        for peer in self.core.status().peers:
            if peer.node in voters and peer.node != self.node_id and peer.node not in but:
                if peer.match > best_match and self.transport.connected(peer.node):
                    best, best_match = peer.node, peer.match
        return best

    # -- input ---------------------------------------------------------------------------------------------------------

    def on_frame(self, from_id: int, kind: int, payload: bytes) -> None:
        """Any frame of a peer. Raises ValueError or struct.error when malformed."""
        if kind == KIND_RAFT:
            self.on_raft_frame(from_id, payload)
        elif kind == KIND_REMOVED:
            self.removed_by(payload)
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
        self.core.tick(self.clock.monotonic_ns())
        self._refresh_refusals()
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
            if rounds >= _APPLY_ROUNDS_PER_TURN and core.has_ready():
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
            engine.committed(entries)  # type: ignore[arg-type]
            self.core.applied_to(entries[-1].index)
            self.log.set_committed(self.core.log.commit)
            self._after_apply(entries)

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
            for _, session in self.changes:
                if session is not None and session.pending:
                    self.engine.forward_lost(session, maybe_logged=True)
            self.changes = []
        self.engine.role_changed(leading, leader_id, core.term)
        self.engine.serving_changed(False, False)

    def _send(self, messages: list[Message]) -> None:
        for message in messages:
            if message.to == self.node_id:
                self.core.step(message, self.clock.monotonic_ns())
                continue
            lane = LANE_BULK if isinstance(message, (Append, Snapshot)) else LANE_CONTROL
            if not self.transport.send(message.to, lane, KIND_RAFT, encode(message)) and lane == LANE_BULK:
                self.core.report_unreachable(message.to)

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
        """Whether to write on the loop. A follower has little else to do meanwhile, and saves two thread switches; a
        leader has clients waiting for reads, and a slow disk must not hold up heartbeats.
        """
        if self.log_sync == "inline" or self.log.lazy():
            return True
        return self.log_sync == "auto" and not self.leading and self.log.lane.stats.last_us < _INLINE_SYNC_US_MAX

    def _half(self, both: _Both, error: OSError | None) -> None:
        self.persisting -= 1
        both.done(error)

    def _vote_differs(self, rd: Ready) -> bool:
        current = self.hardstate.current
        assert rd.hard_state is not None
        return rd.hard_state.term != current.term or rd.hard_state.vote != current.voted_for

    def _hardstate(self, term: int, vote: int) -> HardState:
        synced = self.log.synced_hint()
        return self.hardstate.current.voted(term, vote, min(self.core.log.commit, synced), synced)

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
            voters = self.core.membership.voters
            single = voters == (self.node_id,) and not self.core.membership.voters_outgoing
            engine.serving_changed(single, self.core.config.lease_reads)
        for entry in entries:
            if entry.kind == raft.EntryKind.CONFIG:
                self._membership_changed()
                self._change_committed(entry.index)
                self._settle_removals()

    # -- membership ---------------------------------------------------------------------------------------------------

    def _membership_changed(self) -> None:
        membership = self.core.membership
        if membership is self.membership:
            return
        self.membership = membership
        if membership.context:
            self.book = addresses.decode(membership.context)
        members = membership.members()
        # Only a node on its own may answer before its disk did; in a group an acknowledgement is a promise to others.
        alone = members == (self.node_id,)
        self.log.set_sync(self.engine.settings.appendfsync if alone else SYNC_ALWAYS)
        self._dial_peers()

    def _dial_peers(self) -> None:
        members = self.core.membership.members()
        peers = {n: (a.host, a.peer_port) for n, a in self.book.items() if n in members}
        for n, a in self.leaving.items():
            peers.setdefault(n, (a.host, a.peer_port))
        self.transport.set_peers(peers)

    def removed_by(self, payload: bytes) -> None:
        """A member says that this node's removal is committed. Raises struct.error."""
        if removal.believed(self, payload):
            self._leave()

    def _leave(self) -> None:
        if not self.removed:
            self.removed = True
            if self.on_removed is not None:
                self.on_removed()

    def _settle_removals(self) -> None:
        """A membership is committed: nodes it leaves out are told, and go; so does this one."""
        members = self.core.membership.members()
        for node_id in list(self.leaving):
            del self.leaving[node_id]
            if node_id not in members:
                self.transport.send(node_id, LANE_CONTROL, KIND_REMOVED, removal.word(self))
        self._dial_peers()
        if members and self.node_id not in members and self.core.log.commit >= self.boot_last_index:
            self._leave()

    def _propose_change(self, change: ConfChange, session: Session | None) -> None:
        try:
            index = self.core.propose_conf(change)
        except ProposalDropped as e:
            raise CommandError(f"ERR membership change refused: {e}") from None
        if session is not None:
            session.pending += 1
            session.blocked = True
        self.changes.append((index, session))
        # Effective when appended: new members must be dialled before the entry can commit.
        self._membership_changed()
        self.engine.schedule()

    def _change_committed(self, index: int) -> None:
        waiting = self.changes
        self.changes = [pair for pair in waiting if pair[0] > index]
        for at, session in waiting:
            if at <= index and session is not None:
                session.pending -= 1
                session.blocked = False
                self.engine.respond(session, OK)

    def _promote_timer(self) -> None:
        self.clock.call_later(_PROMOTE_CHECK_MS, self._promote_timer)
        if not self.leading or self.changes or self.core.membership.is_joint():
            return
        learners = self.core.membership.learners
        for peer in self.core.status().peers:
            if (
                peer.node in learners
                and peer.match > 0
                and peer.recent_active
                and peer.match + _PROMOTE_LAG_ENTRIES >= self.core.log.last
            ):
                try:
                    self._propose_change(ConfChange(promote=[peer.node]), None)
                except CommandError:
                    # Another change is open; the next round of this timer tries again.
                    return
                return

    def _hint_timer(self) -> None:
        """Persist how far is committed and synced now and then: a restart applies that much without waiting."""
        if self.stopped:
            return
        self.clock.call_later(_HINT_MS, self._hint_timer)
        self.check_disk()
        removal.tell_strangers(self)
        self.handover.second()
        syncs, stats = self.log.lane.stats, self.engine.stats
        stats.fsyncs, stats.fsync_us, stats.fsync_max_us = syncs.syncs, syncs.total_us, syncs.max_us
        current = self.hardstate.current
        if min(self.core.log.commit, self.log.synced_hint()) > current.commit_hint and self.persisting == 0:
            self.persisting += 1
            self.hardstate.write(
                self._hardstate(current.term, current.voted_for), lambda error: self._persisted(error, [])
            )

    def _refresh_refusals(self) -> None:
        core = self.core
        behind = core.log.commit - self.engine.applier.applied
        # Only a node that starts with a long log is "loading"; a little lag is answered by waiting.
        loading = self.engine.applier.applied < min(self.boot_last_index, core.log.commit) and behind > 16
        self.engine.update_refusals(loading, False)

    # -- views --------------------------------------------------------------------------------------------------------

    def view(self) -> GroupView:
        """See Consensus."""
        core = self.core
        out = GroupView()
        out.cluster_id = self.transport.cluster_id.hex()
        out.node_id = self.node_id
        membership = core.membership
        if self.leading:
            out.role = "leader"
        elif self.node_id in membership.learners:
            out.role = "learner"
        elif core.role == Role.FOLLOWER:
            out.role = "follower"
        else:
            out.role = "candidate"
        out.term = core.term
        out.leader_id = self.leader_id
        out.commit_index = core.log.commit
        out.last_index = core.log.last
        out.durable_index = self.log.durable_index()
        stats = self.log.lane.stats
        out.fsync_p99_us = stats.percentile_us(99)
        out.log_bytes = stats.bytes_written
        match = {peer.node: peer.match for peer in core.status().peers} if self.leading else {}
        for node_id in membership.members():
            address = self.book.get(node_id)
            if address is None:
                continue
            member = Member(
                node_id, address.host, address.client_port, address.peer_port, learner=node_id in membership.learners
            )
            member.connected = node_id == self.node_id or self.transport.connected(node_id)
            member.match_index = member.stable_index = match.get(node_id, 0)
            if node_id == self.node_id:
                member.match_index = out.last_index
                member.stable_index = out.durable_index
            out.members.append(member)
        return out
