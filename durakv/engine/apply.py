"""The state machine: a committed entry changes the keyspace and yields replies. [compiled]

Same state, same entry => same change and same replies on every node. On the leader the batch that made the entry is
still in memory and its items (reads of the same turn included) are run from there; elsewhere, and at replay, the
payload is parsed. Both ways go through the same unit functions.
Rules: nothing here looks at a clock, a setting or the network. An ordinary exception undoes its unit and becomes
``-ERR internal error``; MemoryError, RecursionError and failed assertions stop the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import hiredis

from durakv.cluster.handoff.hub import Handoff
from durakv.commands.context import NOTIFY_EXPIRED, ReadContext, WriteContext
from durakv.commands.spec import READ, WRITE
from durakv.engine import ending, moves, places, removals
from durakv.engine.batch import (
    ITEM_DROP,
    ITEM_EVICT,
    ITEM_EXEC,
    ITEM_HANDOFF,
    ITEM_IMPORT,
    ITEM_READ,
    ITEM_SWEEP,
    ITEM_TICK,
    ITEM_UNPARK,
    ITEM_WRITE,
    Batch,
    Item,
    Part,
)
from durakv.engine.blocking import DbKey, Origin, ReplicatedSessions, Waiter
from durakv.engine.entry import FORMAT, HEADER, HEADER_SIZE, SEMANTICS, read_parts
from durakv.engine.imported import apply_item, refused
from durakv.engine.outcome import Outcome, UnknownFormat
from durakv.engine.source import READONLY
from durakv.keyspace.journal import roll_back, steps
from durakv.resp.errors import INTERNAL, CommandError
from durakv.resp.types import NULL_ARRAY, OK, Parked

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.commands.table import Row, Table
    from durakv.keyspace.keyspace import Db, Keyspace

_NO_KEYS: Final[list[bytes]] = []
# How often one unit may wake parked requests that in turn make other keys ready.
_WAKE_ROUNDS_MAX: Final = 10_000


def _no_time() -> int:
    return 0


def _no_limit() -> int:
    return 1 << 62


def _nobody(session: Session) -> None:
    """No session has messages of its own."""


class Applier:
    """Applies entries in log order. ``applied`` is the index of the last one."""

    def __init__(self, ks: Keyspace, table: Table, outcome: Outcome) -> None:
        self.ks = ks
        self.table = table
        self.outcome = outcome
        self.applied = 0
        self.sessions = ReplicatedSessions()
        self.wctx = WriteContext(ks)
        self.rctx = ReadContext(ks)
        self.reader = hiredis.Reader()
        self.watch_row: Row = table.rows[b"WATCH"]
        self.ordinal = 0
        self.units = 0
        self.internal_errors = 0
        # Entries about to be applied that too few nodes hold, and what whoever they serve is told instead of a reply.
        self.thin: dict[int, str] = {}
        # Between begin() and end(): the state is that of no index.
        self.in_entry = False
        # The requests are other nodes' or an earlier run's: they count there.
        self.replaying = False
        # Called with (db, event, key) lists after each unit when somebody listens.
        self.publish_events: Callable[[list[tuple[int, bytes, bytes]]], None] | None = None
        # A transaction is answered: send what it published to its own session.
        self.show_late: Callable[[Session], None] = _nobody
        # Called after a unit with the keys it changed and the client of this node that asked for it, or without
        # anything after one that emptied a database; see follow_changes().
        self.on_changes: Callable[[list[DbKey], Session | None], None] | None = None
        self.on_flush: Callable[[], None] | None = None
        self.flushes = 0
        self.asker: Session | None = None
        # Node, uid, epoch and number of the request to run next, and who hears of its reply: see ForwardHub.executed.
        self.asked: list[bytes] = _NO_KEYS
        self.on_executed: Callable[[list[bytes], object], None] | None = None
        # Which slots the group serves. Clock and headroom are a leader's, which the engine gives it.
        self.handoff = Handoff(ks, places.ONLY_GROUP, places.ALL_SLOTS, b"", _no_time, _no_limit)
        ks.handoff = self.handoff
        self.exporting = False
        self.flushes_seen = 0

    def follow_changes(
        self, on_changes: Callable[[list[DbKey], Session | None], None] | None, on_flush: Callable[[], None] | None
    ) -> None:
        """Tell of every changed key from the next unit on; None: no longer."""
        self.on_changes = on_changes
        self.on_flush = on_flush
        self.flushes = self.ks.flushes
        self.listen_again()

    def follow_ledger(self) -> None:
        """Keys are counted from now on, or no longer."""
        self.listen_again()

    # -- entries ---------------------------------------------------------------------------------------------------

    def begin(self, index: int, now_ms: int, seed: int) -> None:
        """Start an entry: from here on ``writing`` holds and time is the entry's (never before the last one's)."""
        ks = self.ks
        now_ms = max(now_ms, ks.log_ms)
        ks.now_ms = now_ms
        ks.log_ms = now_ms
        ks.writing = True
        ctx = self.wctx
        ctx.now_ms = now_ms
        ctx.index = index
        ctx.seed = seed
        self.rctx.now_ms = now_ms
        self.ordinal = 0
        self.asker = None
        self.in_entry = True

    def end(self, index: int) -> None:
        """Finish an entry."""
        self.in_entry = False
        self.ks.writing = False
        steps.clear()
        self.applied = index

    def resume(self, index: int, log_ms: int) -> None:
        """Go on after ``index``, whose time was ``log_ms``, from a state that was loaded."""
        self.applied = index
        self.ks.log_ms = log_ms
        self.flushes_seen = self.ks.flushes
        self.ks.emptied.clear()
        moves.follow(self)

    def new_leader(self, index: int) -> None:
        """A leader's first entry of its term, or any entry without a payload."""
        self.sessions.clear()
        self.listen_again()
        self.applied = index

    def apply_batch(self, index: int, batch: Batch, now_ms: int, seed: int) -> None:
        """Apply the entry made from ``batch`` on the node that made it."""
        self.begin(index, now_ms, seed)
        self.replaying = False
        for item in batch.items:
            kind = item.kind
            if self.on_changes is not None:
                self.asker = item.session
            if kind == ITEM_WRITE:
                self._write_item(item)
            elif kind == ITEM_READ:
                session = item.session
                assert session is not None
                self.outcome.reply(session, self.read_in_entry(item))
            elif kind == ITEM_EXEC:
                self._exec_item(item)
            elif kind == ITEM_IMPORT:
                self._import(item.argv, item.parts or [])
            elif kind == ITEM_HANDOFF:
                self.ordinal += 1
                moves.apply_item(self, item.argv)
            elif kind == ITEM_SWEEP:
                self.ordinal += 1
                removals.sweep(self, item.db, item.argv)
            elif kind == ITEM_EVICT:
                self.ordinal += 1
                removals.evict(self, item.db, item.argv)
            elif kind == ITEM_TICK:
                self.ordinal += 1
                if item.session is not None:
                    self.outcome.released(item.session)
            elif kind == ITEM_DROP:
                self.ordinal += 1
                ending.drop(self, (item.node, item.uid))
            else:
                assert kind == ITEM_UNPARK
                self.ordinal += 1
                ended = ending.unpark(self, (item.node, item.uid), item.argv[0])
                if item.session is not None:
                    self.outcome.reply(item.session, 1 if ended else 0)
        self.end(index)

    def apply_payload(self, index: int, data: bytes) -> None:
        """Apply an entry from its bytes. Raises UnknownFormat."""
        fmt, semantics, _, count, now_ms, seed = HEADER.unpack_from(data)
        if fmt != FORMAT or semantics > SEMANTICS:
            raise UnknownFormat(
                f"entry {index} has format {fmt}, semantics {semantics}; this build knows {FORMAT}, {SEMANTICS}"
            )
        self.begin(index, now_ms, seed)
        self.replaying = True
        reader = self.reader
        reader.feed(data, HEADER_SIZE, len(data) - HEADER_SIZE)
        rows = self.table.rows
        db = 0
        origin: Origin = (0, 0)
        done = 0
        while done < count:
            argv: list[bytes] = reader.gets()
            row = rows.get(argv[0])
            if row is not None and row.subs is None:
                reply = self.run_write(row, argv, db, origin)
                if self.asked:
                    self._executed(reply)
                done += 1
                continue
            name = argv[0]
            if name == b"@db":
                db = int(argv[1])
                continue
            if name == b"@as":
                origin = (int(argv[1]), int(argv[2]))
                self.asked = argv[1:] if len(argv) > 3 else _NO_KEYS
                continue
            done += 1
            if name == b"@multi":
                db = self._exec_payload(argv, db, origin)
            elif name == b"@import":
                parts, db = read_parts(reader, self.table, int(argv[1]), db)
                self._import(argv[2:], parts)
            elif name == b"@handoff":
                self.ordinal += 1
                moves.apply_item(self, argv[1:])
            elif name == b"@tick":
                self.ordinal += 1
            elif name == b"@sweep":
                self.ordinal += 1
                removals.sweep(self, db, argv[1:])
            elif name == b"@evict":
                self.ordinal += 1
                removals.evict(self, db, argv[1:])
            elif name == b"@drop":
                self.ordinal += 1
                ending.drop(self, origin)
            elif name == b"@unpark":
                self.ordinal += 1
                ending.unpark(self, origin, argv[1])
            else:
                reply = self.run_write(self.table.find(argv), argv, db, origin)
                if self.asked:
                    self._executed(reply)
        assert not reader.has_data(), "an entry's payload holds more than its header counts"
        self.end(index)

    def _executed(self, reply: object) -> None:
        """A request that another node sent on for its client has run: that node may wait to hear of it."""
        asked = self.asked
        self.asked = _NO_KEYS
        if self.on_executed is not None:
            self.on_executed(asked, reply)

    # -- units -----------------------------------------------------------------------------------------------------

    def run_write(self, row: Row, argv: list[bytes], db: int, origin: Origin) -> object:
        """One write command as a unit of its own; returns its reply, or a Parked that is now registered."""
        self.ordinal += 1
        self.units += 1
        ctx = self.wctx
        ctx.db = self.ks.dbs[db]
        ctx.draws = self.ordinal << 20
        if row is self.watch_row:
            return self._watch(argv, db, origin)
        reply = self._call(row, argv)
        if type(reply) is Parked:
            deadline = self.ks.now_ms + reply.timeout_ms if reply.timeout_ms else 0
            again = argv if reply.argv is None else reply.argv
            self.sessions.park(Waiter(origin, row, again, db, reply.keys, reply.kind, deadline, reply.on_timeout))
            self.ks.listening = True
        self.after_unit()
        return reply

    def read_in_entry(self, item: Item) -> object:
        """A read of the same turn, run between the writes around it, under the entry's time."""
        row = item.row
        assert row is not None
        row.calls += 1
        return self._read(row, item.argv, item.db)

    def _read(self, row: Row, argv: list[bytes], db: int) -> object:
        ctx = self.rctx
        ks = self.ks
        if ks.guarded:
            foreign = moves.refused(self, row, argv)
            if foreign is not None:
                return foreign
        ctx.db = ks.dbs[db]
        ks.writing = False
        try:
            return row.run(ctx, argv)
        except CommandError as e:
            row.failed += 1
            return e
        except (MemoryError, RecursionError, AssertionError):
            raise
        except Exception as defect:  # noqa: BLE001 - a handler bug undoes its unit, it does not stop a group
            self._count_internal(row, defect)
            return CommandError(INTERNAL)
        finally:
            ks.writing = True

    def _call(self, row: Row, argv: list[bytes]) -> object:
        if steps:
            steps.clear()
        mark = len(self.ks.changed)
        events_mark = len(self.wctx.events)
        expired_mark = len(self.ks.expired_now)
        if self.ks.read_only and refused(row):
            return CommandError(READONLY)
        if self.ks.guarded:
            foreign = moves.refused(self, row, argv)
            if foreign is not None:
                return foreign
        try:
            return row.run(self.wctx, argv)
        except CommandError as e:
            # An error means "no effect": handlers check before they change, this is the net under them.
            self._undo(mark, events_mark, expired_mark)
            if not self.replaying:
                row.failed += 1
            return e
        except (MemoryError, RecursionError, AssertionError):
            raise
        except Exception as defect:  # noqa: BLE001 - a handler bug undoes its unit, it does not stop a group
            self._undo(mark, events_mark, expired_mark)
            self._count_internal(row, defect)
            return CommandError(INTERNAL)

    def _undo(self, mark: int, events_mark: int, expired_mark: int) -> None:
        if steps:
            roll_back()
        ks = self.ks
        if ks.ledger is not None:
            for db, key in ks.changed[mark:]:
                ks.ledger.touched(ks.dbs[db], key)
        del ks.changed[mark:]
        del self.wctx.events[events_mark:]
        # The keys are back with their deadlines passed; whoever looks next reports them.
        ks.expired_keys -= len(ks.expired_now) - expired_mark
        del ks.expired_now[expired_mark:]

    def _count_internal(self, row: Row, error: Exception) -> None:
        self.internal_errors += 1
        self.outcome.internal_error(self.wctx.index, row.name, error)

    def _write_item(self, item: Item) -> None:
        row = item.row
        assert row is not None
        session = item.session
        if not row.needs_session:
            # Nothing of it needs to know who asked.
            self.ordinal += 1
            self.units += 1
            ctx = self.wctx
            ctx.db = self.ks.dbs[item.db]
            ctx.draws = self.ordinal << 20
            reply = self._call(row, item.argv)
            self.after_unit()
            if session is not None:
                self.outcome.reply(session, reply)
            return
        origin: Origin = (item.node, item.uid)
        reply = self.run_write(row, item.argv, item.db, origin)
        if session is None:
            return
        if row is self.watch_row and reply is OK:
            # What EXEC will carry: the version under which each key was seen.
            version = self.version()
            for key in item.argv[1:]:
                session.watched.setdefault((item.db, key), version)
        if type(reply) is Parked:
            waiter = self.sessions.waiters.get(origin)
            # None: a wake-up inside this very unit already served it.
            if waiter is not None:
                self.outcome.parked(session, waiter)
            return
        self.outcome.reply(session, reply)

    def _exec_item(self, item: Item) -> None:
        session = item.session
        parts = item.parts
        assert session is not None and parts is not None
        self.outcome.reply(session, self._exec(parts, item.watch, (item.node, item.uid), session))
        if session.late:
            self.show_late(session)

    def _exec_payload(self, head: list[bytes], db: int, origin: Origin) -> int:
        count = int(head[1])
        watch: list[tuple[int, bytes, int]] | None = None
        if len(head) > 2:
            watch = []
            for i in range(2, len(head), 3):
                watch.append((int(head[i]), head[i + 1], int(head[i + 2])))
        parts, db = read_parts(self.reader, self.table, count, db)
        reply = self._exec(parts, watch, origin, None)
        if self.asked:
            self._executed(reply)
        return db

    def _import(self, head: list[bytes], parts: list[Part]) -> None:
        self.ordinal += 1
        self.units += 1
        apply_item(self.ks, self.wctx, self._call, head, parts)
        self.after_unit()

    def _exec(
        self, parts: list[Part], watch: list[tuple[int, bytes, int]] | None, origin: Origin, session: Session | None
    ) -> object:
        """MULTI/EXEC as one unit; each command is undone on its own, as Valkey's semantics have it."""
        self.ordinal += 1
        self.units += 1
        ks = self.ks
        ctx = self.wctx
        if ks.guarded:
            foreign = moves.refused_transaction(self, parts, watch)
            if foreign is not None:
                if watch is not None:
                    self.sessions.unwatch(origin)
                self.after_unit()
                return foreign
        if watch is not None:
            aborted = self._watch_broken(watch)
            self.sessions.unwatch(origin)
            if aborted:
                self.after_unit()
                return NULL_ARRAY
        replies: list[object] = []
        ctx.can_block = False
        n = 0
        for part in parts:
            row = part.row
            if session is not None:
                row.calls += 1
            if row.kind == WRITE:
                n += 1
                ctx.db = ks.dbs[part.db]
                # Counted over writes only: followers see no other commands of the transaction.
                ctx.draws = (self.ordinal << 20) + (n << 10)
                replies.append(self._call(row, part.argv))
            elif row.kind == READ:
                replies.append(self._read(row, part.argv, part.db))
            else:
                assert session is not None
                # Followers run no local commands: one that looks at an expired key must leave it in place.
                ks.writing = False
                replies.append(self.outcome.local(session, row, part.argv))
                ks.writing = True
        ctx.can_block = True
        self.after_unit()
        return replies

    # -- watched keys ----------------------------------------------------------------------------------------------

    def version(self) -> int:
        """Later than that of any unit before this one."""
        return (self.wctx.index << 24) | self.ordinal

    def _watch(self, argv: list[bytes], db: int, origin: Origin) -> object:
        if self.ks.guarded:
            foreign = moves.refused(self, self.watch_row, argv)
            if foreign is not None:
                return foreign
        database: Db = self.ks.dbs[db]
        for i in range(1, len(argv)):
            database.get(argv[i])  # an expired key goes now, so that its removal later is no change
        self.after_unit()
        self.sessions.watch(origin, db, argv[1:])
        self.ks.listening = True
        return OK

    def _watch_broken(self, watch: list[tuple[int, bytes, int]]) -> bool:
        for db, key, _ in watch:
            self.ks.dbs[db].get(key)  # a watched key that expired meanwhile counts as changed
        self._note_changes()
        versions = self.sessions.versions
        for db, key, version in watch:
            if versions.get((db, key), 0) > version:
                return True
        return False

    # -- after a unit ----------------------------------------------------------------------------------------------

    def after_unit(self) -> None:
        """Tell everybody who listens what the unit changed."""
        ks = self.ks
        if ks.expired_now:
            self._expired_events()
        if ks.guarded:
            moves.after_unit(self)
        if ks.listening:
            self._wake()
            self.listen_again()
        events = self.wctx.events
        if events:
            if self.publish_events is not None:
                self.publish_events(events)
            self.wctx.events = []

    def listen_again(self) -> None:
        """Judge anew whether anybody wants to hear of changed keys."""
        listening = self.on_changes is not None or self.ks.ledger is not None or self.exporting
        self.ks.listening = listening or not self.sessions.idle()
        if not self.ks.listening:
            self.ks.changed.clear()

    def _expired_events(self) -> None:
        ctx = self.wctx
        expired = self.ks.expired_now
        if ctx.notify_mask & NOTIFY_EXPIRED:
            for db, key in expired:
                ctx.events.append((db, b"expired", key))
        expired.clear()

    def _note_changes(self) -> list[DbKey]:
        """Give changed watched keys a new version; returns the changed keys somebody is parked on, in order."""
        changed = self.ks.changed
        ready: list[DbKey] = []
        if self.on_changes is not None:
            self._tell_of_changes(changed)
        if self.exporting:
            moves.tell(self)
        if not changed:
            return ready
        if self.ks.ledger is not None:
            # Only now are new collections filled.
            for db, key in changed:
                self.ks.ledger.touched(self.ks.dbs[db], key)
        sessions = self.sessions
        version = self.version()
        for dbkey in changed:
            if dbkey in sessions.watchers:
                sessions.versions[dbkey] = version
                sessions.watch_moved = True
            if dbkey in sessions.waiting_on:
                ready.append(dbkey)
        changed.clear()
        return ready

    def _tell_of_changes(self, changed: list[DbKey]) -> None:
        if self.flushes != self.ks.flushes:
            self.flushes = self.ks.flushes
            assert self.on_flush is not None
            self.on_flush()
        elif changed:
            assert self.on_changes is not None
            self.on_changes(changed, self.asker)

    def _wake(self) -> None:
        """Serve parked requests whose keys changed: keys in order of change, requests in park order."""
        rounds = 0
        ready = self._note_changes()
        while ready:
            again: list[DbKey] = []
            for dbkey in ready:
                who = self.sessions.waiting_on.get(dbkey)
                if who is None:
                    continue
                for origin in list(who):
                    if self._serve(origin, dbkey[1]):
                        again.extend(self._note_changes())
            ready = again
            rounds += 1
            assert rounds < _WAKE_ROUNDS_MAX, "parked requests keep waking each other"

    def _serve(self, origin: Origin, key: bytes) -> bool:
        """Run a parked request again because ``key`` changed; whatever it answers then, errors too, ends its wait."""
        waiter = self.sessions.waiters.get(origin)
        if waiter is None:
            return False
        ctx = self.wctx
        ctx.db = self.ks.dbs[waiter.db]
        # A key of another type does not wake a reader of lists, sorted sets or streams; it goes on waiting.
        if waiter.wakes is not None and type(ctx.db.get(key)) is not waiter.wakes:
            return False
        self.ordinal += 1
        ctx.draws = self.ordinal << 20
        reply = self._call(waiter.row, waiter.argv)
        if type(reply) is Parked:
            return False
        self.sessions.unpark(origin)
        self.outcome.woken(origin, reply)
        return True
