"""Slot handoffs on one node's engine: clients who wait, orders given here, the leader's work for them. [compiled]

cluster/handoff knows what has to happen; this carries it out: items go into the log, messages to leaders of other
groups, and commands on slots that are fenced, or may be, wait. A command that waits has done nothing and is executed
from the beginning when it may be. Rule: changes no replicated state, and decides nothing about slots.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from durakv.cluster.handoff import actions, entries, jobs
from durakv.cluster.handoff.apply import GAINED, LOST
from durakv.cluster.handoff.entries import Runs
from durakv.cluster.handoff.guard import FLUSH_SLOT, NONE, WHOLE, named_slot
from durakv.cluster.handoff.hub import PARK, Handoff
from durakv.cluster.handoff.state import MOVED, ONGOING
from durakv.cluster.redirect import NOT_SERVED
from durakv.commands.spec import WRITE
from durakv.engine import moves
from durakv.engine.batch import ITEM_HANDOFF, Item
from durakv.keyspace.slots import slot_of
from durakv.observe.events import Notice
from durakv.resp.errors import CommandError
from durakv.resp.types import OK, Map
from durakv.storage.options import SYNC_ALWAYS

if TYPE_CHECKING:
    from durakv.cluster.handoff.actions import Notice as SlotsNotice
    from durakv.cluster.handoff.apply import Outcome as SlotsOutcome
    from durakv.cluster.handoff.jobs import Target
    from durakv.cluster.handoff.state import Record
    from durakv.commands.session import Session
    from durakv.commands.table import Row
    from durakv.engine.engine import Engine

_TICK_MS: Final = 5
# How exactly handoff-park-limit-ms is kept.
_OVERDUE_MS: Final = 50
# Any slot: a command on whole databases.
EVERY_SLOT: Final = -1
_MID_BYTES: Final = 20
NO_OTHERS: Final = "ERR slots move between groups of a cluster, and this node knows of no other group"
LAZY: Final = (
    "ERR slots move only where every write is on disk before it is acknowledged; CONFIG SET appendfsync always on both "
    "groups first"
)
NOT_IN_EXEC: Final = "ERR slot migrations cannot be ordered in a transaction; send it alone"


# -- what an order waits for
BEGIN: Final = 0
END: Final = 1
FORCE: Final = 2


class Held(Exception):
    """A command has to wait for what becomes of ``slot``, or for ``delay_ms`` when that is not 0."""

    def __init__(self, slot: int, delay_ms: int = 0) -> None:
        super().__init__()
        self.slot = slot
        self.delay_ms = delay_ms


class Cluster(Protocol):
    """The other groups, as far as this node knows them."""

    def send_slots(self, group: int, blob: bytes) -> None:
        """A message for the group's leader; it may be lost."""

    def slots_moved(self, group: int, runs: Runs, epochs_up: int) -> None:
        """These slots are the group's since just now, at their epoch and so much more."""

    def owner_of(self, slot: int) -> int:
        """The group that is known to own a slot, 0 for nobody."""

    def node_named(self, name: bytes) -> Target | None:
        """The node of this name of 40 digits."""

    def leader_name(self, group: int) -> bytes:
        """The name of the node that leads the group; empty when none is known."""


class Order:
    """A client that waits for what becomes of migrations: of their ``BEGIN``, ``END`` or ``FORCE``.

    ``mids``: those it has yet to hear of.
    """

    def __init__(self, session: Session, mids: list[bytes], what: int) -> None:
        self.session = session
        self.mids = dict.fromkeys(mids)
        self.what = what
        self.begun: list[bytes] = []
        # Why not, once that is known of one of them.
        self.error = ""


