"""Databases of keys: lookup, put, delete, deadlines; the only mutable dicts of keys. [compiled]

One dict per hash slot keeps growth stalls small and makes per-slot scans free. A value is raw ``bytes`` (a string),
``bytearray`` (a string that was grown or patched in place), or an object of ``keyspace/values``.
Rules: state changes only while ``Keyspace.writing`` (inside apply); ``now_ms`` is the entry's time then and
max(clock, log time) during reads; iteration order never depends on ``hash()``; an empty collection is never stored.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final, TypeVar

from durakv.keyspace import journal
from durakv.keyspace.field_expiry import EventSink, FieldExpiry
from durakv.keyspace.graveyard import Graveyard
from durakv.keyspace.slots import SLOTS, slot_of
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.stream import Stream
from durakv.keyspace.written import Written
from durakv.resp.errors import WRONGTYPE, CommandError

if TYPE_CHECKING:
    from durakv.acl.accounts import Accounts
    from durakv.cluster.handoff.hub import Handoff
    from durakv.engine.source import Source
    from durakv.keyspace.access import Access
    from durakv.keyspace.ledger import Ledger
    from durakv.scripting.programs import Programs

T = TypeVar("T")

_UNDO_VALUE: Final = 1
_UNDO_EXPIRY: Final = 2
_UNDO_FLUSH: Final = 3


class Db:
    """One logical database. ``size`` counts keys, ``nexp`` what can expire: keys with a deadline (expired ones
    included), and once more the keys of hashes with a deadline of a field (``fields.count``).
    """

    def __init__(self, ks: Keyspace, number: int) -> None:
        self.ks = ks
        self.number = number
        self.slots: list[dict[bytes, object] | None] = [None] * SLOTS
        self.exps: list[dict[bytes, int] | None] = [None] * SLOTS
        self.size = 0
        self.nexp = 0
        # (deadline_ms, key), lazily stale; derived from exps, so not part of replicated state.
        self.deadlines: list[tuple[int, bytes]] = []
        self.fields = FieldExpiry(self)
        # Only where checkpoints are kept.
        self.written: Written | None = None
        # Most commands look at one key again and again.
        self._last_key = b""
        self._last_slot = slot_of(b"")

    def _slot(self, key: bytes) -> int:
        if key is not self._last_key:
            self._last_key = key
            self._last_slot = slot_of(key)
        return self._last_slot

    # -- reading ------------------------------------------------------------------------------------------------

    def get(self, key: bytes) -> object | None:
        """The live value or None. Inside apply an expired key is deleted on the way."""
        slot = self._slot(key)
        d = self.slots[slot]
        if d is None:
            return None
        value = d.get(key)
        if value is None:
            return None
        if self.nexp:
            e = self.exps[slot]
            if e is not None:
                at = e.get(key)
                if at is not None and at <= self.ks.now_ms:
                    self._expired(key, at)
                    return None
            if type(value) is Hash and value.deadlines is not None:
                value = self.fields.live(key, value)
                if value is None:
                    return None
        if self.ks.access is not None:
            self.ks.access.used(self, key)
        if type(value) is Stream and self.ks.writing:
            # Consumer groups change without a change of the key that clients could hear of.
            if self.written is not None:
                self.written.dirty[key] = None
            if self.ks.hears_streams:
                self.ks.streams_used.append((self.number, key))
        return value

    def peek(self, key: bytes) -> object | None:
        """The stored value even when expired; for eviction, dumps and digests."""
        d = self.slots[slot_of(key)]
        return None if d is None else d.get(key)

    def read_string(self, key: bytes) -> bytes | None:
        """The string at ``key`` as bytes. Raises CommandError WRONGTYPE."""
        value = self.get(key)
        if value is None:
            return None
        if type(value) is bytes:
            return value
        if type(value) is bytearray:
            return bytes(value)
        raise CommandError(WRONGTYPE)

    def typed(self, key: bytes, cls: type[T]) -> T | None:
        """The value at ``key`` if it is exactly a ``cls``; None if absent. Raises CommandError WRONGTYPE."""
        value = self.get(key)
        if value is None:
            return None
        if type(value) is cls:
            return value
        raise CommandError(WRONGTYPE)

    def expiry(self, key: bytes) -> int:
        """Absolute deadline of ``key`` in Unix ms, or -1. Does not check that the key is live."""
        if not self.nexp:
            return -1
        e = self.exps[slot_of(key)]
        return -1 if e is None else e.get(key, -1)

    def due(self, now_ms: int, count_max: int) -> list[bytes]:
        """Up to ``count_max`` keys whose deadline is <= now_ms, oldest deadline first; leaves them in place."""
        out: list[bytes] = []
        heap = self.deadlines
        seen: list[tuple[int, bytes]] = []
        while heap and len(out) < count_max and heap[0][0] <= now_ms:
            at, key = heappop(heap)
            if self.expiry(key) == at:
                out.append(key)
                seen.append((at, key))
        for item in seen:
            heappush(heap, item)
        return out

    # -- writing ------------------------------------------------------------------------------------------------

    def put(self, key: bytes, value: object) -> None:
        """Store ``value`` and drop any deadline."""
        slot = self._slot(key)
        d = self.slots[slot]
        if d is None:
            d = {}
            self.slots[slot] = d
        old = d.get(key)
        d[key] = value
        journal.steps.append((self, _UNDO_VALUE, key, old))
        if old is None:
            self.size += 1
        else:
            if self.nexp:
                self._drop_expiry(key, slot)
            if type(old) is not bytes:
                self.ks.graveyard.bury(old)
        if type(value) is Hash or type(old) is Hash:
            self.fields.replaced(key, old, value)
        if self.ks.ledger is not None:
            self.ks.ledger.replaced(self, slot, key, old, value)
        if self.ks.access is not None:
            self.ks.access.used(self, key)
        if self.written is not None:
            self.written.dirty[key] = None
        if self.ks.listening:
            self.ks.changed.append((self.number, key))

    def put_last(self, key: bytes, value: object) -> None:
        """``put`` as the last act of a command: nothing after it can fail, so no inverse step is kept for it."""
        if self.nexp or self.ks.undo_whole or self.ks.ledger is not None or self.ks.access is not None:
            self.put(key, value)
            return
        slot = slot_of(key)
        d = self.slots[slot]
        if d is None:
            d = {}
            self.slots[slot] = d
        before = len(d)
        d[key] = value
        self.size += len(d) - before
        if self.written is not None:
            self.written.dirty[key] = value
        if self.ks.listening:
            self.ks.changed.append((self.number, key))

    def put_keep(self, key: bytes, value: object) -> None:
        """Store ``value`` and keep the deadline, if any."""
        slot = self._slot(key)
        d = self.slots[slot]
        if d is None:
            d = {}
            self.slots[slot] = d
        old = d.get(key)
        d[key] = value
        journal.steps.append((self, _UNDO_VALUE, key, old))
        if old is None:
            self.size += 1
        elif type(old) is not bytes:
            self.ks.graveyard.bury(old)
        if type(value) is Hash or type(old) is Hash:
            self.fields.replaced(key, old, value)
        if self.ks.ledger is not None:
            self.ks.ledger.replaced(self, slot, key, old, value)
        if self.ks.access is not None:
            self.ks.access.used(self, key)
        if self.written is not None:
            self.written.dirty[key] = None
        if self.ks.listening:
            self.ks.changed.append((self.number, key))

    def put_keep_last(self, key: bytes, value: bytes) -> None:
        """``put_keep`` of a string in place of a string or nothing, as the last act of a command; see put_last()."""
        if self.ks.undo_whole or self.ks.ledger is not None or self.ks.access is not None:
            self.put_keep(key, value)
            return
        slot = self._slot(key)
        d = self.slots[slot]
        if d is None:
            d = {}
            self.slots[slot] = d
        before = len(d)
        d[key] = value
        self.size += len(d) - before
        if self.written is not None:
            self.written.dirty[key] = None
        if self.ks.listening:
            self.ks.changed.append((self.number, key))

    def delete(self, key: bytes) -> bool:
        """Remove ``key``; False when there is no live key (an expired one is removed too)."""
        if self.get(key) is None:
            return False
        self.remove(key)
        return True

    def touched(self, key: bytes) -> None:
        """Say that the value at ``key`` was changed in place (a collection or a bytearray)."""
        if self.written is not None:
            self.written.dirty[key] = None
        if self.ks.listening:
            self.ks.changed.append((self.number, key))

    def patched(self, key: bytes, start: int, stop: int) -> None:
        """Say that bytes ``start`` up to ``stop`` of the bytearray at ``key`` were changed in place, or are new."""
        if self.written is not None:
            self.written.patched(key, start, stop)
        if self.ks.listening:
            self.ks.changed.append((self.number, key))

    def set_expiry(self, key: bytes, at_ms: int) -> None:
        """Give an existing key a deadline in Unix ms."""
        slot = self._slot(key)
        e = self.exps[slot]
        if e is None:
            e = {}
            self.exps[slot] = e
        old = e.get(key, -1)
        e[key] = at_ms
        if old < 0:
            self.nexp += 1
        journal.steps.append((self, _UNDO_EXPIRY, key, old))
        heappush(self.deadlines, (at_ms, key))
        if len(self.deadlines) > 2 * self.nexp + 1024:
            self._rebuild_deadlines()
        if self.written is not None:
            self.written.dirty[key] = None
        if self.ks.listening:
            self.ks.changed.append((self.number, key))

    def clear_expiry(self, key: bytes) -> bool:
        """Remove the deadline; False when there was none."""
        if not self.nexp or not self._drop_expiry(key, slot_of(key)):
            return False
        if self.written is not None:
            self.written.dirty[key] = None
        if self.ks.listening:
            self.ks.changed.append((self.number, key))
        return True

    def flush(self) -> None:
        """Remove every key."""
        self.ks.flushes += 1
        if self.ks.guarded:
            self.ks.emptied.append(self.number)
        if self.ks.listening:
            for d in self.slots:
                if d:
                    for key in d:
                        self.ks.changed.append((self.number, key))
        before = (self.slots, self.exps, self.size, self.nexp, self.written)
        journal.steps.append((self, _UNDO_FLUSH, before, self.deadlines))
        self.fields.emptied()
        if self.written is not None:
            self.written = Written(self.ks.next_phys)
            self.ks.next_phys += 1
        self.bury_all()
        self.slots = [None] * SLOTS
        self.exps = [None] * SLOTS
        self.size = 0
        self.nexp = 0
        self.deadlines = []
        if self.ks.ledger is not None:
            self.ks.ledger.emptied(self)
        if self.ks.access is not None:
            self.ks.access.emptied(self)

    # -- inside ---------------------------------------------------------------------------------------------------

    def bury_all(self) -> None:
        """All keys are about to be left: see Graveyard."""
        graveyard = self.ks.graveyard
        graveyard.bury_whole(self.deadlines, len(self.deadlines))
        graveyard.bury_whole(self.exps, self.nexp)
        graveyard.bury_whole(self.slots, self.size)

    def _expired(self, key: bytes, at_ms: int) -> None:
        ks = self.ks
        if ks.writing and not ks.following:
            self.remove(key)
            ks.expired_keys += 1
            ks.expired_now.append((self.number, key))
        elif at_ms > ks.log_ms:
            # No entry carries this time yet: a slower next leader could bring the key back. The engine answers the
            # read only after an entry with a later time has been applied.
            ks.tick_needed = True

    def remove(self, key: bytes) -> None:
        """Take a stored key away, live or not."""
        slot = self._slot(key)
        d = self.slots[slot]
        assert d is not None
        old = d.pop(key)
        self.size -= 1
        if type(old) is not bytes:
            self.ks.graveyard.bury(old)
        journal.steps.append((self, _UNDO_VALUE, key, old))
        if not d:
            self.slots[slot] = None
        if self.nexp:
            self._drop_expiry(key, slot)
            if type(old) is Hash:
                self.fields.replaced(key, old, None)
        if self.ks.ledger is not None:
            self.ks.ledger.replaced(self, slot, key, old, None)
        if self.ks.access is not None:
            self.ks.access.forget(self, key)
        if self.written is not None:
            self.written.dirty[key] = None
        if self.ks.listening:
            self.ks.changed.append((self.number, key))

    def _drop_expiry(self, key: bytes, slot: int) -> bool:
        e = self.exps[slot]
        if e is None:
            return False
        old = e.pop(key, -1)
        if old < 0:
            return False
        self.nexp -= 1
        journal.steps.append((self, _UNDO_EXPIRY, key, old))
        if not e:
            self.exps[slot] = None
        return True

    def _rebuild_deadlines(self) -> None:
        heap: list[tuple[int, bytes]] = []
        for e in self.exps:
            if e:
                for key, at in e.items():
                    heap.append((at, key))
        heapify(heap)
        self.deadlines = heap

    def undo(self, op: int, a: object, b: object) -> None:
        """Revert one journal step. Insertion order inside a slot is not restored: nothing applied depends on it."""
        if op == _UNDO_FLUSH:
            assert isinstance(a, tuple) and isinstance(b, list)
            self.slots, self.exps, self.size, self.nexp, self.written = a
            self.deadlines = b
            if self.ks.guarded:
                self.ks.emptied.pop()
            if self.ks.ledger is not None:
                self.ks.ledger.emptied(self)
            return
        assert isinstance(a, bytes)
        slot = slot_of(a)
        if op == _UNDO_VALUE:
            d = self.slots[slot]
            if d is None:
                d = {}
                self.slots[slot] = d
            had = d.get(a)
            if type(had) is Hash or type(b) is Hash:
                self.fields.replaced(a, had, b)
            if b is None:
                if had is not None:
                    del d[a]
                    self.size -= 1
                if not d:
                    self.slots[slot] = None
            else:
                d[a] = b
                if had is None:
                    self.size += 1
            if self.ks.ledger is not None:
                self.ks.ledger.replaced(self, slot, a, had, b)
            return
        assert op == _UNDO_EXPIRY and isinstance(b, int)
        e = self.exps[slot]
        if e is None:
            e = {}
            self.exps[slot] = e
        had = a in e
        if b < 0:
            if had:
                del e[a]
                self.nexp -= 1
        else:
            e[a] = b
            heappush(self.deadlines, (b, a))
            if not had:
                self.nexp += 1
        if not e:
            self.exps[slot] = None


class Keyspace:
    """All databases of a group, and the time under which they are looked at."""

    def __init__(self, count: int = 16) -> None:
        self.dbs: list[Db] = [Db(self, n) for n in range(count)]
        # Number for the rows of the next database that is emptied.
        self.next_phys = count
        self.now_ms = 0
        # Time of the last applied entry; never decreases.
        self.log_ms = 0
        self.writing = False
        self.tick_needed = False
        # When something wants to hear of changes (watched keys, parked clients, tracking), (db, key) go to `changed`.
        self.listening = False
        self.changed: list[tuple[int, bytes]] = []
        # Streams that writes looked at go to `streams_used`, for whoever copies keys while they change.
        self.hears_streams = False
        self.streams_used: list[tuple[int, bytes]] = []
        # Not all slots are this group's, or not always were: units of the log look at the slots of their keys.
        self.guarded = False
        # Which slots those are; replicated state beside the databases.
        self.handoff: Handoff | None = None
        # A unit of several commands may have to be undone as a whole: every step must be kept.
        self.undo_whole = False
        # Users, once an engine has given them; replicated state beside the databases.
        self.accounts: Accounts | None = None
        # Scripts and functions, likewise.
        self.programs: Programs | None = None
        # Whom the group follows, likewise. While it follows, the source decides when keys expire; `read_only` holds
        # except while what it sent is applied.
        self.source: Source | None = None
        self.following = False
        self.read_only = False
        # Both exist only where maxmemory, or its policy, asks for them.
        self.ledger: Ledger | None = None
        self.access: Access | None = None
        # Large values that were deleted; no part of the state.
        self.graveyard = Graveyard()
        self.expired_keys = 0
        self.evicted_keys = 0
        self.expired_fields = 0
        # Who hears of fields that expire; the first command that changes a hash names it.
        self.sink: EventSink | None = None
        # How often a database was emptied; only that it differs means something.
        self.flushes = 0
        # Where slots may move: the databases that the current unit emptied, by number.
        self.emptied: list[int] = []
        # Keys the current unit found expired, for keyspace events.
        self.expired_now: list[tuple[int, bytes]] = []

    def write_down(self) -> None:
        """From now on what changes is marked, for checkpoints."""
        for db in self.dbs:
            db.written = Written(db.number)

    def empty(self) -> None:
        """Forget all keys at once, before a snapshot's are loaded; nothing is journaled, nobody is told of keys."""
        self.flushes += 1
        self.changed.clear()
        self.expired_now.clear()
        for db in self.dbs:
            db.bury_all()
            db.slots = [None] * SLOTS
            db.exps = [None] * SLOTS
            db.size = db.nexp = 0
            db.deadlines = []
            db.fields = FieldExpiry(db)
            db.written = None
            if self.ledger is not None:
                self.ledger.emptied(db)
            if self.access is not None:
                self.access.emptied(db)

    def swap(self, first: int, second: int) -> None:
        """SWAPDB: exchange the contents of two databases."""
        a, b = self.dbs[first], self.dbs[second]
        self.dbs[first], self.dbs[second] = b, a
        a.number, b.number = second, first
        journal.steps.append((self, 1, first, second))
        if self.listening:
            for db in (a, b):
                for d in db.slots:
                    if d:
                        for key in d:
                            self.changed.append((first, key))
                            self.changed.append((second, key))

    def undo(self, op: int, a: int, b: int) -> None:
        """Revert a swap."""
        x, y = self.dbs[a], self.dbs[b]
        self.dbs[a], self.dbs[b] = y, x
        x.number, y.number = b, a
