"""Where a parsed request goes: refused, queued by MULTI, run here at once, batched, or sent to the leader. [compiled]

Rule: everything judged here (arity, ACL, memory, slots, back-pressure) is judged before anything is appended, so its
errors are definite. Replies leave in request order: while a session has requests pending, only reads and writes may
join it; anything else waits in ``session.held`` until the session is idle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.acl.users import Denied
from durakv.commands.acl import note_denied
from durakv.commands.context import ReadContext
from durakv.commands.spec import FLAGS, LOCAL, READ, WRITE
from durakv.engine import large, moves
from durakv.engine.batch import ITEM_READ, ITEM_WRITE, Item
from durakv.engine.imported import admit
from durakv.engine.moving import Held
from durakv.engine.pause import hold
from durakv.engine.places import moved
from durakv.engine.scripts import admitted, kind_of
from durakv.engine.transactions import refused_exec
from durakv.keyspace.slots import slot_of
from durakv.resp.encoder import encode
from durakv.resp.errors import CROSSSLOT, INTERNAL, NOAUTH, CommandError
from durakv.resp.types import NO_REPLY, QUEUED

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.commands.table import Row
    from durakv.engine.engine import Engine
    from durakv.engine.usage import Usage

_ITEM_OVERHEAD_BYTES = 16
# Larger than any reply.
_NEVER = 1 << 62
# Three quarters of what transport.FRAME_BYTES_MAX lets through.
_ALONE_BYTES_MAX = 768 << 20


class Gate:
    """Dispatches requests of all sessions of one node."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        # What clients of this node may call; another node's clients were judged there.
        self.table = engine.table.renamed(engine.settings.renames) if engine.settings.renames else engine.table
        self.rows = self.table.rows
        self.renamed = self.table is not engine.table
        self.ks = engine.ks
        self.serves = engine.places.serves
        # Slots on which nothing is admitted for now, though the group serves them; all 0 where this node does not lead.
        self.slots_held = engine.places.handoff.exports.held
        self.rctx = ReadContext(engine.ks)
        self.clock = engine.clock
        self.watchers = engine.instruments.monitors.watchers
        self.unmonitored = FLAGS["skip_monitor"] | FLAGS["admin"]
        self.unkept = FLAGS["skip_commandlog"]
        self.seed = engine.rng.bits64() >> 8
        self.hits = 0
        self.misses = 0
        # Size from which a reply is looked at, and from which COMMANDLOG keeps it; and those of the entry being applied
        # with their sizes.
        self.reply_large = self.reply_kept = _NEVER
        self.large: list[tuple[Session, int]] = []
        # Set while requests are counted by slot.
        self.usage: Usage | None = None
        engine.settings.watch("commandlog-reply-larger-than", lambda _: self.follow_replies())
        self.follow_replies()

    def follow_replies(self) -> None:
        """Take over commandlog-reply-larger-than."""
        limit = self.engine.settings.commandlog_reply_larger_than
        self.reply_kept = limit if limit >= 0 else _NEVER
        self.reply_large = self.reply_kept if self.usage is None else 0

    def dispatch(self, s: Session, argv: list[bytes]) -> None:
        """Take one request of ``s``; its reply goes to ``s.out`` now or later."""
        if s.blocked or s.held:
            s.held.append(argv)
        else:
            self.execute(s, argv)

    def resume(self, s: Session) -> None:
        """Go on with held requests after the session became idle."""
        held = s.held
        while held and not s.blocked and not s.closing:
            before = len(held)
            self.execute(s, held.popleft())
            if len(held) >= before:
                return

    def execute(self, s: Session, argv: list[bytes]) -> None:
        """Route one request now; puts it back in front of ``held`` when it must wait for earlier ones."""
        row = self.rows.get(argv[0])
        try:
            if self.renamed:
                row = self._by_its_own_name(s, argv)
            if row is None or row.subs is not None or not row.argc_min <= len(argv) <= row.argc_max:
                row = self.table.find(argv)
            s.last_row = row
            user = s.user
            if user is None:
                if not row.no_auth:
                    raise CommandError(NOAUTH)
            elif not user.allows_all:
                user.check(row, argv)
            # Of a write on a follower the leader judges: it may have been told before this node to follow no longer.
            if self.ks.following and (self.engine.leading or row.kind != WRITE):
                admit(self.ks, row)
            if (s.channels or s.patterns or s.shard_channels) and s.protocol == 2 and not row.pubsub_ok:
                self._refuse_in_pubsub(row)
            if s.multi is not None and not row.immediate:
                if row.no_multi:
                    raise CommandError("ERR Command not allowed inside a transaction")
                self._queue(s, row, argv)
                return
            if self.watchers and (row.runs_script or not row.flags & self.unmonitored):
                self.engine.instruments.monitors.feed(s, argv, self.clock.wall_ms() * 1000)
            if s.tracking is not None:
                self.engine.tracking.note(s, row, argv)
            kind = row.kind
            if self.engine.pause_writes and self._paused(s, row):
                hold(self.engine, s, argv)
                return
            if kind == LOCAL:
                self._local(s, row, argv)
                return
            if self.engine.leading:
                if row.runs_script:
                    self._script(s, row, argv)
                elif kind == READ and not (row.is_blocking and row.logged(argv)):
                    self._read(s, row, argv)
                else:
                    self._write(s, row, argv)
                return
            self.engine.away(s, row, argv)
        except Held as held:
            if held.delay_ms:
                self.engine.moving.delay(s, argv, held.delay_ms)
            else:
                self.engine.moving.hold(s, argv, held.slot)
        except CommandError as e:
            if s.pending:
                s.held.appendleft(argv)
                return
            if row is not None:
                self.engine.stats.reject(row.name)
            self.refuse(s, argv, e)

    def refuse(self, s: Session, argv: list[bytes], error: CommandError) -> None:
        """Answer a request that was not admitted; only while nothing is pending."""
        text = error.text
        if argv[0].upper() == b"EXEC":
            text = refused_exec(self.engine, s, text)
        elif s.multi is not None:
            s.multi_error = True
        self.engine.stats.error(text)
        if isinstance(error, Denied):
            note_denied(self.engine, s, error)
        self.engine.respond(s, CommandError(text))

    def _script(self, s: Session, row: Row, argv: list[bytes]) -> None:
        argv = admitted(self.engine, s, argv)
        if kind_of(self.engine.scripting, row, argv) == READ:
            self._read(s, row, argv)
        else:
            self._write(s, row, argv)

    def _by_its_own_name(self, s: Session, argv: list[bytes]) -> Row:
        """The row of a request under rename-command; what is logged or sent on calls it by its own name."""
        table = self.table if s.origin_node == self.engine.node_id else self.engine.table
        row = table.find(argv)
        argv[0] = row.first_word
        return row

    # -- reads -------------------------------------------------------------------------------------------------------

    def _read(self, s: Session, row: Row, argv: list[bytes]) -> None:
        engine = self.engine
        if engine.cluster_enabled and row.key_at != 0:
            self.check_slots(row, argv)
        if s.pending == 0 and (engine.reads_now or (engine.lease_reads and engine.consensus.lease_valid())):
            self.read_now(s, row, argv)
            return
        if engine.refusal_reads is not None:
            raise CommandError(engine.refusal_reads)
        item = Item(ITEM_READ, s, row, argv, s.db, s.origin_node, s.uid)
        if s.pending:
            engine.batch.add(item)
        else:
            engine.reads.add(item)
        s.pending += 1
        if row.is_blocking:
            s.blocked = True
        engine.schedule()

    def read_now(self, s: Session, row: Row, argv: list[bytes]) -> None:
        """Run a read whose leadership is proven (or that may be stale) and queue its reply."""
        if self.ks.access is not None:
            self.ks.access.paused = s.no_touch
        reply = self.evaluate(row, argv, s.db)
        if self.engine.timing.slow:
            self.engine.timing.blame_one(s)
        row.calls += 1
        if row.key_at > 0:
            if reply is None:
                self.misses += 1
            else:
                self.hits += 1
        wire = encode(reply, s.protocol)
        if len(wire) >= self.reply_large:
            large.seen(self, s, argv, len(wire))
        if self.ks.tick_needed:
            self.ks.tick_needed = False
            # A stale read on a node that does not lead promises nothing and can log nothing.
            if self.engine.leading:
                s.pending += 1
                self.engine.gate_reply(s, wire)
                return
        self.engine.emit(s, wire)

    def evaluated(self, s: Session, row: Row, argv: list[bytes], db: int) -> bytes:
        """The wire form of evaluate() for ``s``; its slot may have gone since it was admitted."""
        reply: object = moves.refused(self.engine.applier, row, argv) if self.ks.guarded else None
        wire = encode(self.evaluate(row, argv, db) if reply is None else reply, s.protocol)
        if len(wire) >= self.reply_large:
            large.seen(self, s, argv, len(wire))
        return wire

    def encoded(self, s: Session, reply: object) -> bytes:
        """The wire form of a reply of the entry being applied."""
        wire = encode(reply, s.protocol)
        if len(wire) >= self.reply_large:
            large.seen_in_entry(self, s, len(wire))
        return wire

    def evaluate(self, row: Row, argv: list[bytes], db: int) -> object:
        """The reply of a read on the current state; sets ``ks.tick_needed`` when it relied on an unlogged expiry."""
        ctx = self.rctx
        ks = self.ks
        ctx.db = ks.dbs[db]
        # Without deadlines in the database few replies depend on the time.
        if ctx.db.nexp or row.tells_time:
            now_ms = self.clock.wall_ms()
            if now_ms < ks.log_ms:
                now_ms = ks.log_ms
            ks.now_ms = now_ms
            ctx.now_ms = now_ms
        self.seed += 1
        ctx.seed = self.seed
        ctx.draws = 0
        try:
            return row.run(ctx, argv)
        except CommandError as e:
            row.failed += 1
            return e
        except (MemoryError, RecursionError, AssertionError):
            raise
        except Exception as defect:  # noqa: BLE001 - a handler bug undoes its unit, it does not stop a group
            self.engine.internal_error(0, row.name, defect)
            return CommandError(INTERNAL)

    # -- writes ------------------------------------------------------------------------------------------------------

    def _write(self, s: Session, row: Row, argv: list[bytes]) -> None:
        engine = self.engine
        slot = -1
        if engine.cluster_enabled:
            if row.key_at != 0:
                slot = self.check_slots(row, argv)
                if engine.moving.delays:
                    engine.moving.slow_down(s, slot)
            elif self.ks.guarded:
                engine.moving.check_whole(row, argv)
        if engine.refusal is not None:
            raise CommandError(engine.refusal)
        if engine.eviction.limit and row.denyoom and engine.eviction.refused():
            raise CommandError("OOM command not allowed when used memory > 'maxmemory'.")
        if row.prepares:
            argv = engine.prepared(row, argv)
        batch = engine.batch
        size = _ITEM_OVERHEAD_BYTES
        for arg in argv:
            size += len(arg) + 8
        batch.size_bytes += size
        if batch.size_bytes > engine.room_bytes and not self._alone(batch.writes, size):
            batch.size_bytes -= size
            raise CommandError(engine.throttled())
        item = Item(ITEM_WRITE, s, row, argv, s.db, s.origin_node, s.uid)
        if s.epoch:
            item.number = s.next_number()
        batch.items.append(item)
        batch.writes += 1
        row.calls += 1
        s.pending += 1
        if row.is_blocking:
            s.blocked = True
            if self.usage is not None:
                self.usage.asked(slot, argv)
        if not engine.scheduled:
            engine.schedule()

    # -- the rest ----------------------------------------------------------------------------------------------------

    def _alone(self, writes: int, size: int) -> bool:
        """Whether a request of more bytes than may wait for commit is admitted, which it never is behind others.

        What is larger still does not fit a message to a peer.
        """
        return size <= _ALONE_BYTES_MAX and not writes and not self.engine.consensus.uncommitted_bytes()

    def check_slots(self, row: Row, argv: list[bytes]) -> int:
        """The one slot all keys of a request share, -1 without keys. Raises Held, CommandError CROSSSLOT, MOVED."""
        slot = -1
        if row.key_at > 0:
            slot = slot_of(argv[row.key_at])
            if not self.serves[slot] or self.slots_held[slot]:
                self.must_serve(slot)
            return slot
        for key in row.keys(argv):
            other = slot_of(key)
            if slot >= 0 and other != slot:
                raise CommandError(CROSSSLOT)
            slot = other
        if slot >= 0:
            self.must_serve(slot)
        return slot

    def must_serve(self, slot: int) -> None:
        """Judge a request by its slot. Raises Held, CommandError MOVED."""
        if self.serves[slot] and not self.slots_held[slot]:
            return
        if self.engine.leading and self.engine.moving.waits(slot):
            raise Held(slot)
        raise CommandError(moved(self.engine, slot))

    def _queue(self, s: Session, row: Row, argv: list[bytes]) -> None:
        assert s.multi is not None
        if s.pending:
            s.held.appendleft(argv)
            return
        engine = self.engine
        if engine.over_memory and row.denyoom and engine.eviction.refused():
            raise CommandError("OOM command not allowed when used memory > 'maxmemory'.")
        if engine.cluster_enabled and row.key_at != 0:
            slot = self.check_slots(row, argv)
            if slot >= 0 and not engine.leading and s.origin_node == engine.node_id:
                raise CommandError(moved(engine, slot))
        s.multi.append((row, argv))
        engine.emit(s, QUEUED.wire)

    def _local(self, s: Session, row: Row, argv: list[bytes]) -> None:
        if s.pending:
            s.held.appendleft(argv)
            return
        engine = self.engine
        if engine.cluster_enabled and row.key_at != 0:
            self.check_slots(row, argv)
        if self.ks.guarded and row.name == "exec" and s.multi and engine.leading:
            engine.moving.check_transaction(s, s.multi)
        row.calls += 1
        if row.forwarded and not engine.leading:
            engine.away(s, row, argv)
            return
        reply = engine.run_local(s, row, argv)
        if reply is not NO_REPLY:
            wire = encode(reply, s.protocol)
            if len(wire) >= self.reply_large and not row.flags & self.unkept:
                large.seen(self, s, argv, len(wire))
            engine.emit(s, wire)
        if s.late:
            engine.pubsub.show_late(s)

    def _paused(self, s: Session, row: Row) -> bool:
        if self.engine.pause_all:
            return not row.name.startswith("client|")
        if row.name == "exec" and s.multi is not None:
            return any(queued.kind == WRITE for queued, _ in s.multi)
        return row.kind == WRITE

    def _refuse_in_pubsub(self, row: Row) -> None:
        raise CommandError(
            f"ERR Can't execute '{row.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are "
            "allowed in this context"
        )
