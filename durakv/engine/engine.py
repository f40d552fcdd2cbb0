"""The engine of one node: sessions, the batch of this turn, what waits for commit, and the replies.

Rule: one object owns the order of things. A turn's requests gather in ``batch`` (or ``reads``); turn_end() proposes or
proves; committed() applies and answers. Nothing is answered before it is committed and applied here.
A session's ``pending`` counts accepted requests without an answer; a proposed batch waits in ``proposed`` by log index.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.acl.users import Denied
from durakv.cluster.handoff import guard
from durakv.commands.acl import note_denied
from durakv.commands.context import LocalContext
from durakv.commands.services import GroupView
from durakv.commands.session import Session
from durakv.engine import (
    failure,
    imported,
    large,
    moves,
    parking,
    pause,
    places,
    routing,
    scripts,
    sessions,
    users,
    wait,
)
from durakv.engine.apply import Applier
from durakv.engine.batch import ITEM_DROP, ITEM_EXEC, ITEM_TICK, Batch, Item
from durakv.engine.blocking import Origin, Waiter
from durakv.engine.consensus import Committed, Consensus, Dropped, Forwarder
from durakv.engine.entry import encode_batch
from durakv.engine.eviction import Eviction
from durakv.engine.gate import Gate
from durakv.engine.moving import Moving
from durakv.engine.outcome import Outcome
from durakv.engine.pubsub import PubSub
from durakv.engine.timing import Timing
from durakv.engine.tracking import Tracking
from durakv.engine.transactions import WATCH_LOST, begin_exec
from durakv.engine.upkeep import Upkeep
from durakv.engine.usage import Usage
from durakv.keyspace.digest import digest
from durakv.keyspace.keyspace import Keyspace
from durakv.observe.events import InternalError, Notice, Observer
from durakv.observe.instruments import Instruments
from durakv.observe.process import ProcessProbe
from durakv.resp.encoder import encode
from durakv.resp.errors import INTERNAL, LOADING, CommandError
from durakv.resp.types import NO_REPLY, OK, ErrorReply

if TYPE_CHECKING:
    from durakv.acl.users import Acl
    from durakv.cluster.handoff.apply import Outcome as SlotsOutcome
    from durakv.commands.replica_services import ReplicaService, SaveService
    from durakv.commands.table import Row, Table
    from durakv.config.settings import Settings
    from durakv.observe.stats import Stats
    from durakv.world.ports import Clock, Rng, Timer

# Later than any log index.
NEVER: Final = 1 << 62
OK_WIRE: Final = OK.wire


class Engine(Outcome):
    """See the module's text. Implements Services for local commands and Outcome for apply."""

    def __init__(
        self, settings: Settings, table: Table, clock: Clock, rng: Rng, ks: Keyspace, stats: Stats, acl: Acl,
        observer: Observer, process: ProcessProbe, node_id: int,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.table = table
        self.clock = clock
        self.rng = rng
        self.ks = ks
        self.stats = stats
        self.acl = acl
        self.observer = observer
        self.instruments = Instruments(settings, process, self.wake)
        self.node_id = node_id
        self.pubsub = PubSub(self.wake)
        self.consensus: Consensus
        self.forwarder: Forwarder
        self.clients: dict[int, Session] = {}
        self.replicas: ReplicaService | None = None
        self.saving: SaveService | None = None
        self.by_origin: dict[Origin, Session] = {}
        self.next_id = 1
        # Distinguishes this run's sessions from those an earlier run of the node left in the log.
        self.boot = (rng.bits64() & 0x3FFFFFFF) << 32
        self.applier = Applier(ks, table, self)
        self.applier.publish_events = self.pubsub.keyspace_events
        self.applier.show_late = self.pubsub.show_late
        self.places = places.Places(self.applier.handoff)
        self.moving = Moving(self, self.applier.handoff)
        self.gate = Gate(self)
        self.timing = Timing(clock, table, settings, stats, self.instruments)
        self.quick: object = OK  # the reply that nobody looks at
        for ctx in (self.applier.rctx, self.gate.rctx, self.applier.wctx):
            ctx.stopwatch = self.timing
        self.upkeep = Upkeep(self)
        self.tracking = Tracking(self)
        self.eviction = Eviction(self)
        self.scripting = scripts.install(self)
        ks.accounts = users.install(self)
        self.usage = Usage(self)
        imported.install(self)
        self.batch = Batch()
        self.reads = Batch()
        self.scheduled = self.stopped = False
        self.proposed: dict[int, Batch] = {}
        self.proven: list[Batch] = []
        self.dirty: list[Session] = []
        # Roles and refusals, as plain attributes for the gate.
        self.leading = False
        self.leader_id = self.term = self.last_proposed = self.rounds = self.read_ms = 0
        self.reads_now = self.lease_reads = self.single = self.over_memory = False
        self.cluster_enabled = bool(settings.cluster_enabled)
        self.refusal: str | None = None
        self.refusal_reads: str | None = None
        self.disk_refusal: str | None = None
        self.room_bytes = 1 << 26
        # Index of this leader's first entry.
        self.term_start = 0
        self.waiting_for_leader: dict[Session, tuple[int, Row, list[bytes]]] = {}
        self.leaderless_since_ns = clock.monotonic_ns()
        self.park_timers: dict[Origin, Timer] = {}
        self.waits: list[wait.Wait] = []
        # A local command of a transaction runs; `at_once` is what it answers where it would wait otherwise.
        self.in_transaction = False
        self.at_once: object = None
        # CLIENT PAUSE: what must wait, and who does.
        self.pause_writes = self.pause_all = False
        self.pause_timer: Timer | None = None
        self.pause_until_ms = 0
        self.paused: dict[Session, None] = {}

    def start(self) -> None:
        """Begin periodic work. Call once consensus, forwarder and pubsub are set."""
        self.upkeep.start()

    def on_event(self, what: str, facts: dict[str, object]) -> None:
        """Tell the operators something that has no event class of its own."""
        self.observer.event(Notice(what, " ".join(f"{name}={value}" for name, value in facts.items())))

    # -- sessions --------------------------------------------------------------------------------------------------

    def open_session(self, address: str, local_address: str) -> Session:
        """A new client connection."""
        return sessions.opened(self, address, local_address)

    def open_remote(self, node_id: int, uid: int) -> Session:
        """The leader's image of a client connected to another node; trusted, its home node checked its rights."""
        return sessions.opened_remote(self, node_id, uid)

    def close_session(self, s: Session) -> None:
        """The connection is gone; what it proposed still happens, its parked request does not."""
        sessions.close(self, s)

    def dispatch(self, s: Session, argv: list[bytes]) -> None:
        """One parsed request of a connection."""
        self.gate.dispatch(s, argv)

    # -- output ----------------------------------------------------------------------------------------------------

    def emit(self, s: Session, wire: bytes) -> None:
        """Queue a finished reply of ``s``, which must be the next in its order."""
        if s.gates:
            s.gated.append(wire)
            return
        if not s.flush_wanted:
            s.flush_wanted = True
            self.dirty.append(s)
        if s.reply_mode == b"on":
            s.out.append(wire)
            s.out_bytes += len(wire)
        elif s.reply_mode == b"skip":
            s.reply_mode = b"on"
        if s.tracking is not None:
            self.tracking.answered(s, s.tracking)

    def respond(self, s: Session, reply: object) -> None:
        """Answer at once; only while nothing is pending."""
        self.emit(s, encode(reply, s.protocol))

    def wake(self, s: Session) -> None:
        """Something (a push) was queued on ``s.out``."""
        if not s.flush_wanted:
            s.flush_wanted = True
            self.dirty.append(s)
        self.schedule()

    def flush_output(self) -> None:
        """Send what this turn answered, and let idle sessions go on with held requests."""
        while self.dirty:
            dirty = self.dirty
            self.dirty = []
            for s in dirty:
                s.flush_wanted = False
                if s.held and s.pending == 0 and not s.blocked:
                    self.gate.resume(s)
                if s.sink is not None:
                    s.sink.flush()

    def gate_reply(self, s: Session, wire: bytes) -> None:
        """Hold ``wire`` and all later replies of ``s`` until log time has passed what the reply relied on."""
        self.read_ms = max(self.read_ms, self.ks.now_ms)  # the clock may be set back before the tick is proposed
        s.gates += 1
        s.gated.append(wire)
        self.internal(Item(ITEM_TICK, s, None, [], 0, 0, 0))

    def released(self, session: Session) -> None:
        """See Outcome."""
        if not session.gates:
            return
        session.gates -= 1
        session.pending -= 1
        if not session.pending:
            session.blocked = False
        if not session.gates:
            wires = session.gated
            session.gated = []
            for wire in wires:
                self.emit(session, wire)

    # -- the turn --------------------------------------------------------------------------------------------------

    def schedule(self) -> None:
        """Ask for turn_end() once this turn's input is handled."""
        if not self.scheduled and not self.stopped:
            self.scheduled = True
            self.clock.call_soon(self.turn_end)

    def turn_end(self) -> None:
        """Propose the batch, prove the reads, let the protocol work, send the output."""
        self.scheduled = False
        if self.stopped:
            return
        if self.leading:
            batch = self.batch
            if batch.writes:
                if self.consensus.can_take(batch):
                    self._prove_reads()
                    self._propose(batch)
            elif batch.items:
                # A session's items in `reads` came before its items in `batch`.
                self._prove_reads()
                batch.need_applied = self.last_proposed
                self.batch = Batch()
                self.rounds += 1
                self.consensus.read_index(batch)
            if self.reads.items and self.rounds == 0:
                self._prove_reads()
        self.consensus.pump()
        if self.dirty:
            self.flush_output()

    def _prove_reads(self) -> None:
        if self.reads.items:
            batch = self.reads
            self.reads = Batch()
            self.rounds += 1
            self.consensus.read_index(batch)

    def _propose(self, batch: Batch) -> None:
        self.batch = Batch()
        batch.now_ms = max(self.clock.wall_ms(), self.ks.log_ms, self.read_ms)
        batch.seed = self.rng.bits64()
        data = encode_batch(batch, batch.now_ms, batch.seed)
        try:
            batch.index, batch.term = self.consensus.propose(data)
        except Dropped as e:
            failure.refuse(self, batch, e.text)
            return
        self.proposed[batch.index] = batch
        self.last_proposed = batch.index

    def internal(self, item: Item) -> None:
        """Add work of the node's own to this turn's entry."""
        if not self.leading:
            return
        self.batch.items.append(item)
        self.batch.writes += 1
        self.schedule()

    def postpone(self, item: Item) -> None:
        """Work of the node's own whose entry was refused goes into the next one; Upkeep sees to it."""
        if self.leading:
            self.batch.items.append(item)
            self.batch.writes += 1

    # -- what consensus reports ------------------------------------------------------------------------------------

    def committed(self, entries: list[Committed]) -> None:
        """Apply entries in order; answers those proposed here."""
        applier = self.applier
        for entry in entries:
            index = entry.index
            if entry.kind == 0:
                batch = self.proposed.pop(index, None) if self.proposed else None
                if batch is not None and batch.term == entry.term:
                    began_ns = self.timing.begin()
                    applier.apply_batch(index, batch, batch.now_ms, batch.seed)
                    self.timing.entry(batch, began_ns)
                    if self.gate.large:
                        large.blame(self, batch.items)
                else:
                    applier.apply_payload(index, entry.data)
                    if self.timing.slow:
                        self.timing.blame([])
                    if batch is not None:
                        failure.replaced(self, batch)
            elif entry.kind == 1:
                applier.new_leader(index)
                if entry.term == self.term:
                    self.term_start = index
                    if self.leading:
                        self.moving.lead(self.term)
            else:
                applier.applied = index
            if self.proven:
                self.run_proven()
        if self.tracking.changed_keys:
            self.tracking.broadcast()

    def reads_ready(self, batch: Batch, index: int) -> None:
        """Leadership is proven for ``batch``; it may run once ``index`` is applied."""
        self.rounds -= 1
        if not self.leading:
            failure.refuse(self, batch, failure.LOST)
            return
        if self.reads.items:
            self.schedule()
        if batch.need_applied < index:
            batch.need_applied = index
        self.proven.append(batch)

    def reads_failed(self, batch: Batch) -> None:
        """Leadership was lost before the proof."""
        self.rounds -= 1
        failure.refuse(self, batch, failure.LOST)

    def run_proven(self) -> None:
        """Run proven reads whose index is applied."""
        applied = self.applier.applied
        waiting: list[Batch] = []
        for batch in self.proven:
            if batch.need_applied > applied:
                waiting.append(batch)
                continue
            for item in batch.items:
                s = item.session
                assert s is not None and item.row is not None
                if s.closing:
                    continue
                item.row.calls += 1
                wire = self.gate.evaluated(s, item.row, item.argv, item.db)
                if self.ks.tick_needed:
                    self.ks.tick_needed = False
                    self.gate_reply(s, wire)
                else:
                    s.pending -= 1
                    if not s.pending:
                        s.blocked = False
                    self.emit(s, wire)
            if self.timing.slow:
                self.timing.blame(batch.items)
        self.proven = waiting

    def role_changed(self, leading: bool, leader_id: int, term: int) -> None:
        """Consensus has a new view of who leads."""
        was_leading = self.leading
        if leader_id not in (0, self.leader_id):
            self.stats.leader_changes += 1
        if (leader_id, term) != (self.leader_id, self.term):
            for s in self.by_origin.values():
                if s.watched:
                    # EXEC under another leader must not succeed: nobody kept watch in between.
                    s.watched = {WATCH_LOST: 0}
        self.leading = leading
        self.leader_id = leader_id
        self.term = term
        if leader_id:
            self.leaderless_since_ns = 0
        elif not self.leaderless_since_ns:
            self.leaderless_since_ns = self.clock.monotonic_ns()
        # Until this leader's first entry is applied, WAIT cannot know what earlier leaders acknowledged.
        self.term_start = NEVER if leading else 0
        self.reads_now = False
        self.moving.retire()
        if was_leading and not leading:
            failure.demoted(self)
        if leader_id and self.waiting_for_leader:
            routing.leader_found(self)

    def serving_changed(self, reads_now: bool, lease_reads: bool) -> None:
        """The leader has applied its own first entry (or has not yet): which shortcuts reads may take."""
        self.reads_now = reads_now and self.leading
        self.lease_reads = lease_reads

    def update_refusals(self, loading: bool, no_quorum: bool) -> None:
        """Recompute which definite errors the gate gives."""
        if loading:
            self.refusal = self.refusal_reads = LOADING
        elif no_quorum:
            self.refusal = self.refusal_reads = failure.NO_LEADER
        else:
            self.refusal = self.disk_refusal
            self.refusal_reads = None

    def throttled(self) -> str:
        """The definite error of back-pressure."""
        self.stats.throttled += 1
        return (
            f"THROTTLED {self.batch.size_bytes + self.consensus.uncommitted_bytes()} bytes of writes wait for commit, "
            f"max-uncommitted-bytes is {self.settings.max_uncommitted_bytes}; nothing was logged, try again"
        )

    # -- Outcome: what apply reports --------------------------------------------------------------------------------

    def reply(self, session: Session, reply: object) -> None:
        """See Outcome."""
        if session.closing:
            return  # gone, or told already that its outcomes are unknown
        session.pending -= 1
        # A blocking request is the last one a session may have out; answers before it leave the session blocked.
        if not session.pending:
            session.blocked = False
        session.last_write_index = self.applier.wctx.index
        self.emit(session, OK_WIRE if reply is self.quick else self.gate.encoded(session, reply))

    def parked(self, session: Session, waiter: Waiter) -> None:
        """See Outcome."""
        if not session.closing:
            if waiter.deadline_ms:
                parking.arm(self, waiter)
        else:
            self.internal(Item(ITEM_DROP, None, None, [], 0, session.origin_node, session.uid))

    def woken(self, origin: Origin, reply: object) -> None:
        """See Outcome."""
        if self.leading:
            parking.served(self, origin, reply)

    def local(self, session: Session, row: Row, argv: list[bytes]) -> object:
        """See Outcome."""
        self.in_transaction = True
        self.at_once = None
        reply = self.run_local(session, row, argv)
        self.in_transaction = False
        return self._answered_at_once() if reply is NO_REPLY else reply

    def _answered_at_once(self) -> object:
        return self.at_once  # a call of its own: the compiler would take the attribute for the None set above

    def evicted(self, db: int, key: bytes) -> None:
        """See Outcome."""
        self.eviction.applied(db, key)

    def not_served(self, slot: int) -> str:
        """See Outcome."""
        if moves.fenced(self.applier.handoff, slot):
            return guard.on_its_way(slot)
        return places.moved(self, slot)

    def slots_moved(self, outcome: SlotsOutcome) -> None:
        """See Outcome."""
        self.moving.applied(outcome)

    def slots_stirred(self) -> None:
        """See Outcome."""
        self.moving.stir()

    def internal_error(self, index: int, command: str, error: Exception) -> None:
        """See Outcome."""
        self.stats.internal_errors += 1
        self.observer.event(InternalError(index, command, repr(error)))

    def set_notify(self) -> None:
        """Take over notify-keyspace-events."""
        self.pubsub.set_notify(self.settings.notify_keyspace_events)
        self.applier.wctx.notify_mask = self.pubsub.notify_mask

    # -- local commands ----------------------------------------------------------------------------------------------

    def run_local(self, s: Session, row: Row, argv: list[bytes]) -> object:
        """Run a node-local handler; errors become replies."""
        timing, timed = self.timing, self.timing.every or not row.flags & self.timing.brief
        began_ns = timing.now_ns() if timed else 0
        try:
            return row.fn(LocalContext(s, self), argv)
        except CommandError as e:
            row.failed += 1
            if isinstance(e, Denied):
                note_denied(self, s, e)
            return e
        except (MemoryError, RecursionError, AssertionError):
            raise
        except Exception as defect:  # noqa: BLE001 - a handler bug undoes its unit, it does not stop a group
            self.internal_error(0, row.name, defect)
            return ErrorReply(INTERNAL)
        finally:
            if timed:
                timing.local(s, row, argv, began_ns)

    def exec_transaction(self, s: Session) -> object:
        """EXEC: log the queued commands as one entry, or send them to the leader."""
        return begin_exec(self, s)

    def propose_exec(self, item: Item, size_bytes: int) -> None:
        """Add a prepared transaction to this turn's entry."""
        assert item.kind == ITEM_EXEC and item.session is not None
        self.batch.items.append(item)
        self.batch.writes += 1
        self.batch.size_bytes += size_bytes
        item.session.pending += 1
        self.schedule()

    def unwatch(self, s: Session) -> None:
        """Forget the session's watched keys here and in the log."""
        if not s.watched:
            return
        s.watched = {}
        if self.leading:
            self.internal(Item(ITEM_DROP, None, None, [], 0, s.origin_node, s.uid))
        else:
            self.forwarder.drop(s)

    def prepared(self, row: Row, argv: list[bytes]) -> list[bytes]:
        """The form in which a request that is not logged as it came is. Raises CommandError."""
        return imported.prepared(self, row, argv)

    # -- followers -----------------------------------------------------------------------------------------------------

    def away(self, s: Session, row: Row, argv: list[bytes]) -> None:
        """See routing.away."""
        routing.away(self, s, row, argv)

    def forward_lost(self, s: Session, *, maybe_logged: bool) -> None:
        """See failure.forward_lost."""
        failure.forward_lost(self, s, maybe_logged=maybe_logged)

    # -- Services ------------------------------------------------------------------------------------------------------

    def group(self) -> GroupView:
        """See Services."""
        view = self.consensus.view()
        view.applied_index = self.applier.applied
        view.loading = self.refusal_reads == LOADING
        view.writable_error = self.disk_refusal or ""
        return view

    def state_digest(self) -> tuple[int, str]:
        """See Services."""
        return self.applier.applied, digest(self.ks).hex()[:16]

    def close_client(self, session: Session) -> None:
        """See Services."""
        if session.sink is not None:
            session.sink.close_after_flush()

    def shutdown(self, *, transfer: bool, now: bool) -> None:
        """See Services."""
        self.consensus.stop(transfer=transfer, now=now)

    def transfer_leadership(self, node_id: int, *, force: bool = False) -> None:
        """See Services."""
        self.consensus.transfer(node_id, force=force)

    def change_members(self, session: Session, verb: str, node_id: int, address: str) -> None:
        """See Services."""
        if self.in_transaction:
            raise CommandError("ERR a membership change cannot be part of a transaction; send it alone")
        self.consensus.change(session, verb, node_id, address)

    def wait_replicas(self, session: Session, local: int, replicas: int, timeout_ms: int, aof: bool) -> None:
        """See Services."""
        wait.begin(self, session, local, replicas, timeout_ms, aof)

    def pause_clients(self, until_ms: int, writes_only: bool) -> None:
        """See Services."""
        pause.begin(self, until_ms, writes_only)

    def unpause_clients(self) -> None:
        """See Services."""
        pause.end(self)

    def wait_check(self) -> None:
        """Entries were applied or acknowledged: answer WAITs that have enough."""
        wait.check(self)

    def unblock_client(self, asker: Session, client_id: int, *, error: bool) -> object:
        """See parking.unblock."""
        return parking.unblock(self, asker, client_id, error=error)