class Moving:
    """One node's part in moving slots; see the module's text."""

    def __init__(self, engine: Engine, handoff: Handoff) -> None:
        self.engine = engine
        self.handoff = handoff
        # Set in cluster mode.
        self.cluster: Cluster | None = None
        # Commands that wait: (slot, until when).
        self.parked: dict[Session, tuple[int, int]] = {}
        # Slots whose writers are slowed down, by how many milliseconds each time; who waits for that, and who has.
        self.delays: dict[int, int] = {}
        self.delayed: dict[Session, None] = {}
        self._passed: dict[Session, None] = {}
        self.orders: list[Order] = []
        self._ticking = self._turning = False
        # The entry that took slots over last: what clients wrote to them elsewhere is in the log up to there.
        self.gained_index = 0
        self._stirred = False
        self._watching_time = False
        # Unix time as it was when the node started, going on without steps.
        self._epoch_ms = engine.clock.wall_ms() - engine.clock.monotonic_ns() // 1_000_000
        handoff.clock_ms = self._now_ms
        handoff.imports.headroom_bytes = self._headroom_bytes

    def _now_ms(self) -> int:
        return self._epoch_ms + self.engine.clock.monotonic_ns() // 1_000_000

    def _headroom_bytes(self) -> int:
        limit = self.engine.eviction.limit
        return limit - self.engine.eviction.used_bytes() if limit else 1 << 62

    # -- leadership, messages, time ------------------------------------------------------------------------------------

    def lead(self, term: int) -> None:
        """This node leads, and its first entry is applied."""
        if self._is_lazy():
            # What it commits may be gone after a power cut, and the other group would have acted upon it.
            if self.handoff.state.records:
                self._notice("slots-wait", LAZY.removeprefix("ERR "))
            return
        self.handoff.lead(term)
        self.follow()

    def refuse_lazy(self) -> None:
        """Raises ValueError for an appendfsync under which slots that are on their way could be lost."""
        if self._is_lazy() and self.handoff.state.records:
            raise ValueError("slots are on their way between groups, whose logs must be on disk; wait, or cancel that")

    def sync_changed(self) -> None:
        """The log follows another appendfsync now."""
        if not self.engine.leading:
            return
        if self._is_lazy():
            self.retire()
        elif not self.handoff.exports.leading and self.engine.applier.applied >= self.engine.term_start > 0:
            self.lead(self.engine.term)

    def _is_lazy(self) -> bool:
        return bool(self.engine.settings.appendfsync != SYNC_ALWAYS)

    def retire(self) -> None:
        """This node does not lead, or not any more. Clients that wait here go where they are sent."""
        self.handoff.retire()
        self.orders = []
        self.delays = {}
        moves.follow(self.engine.applier)
        self._wake(None)

    def receive(self, blob: bytes) -> None:
        """A message of another group's leader; who does not lead drops it, and the sender will ask again."""
        if not self.handoff.exports.leading:
            return
        try:
            self.handoff.receive(blob)
        except ValueError as error:
            self._notice("slots-refused", str(error))
        self.follow()

    def stir(self) -> None:
        """Something was applied: act upon it in the next turn."""
        if not self._stirred and not self.engine.stopped:
            self._stirred = True
            self.engine.clock.call_soon(self._act_later)

    def _act_later(self) -> None:
        self._stirred = False
        self.follow()

    def follow(self) -> None:
        """Carry out what has gathered, and keep time for what goes on."""
        moves.follow(self.engine.applier)
        self._act()
        self._keep_time()

    def _keep_time(self) -> None:
        """See to it that ``_tick`` comes: in the next turn while there is something to send, otherwise by and by."""
        if self.engine.stopped or not self.handoff.busy():
            return
        if not self._turning and self.handoff.wants_turn():
            self._turning = True
            self.engine.clock.call_soon(self._turn)
        if not self._ticking:
            self._ticking = True
            self.engine.clock.call_later(_TICK_MS, self._time_passed)

    def _turn(self) -> None:
        self._turning = False
        self._tick()

    def _time_passed(self) -> None:
        self._ticking = False
        self._tick()

    def _tick(self) -> None:
        if self.engine.stopped or not self.handoff.busy():
            return
        limits, settings = self.handoff.limits, self.engine.settings
        limits.pause_ms_max = int(settings.handoff_max_pause_ms)
        limits.throttle_after_ms = int(settings.handoff_throttle_after_ms)
        self.handoff.tick()
        self._act()
        self._keep_time()

    def _act(self) -> None:
        notices, proposals, messages = self.handoff.take()
        for notice in notices:
            self._heed(notice)
        for argv in proposals:
            item = Item(ITEM_HANDOFF, None, None, argv, 0, 0, 0)
            self.engine.batch.size_bytes += sum(len(word) + 8 for word in argv)
            self.engine.internal(item)
        if self.cluster is not None:
            for group, blob in messages:
                self.cluster.send_slots(group, blob)

    def _heed(self, notice: SlotsNotice) -> None:
        if notice.kind in (actions.SERVE, actions.MOVED):
            self._wake(notice.runs)
        elif notice.kind == actions.THROTTLE:
            for first, last, _ in notice.runs:
                for slot in range(first, last + 1):
                    if notice.delay_ms:
                        self.delays[slot] = notice.delay_ms
                    else:
                        self.delays.pop(slot, None)
        elif notice.kind == actions.ALARM:
            self._notice("slots-alarm", f"migration={notice.mid.decode()} {notice.text}")

    def _notice(self, what: str, text: str) -> None:
        self.engine.observer.event(Notice(what, text))

    # -- commands that wait ---------------------------------------------------------------------------------------

    def waits(self, slot: int) -> bool:
        """Whether a command on the slot has to wait on this node, were it the leader."""
        return self.handoff.verdict(slot) == PARK

    def any_held(self) -> bool:
        """Whether a slot is fenced, or may be."""
        return not self.handoff.state.may_flush() or 1 in self.handoff.exports.held

    def check_whole(self, row: Row, argv: list[bytes]) -> None:
        """Judge a command without keys where slots have moved. Raises Held, CommandError."""
        if row.name in WHOLE:
            if self.any_held():
                raise Held(EVERY_SLOT)
        elif row.name == FLUSH_SLOT:
            slot = named_slot(argv)
            if slot != NONE:
                self.engine.gate.must_serve(slot)

    def check_transaction(self, s: Session, queue: list[tuple[Row, list[bytes]]]) -> None:
        """Judge what EXEC would run. Raises Held."""
        if self.delays:
            for row, argv in queue:
                if row.kind == WRITE and row.key_at != 0:
                    for key in row.keys(argv):
                        self.slow_down(s, slot_of(key))
                    break
        if not self.any_held():
            return
        for row, argv in queue:
            if row.kind == WRITE and row.name in WHOLE:
                raise Held(EVERY_SLOT)
            for key in row.keys(argv):
                if self.waits(slot_of(key)):
                    raise Held(slot_of(key))

    def slow_down(self, s: Session, slot: int) -> None:
        """A write on a slot whose copy cannot keep up otherwise. Raises Held, once for each write."""
        delay_ms = self.delays.get(slot, 0)
        if not delay_ms:
            return
        if s in self._passed:
            del self._passed[s]
        else:
            raise Held(slot, delay_ms)

    def delay(self, s: Session, argv: list[bytes], delay_ms: int) -> None:
        """This request waits for so long, and so do all later ones of its session."""
        s.held.appendleft(argv)
        if s.pending:
            return
        s.blocked = True
        self.delayed[s] = None
        self.engine.clock.call_later(delay_ms, lambda: self._pass(s))

    def _pass(self, s: Session) -> None:
        if s in self.delayed:
            del self.delayed[s]
            self._passed[s] = None
            s.blocked = False
            self.engine.wake(s)

    def hold(self, s: Session, argv: list[bytes], slot: int) -> None:
        """This request waits, and so do all later ones of its session."""
        s.held.appendleft(argv)
        if s.pending:
            # It is looked at again when those before it are answered.
            return
        s.blocked = True
        limit_ms = int(self.engine.settings.handoff_park_limit_ms)
        self.parked[s] = (slot, self._now_ms() + limit_ms)
        if not self._watching_time:
            self._watching_time = True
            self.engine.clock.call_later(_OVERDUE_MS, self._overdue)

    def forget(self, s: Session) -> None:
        """The client has gone."""
        self.parked.pop(s, None)
        self.delayed.pop(s, None)
        self._passed.pop(s, None)
        for order in self.orders:
            if order.session is s:
                self.orders.remove(order)
                return

    def _wake(self, runs: Runs | None) -> None:
        """Let those go on who wait for these slots; None: all."""
        for s, (slot, _) in list(self.parked.items()):
            if runs is None or slot == EVERY_SLOT or any(first <= slot <= last for first, last, _ in runs):
                del self.parked[s]
                s.blocked = False
                self.engine.wake(s)

    def _overdue(self) -> None:
        self._watching_time = False
        if self.engine.stopped:
            return
        now_ms = self._now_ms()
        for s, (_, until_ms) in list(self.parked.items()):
            if until_ms <= now_ms:
                del self.parked[s]
                s.blocked = False
                self.engine.gate.refuse(s, s.held.popleft(), CommandError(NOT_SERVED))
                self.engine.wake(s)
        if self.parked:
            self._watching_time = True
            self.engine.clock.call_later(_OVERDUE_MS, self._overdue)

    # -- what was applied ---------------------------------------------------------------------------------------

    def applied(self, outcome: SlotsOutcome) -> None:
        """An item of the log was applied here, on whichever node."""
        record = outcome.record
        if outcome.serving == GAINED:
            self.gained_index = self.engine.applier.wctx.index
        if outcome.serving == LOST and record is not None:
            self._left(record)
        if self.orders:
            self._answer(outcome)
        self.stir()

    def _left(self, record: Record) -> None:
        engine = self.engine
        if self.cluster is not None and record.result == MOVED:
            self.cluster.slots_moved(record.peer, record.runs, 1)
        elif self.cluster is not None:
            # A yielded slot: its source took it back, two epochs after what it gave away.
            self.cluster.slots_moved(record.peer, record.runs, 2)
        for first, last, _ in record.runs:
            engine.pubsub.drop_slots(first, last)
        engine.tracking.flushed()

    def free(self, keys_max: int) -> bool:
        """Free up to so many keys of released slots; False when none are left, or none may go yet."""
        return bool(self.handoff.staging.dropped) and self.handoff.staging.step(keys_max)

    # -- orders ---------------------------------------------------------------------------------------

    def migrate(self, s: Session, argv: list[bytes]) -> None:
        """CLUSTER MIGRATESLOTS: answered when the log has all of it. Raises CommandError."""
        cluster = self._may_order()
        found = jobs.migrate_orders(
            argv, self.handoff.state, leads=self.handoff.exports.leading, owner_of=cluster.owner_of,
            node_named=cluster.node_named,
        )  # fmt: skip
        mids = [self.engine.rng.token(_MID_BYTES).hex().encode() for _ in found]
        self._wait_for(s, mids, BEGIN)
        for mid, order in zip(mids, found, strict=True):
            self.handoff.exports.begin(mid, order.group, order.runs)
        self.follow()

    def cancel(self, s: Session) -> None:
        """CLUSTER CANCELSLOTMIGRATIONS: answered with what became of them. Raises CommandError."""
        self._may_order()
        if not self.handoff.exports.leading:
            raise CommandError(jobs.NOT_LEADER)
        self._wait_for(s, jobs.cancel_all(self.handoff.exports, self._now_ms()), END)
        self.follow()

    def force_abort(self, s: Session, mid: bytes) -> None:
        """CLUSTER MIGRATIONS FORCE-ABORT: fenced slots are this group's again. Raises CommandError."""
        self._may_order()
        if not self.handoff.exports.leading:
            raise CommandError(jobs.NOT_LEADER)
        driver = self.handoff.exports.drivers.get(mid)
        if driver is None:
            raise CommandError("ERR no export of this id is under way; CLUSTER GETSLOTMIGRATIONS lists them")
        self._wait_for(s, [mid], FORCE)
        self.handoff.actions.proposals.append(entries.force_abort(mid))
        self.follow()

    def rows(self) -> list[Map]:
        """CLUSTER GETSLOTMIGRATIONS."""
        cluster = self.cluster
        handoff = self.handoff
        name = _nobody if cluster is None else cluster.leader_name
        return jobs.migration_rows(handoff.state, handoff.exports, handoff.imports, name)

    def _may_order(self) -> Cluster:
        if self.cluster is None:
            raise CommandError(NO_OTHERS)
        if self.engine.in_transaction:
            raise CommandError(NOT_IN_EXEC)
        if self.engine.refusal is not None:
            raise CommandError(self.engine.refusal)
        if self._is_lazy():
            raise CommandError(LAZY)
        return self.cluster

    def _wait_for(self, s: Session, mids: list[bytes], what: int) -> None:
        s.pending += 1
        s.blocked = True
        self.orders.append(Order(s, mids, what))

    def _answer(self, outcome: SlotsOutcome) -> None:
        for order in list(self.orders):
            if outcome.mid not in order.mids:
                continue
            if order.what == BEGIN:
                done = self._heard_beginning(order, outcome)
            elif order.what == END:
                done = self._heard_end(order, outcome)
            else:
                done = self._heard_force(order, outcome)
            if done:
                self.orders.remove(order)
                self._reply(order)

    @staticmethod
    def _heard_beginning(order: Order, outcome: SlotsOutcome) -> bool:
        if outcome.verb != entries.EXPORT_BEGIN:
            return False
        del order.mids[outcome.mid]
        if outcome.done:
            order.begun.append(outcome.mid)
        elif not order.error:
            order.error = "ERR " + outcome.reason.decode("utf-8", "replace")
        return not order.mids

    @staticmethod
    def _heard_end(order: Order, outcome: SlotsOutcome) -> bool:
        record = outcome.record
        if record is None or record.result == ONGOING:
            return False
        del order.mids[outcome.mid]
        if record.result == MOVED:
            order.error = f"ERR migration {outcome.mid.decode()} was complete before it could be cancelled"
        return not order.mids

    @staticmethod
    def _heard_force(order: Order, outcome: SlotsOutcome) -> bool:
        if outcome.verb != entries.FORCE_ABORT:
            return False
        if not outcome.done:
            order.error = "ERR " + outcome.reason.decode("utf-8", "replace")
        return True

    def _reply(self, order: Order) -> None:
        s = order.session
        if order.error and order.what == BEGIN:
            # All or none.
            for mid in order.begun:
                self.handoff.exports.cancel(mid, self._now_ms())
        if s.closing:
            return
        s.pending -= 1
        if not s.pending:
            s.blocked = False
        self.engine.respond(s, CommandError(order.error) if order.error else OK)


def _nobody(group: int) -> bytes:
    return b""
