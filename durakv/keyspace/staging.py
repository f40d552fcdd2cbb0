"""Keys that are coming in from another group: databases beside the live ones, a set for each migration. [compiled]

Nobody sees them: not by a read, not by a count, not by expiry or eviction. Activation moves the dicts of the slots over
as they are, release takes them out; both cost by the slot and not by the key. A checkpoint has staged keys among its
rows: who owns a slot says which they are, so that it is told of an activation by that alone.
Rule: the only place that takes slots out of databases or puts them in. It must not know why, nor when.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappush
from struct import error as StructError
from struct import pack
from typing import Final

from durakv.keyspace.digest import digest
from durakv.keyspace.dump import FIELD_DEADLINES_VERSION, STREAM_VERSION, WRITTEN_VERSION, dump_body
from durakv.keyspace.keyspace import Db, Keyspace
from durakv.keyspace.ledger import Ledger
from durakv.keyspace.rdb_packed import RdbError
from durakv.keyspace.rdb_read import RdbReader
from durakv.keyspace.slots import SLOTS, slot_of
from durakv.keyspace.values.hash import Hash

_VERSIONS: Final = (WRITTEN_VERSION, STREAM_VERSION, FIELD_DEADLINES_VERSION)
# No type of value in an RDB file begins with this byte.
_STRING_MARK: Final = b"\xff"
# Pushing one by one is cheaper than a new heap as long as few come to many.
_PUSHES_PER_HEAPIFY: Final = 16


def value_payload(value: object) -> bytes:
    """A value as the stream carries it: a DUMP payload without the checksum, for the stream has a digest of its own
    and CRC-64 would cost more than all the rest. Most values are strings, which go as they are behind their mark.
    """
    if type(value) is bytes:
        return _STRING_MARK + value
    body, version = dump_body(value)
    return body + pack("<H", version)


def payload_value(payload: bytes) -> object:
    """The inverse of value_payload(). Raises RdbError."""
    if payload[:1] == _STRING_MARK:
        return payload[1:]
    if len(payload) < 3 or payload[-2] | payload[-1] << 8 not in _VERSIONS:
        raise RdbError("the version of a staged value is not known")
    try:
        return RdbReader(payload[:-2]).value()
    except (IndexError, ValueError, StructError):
        raise RdbError("a staged value is damaged") from None


class Area:
    """The staged keys of one migration. ``ks`` has real databases, which nobody but this package looks into."""

    __slots__ = ("ks", "slots", "weights")

    def __init__(self, databases: int, slots: list[int]) -> None:
        self.slots = slots
        self.ks = Keyspace(databases)
        # Staged keys weigh as live ones do, and nothing of them expires.
        self.weights = Ledger(self.ks)
        self.weights.weighed = SLOTS
        self.ks.ledger = self.weights

    def put(self, db: int, key: bytes, value: object, at_ms: int) -> None:
        """Store a key; ``at_ms`` is its deadline in Unix ms, -1 without."""
        database = self.ks.dbs[db]
        database.put(key, value)
        if at_ms >= 0:
            database.set_expiry(key, at_ms)

    def delete(self, db: int, key: bytes) -> None:
        """Remove a key if it is there."""
        database = self.ks.dbs[db]
        if database.peek(key) is not None:
            database.remove(key)

    def wipe(self, db: int) -> None:
        """Remove every key of one database."""
        database = self.ks.dbs[db]
        written = database.written
        if written is not None:
            for slot in self.slots:
                if database.slots[slot]:
                    written.slot_died(slot, None)
            # It is the live database's, which is not emptied.
            database.written = None
        database.flush()
        database.written = written
        # What is left in other databases is weighed anew.
        while self.weights.step():
            pass

    def counts(self, slots: Iterable[int]) -> list[tuple[int, int]]:
        """(slot, number of keys in all databases) of those of ``slots`` that have keys, in their order."""
        return slot_counts(self.ks, slots)

    def weight_bytes(self) -> int:
        """What the staged keys take in memory."""
        return self.weights.used_bytes()


def slot_counts(ks: Keyspace, slots: Iterable[int]) -> list[tuple[int, int]]:
    """(slot, number of keys in all databases) of those of ``slots`` that have keys, in their order."""
    out: list[tuple[int, int]] = []
    dbs = [db for db in ks.dbs if db.size]
    if not dbs:
        return out
    for slot in slots:
        total = 0
        for db in dbs:
            mapping = db.slots[slot]
            if mapping is not None:
                total += len(mapping)
        if total:
            out.append((slot, total))
    return out


class Dropped:
    """A slot's keys that nobody can reach any more; what maxmemory counts of them goes when they go."""

    __slots__ = ("counted", "db", "mapping", "slot")

    def __init__(self, db: Db, slot: int, mapping: dict[bytes, object], counted: object) -> None:
        self.db = db
        self.slot = slot
        self.mapping = mapping
        # The ledger's own table, replaced when it counts anew; None when it never counted this slot.
        self.counted = counted


class Staging:
    """All areas of one node, by migration, and the ways from them to the live databases and out of those."""

    def __init__(self, ks: Keyspace) -> None:
        self.ks = ks
        self.areas: dict[bytes, Area] = {}
        self.dropped: list[Dropped] = []

    # -- areas ------------------------------------------------------------------------------------------------------

    def open(self, mid: bytes, slots: list[int]) -> Area:
        """An empty area for ``mid``, for keys of ``slots``; what it had is gone."""
        self.discard(mid)
        area = Area(len(self.ks.dbs), slots)
        self.areas[mid] = area
        return area

    def changing(self, mid: bytes) -> Area:
        """The area of ``mid``, whose keys are about to change: checkpoints will hear of it."""
        area = self.areas[mid]
        for staged in area.ks.dbs:
            written = self.ks.dbs[staged.number].written
            if staged.written is not written:
                staged.written = written
                if written is not None:
                    for slot in area.slots:
                        written.staged[slot] = staged
        return area

    def discard(self, mid: bytes) -> None:
        """Forget the area of ``mid``, if it has one."""
        area = self.areas.pop(mid, None)
        if area is None:
            return
        for staged in area.ks.dbs:
            written = self.ks.dbs[staged.number].written
            if written is not None:
                for slot in area.slots:
                    written.staged.pop(slot, None)
                    if staged.slots[slot]:
                        written.slot_died(slot, None)

    def stash(self, mid: bytes, slots: list[int]) -> None:
        """What a checkpoint was found to hold of ``slots`` is staged for ``mid``."""
        area = Area(len(self.ks.dbs), slots)
        self.areas[mid] = area
        for db in self.ks.dbs:
            if db.size:
                _take_out(db, area.ks.dbs[db.number], slots)
        area.weights.weighed = 0
        while area.weights.step():
            pass
        ledger = self.ks.ledger
        if ledger is not None:
            for db in self.ks.dbs:
                ledger.emptied(db)

    def clear(self) -> None:
        """Forget everything, before a snapshot is taken over."""
        self.areas.clear()
        self.dropped.clear()

    def weight_bytes(self) -> int:
        """What all staged keys take in memory; maxmemory has to count it."""
        total = 0
        for area in self.areas.values():
            total += area.weight_bytes()
        return total

    # -- into and out of the live databases ---------------------------------------------------------------------------

    def activate(self, mid: bytes, slots: list[int]) -> int:
        """Make the staged keys of ``slots`` live, in all databases at once; returns how many.

        The slots must hold no live key, and the area no key of another slot.
        """
        area = self.areas.pop(mid)
        self.settle(slots)
        total = 0
        for staged in area.ks.dbs:
            written = self.ks.dbs[staged.number].written
            if written is not None:
                for slot in slots:
                    written.staged.pop(slot, None)
                    written.arrived[slot] = None
            if staged.size:
                self._adopt(self.ks.dbs[staged.number], staged, slots)
                total += staged.size
        ledger = self.ks.ledger
        if ledger is None:
            return total
        if ledger.weighed == SLOTS:
            ledger.total += area.weights.total
            for staged, weights in area.weights.weights.items():
                ledger.weights[self.ks.dbs[staged.number]].update(weights)
            return total
        for db in self.ks.dbs:
            for slot in slots:
                for key, value in (db.slots[slot] or {}).items():
                    ledger.replaced(db, slot, key, None, value)
        return total

    def _adopt(self, db: Db, staged: Db, slots: list[int]) -> None:
        count = 0
        for slot in slots:
            mapping = staged.slots[slot]
            if mapping is None:
                continue
            assert not db.slots[slot], f"slot {slot} of database {db.number} has keys of its own"
            count += len(mapping)
            db.slots[slot] = mapping
            db.exps[slot] = staged.exps[slot]
        assert count == staged.size, f"keys of other slots are staged in database {db.number}"
        db.size += staged.size
        db.nexp += staged.nexp
        db.fields.count += staged.fields.count
        db.deadlines = _merged(db.deadlines, staged.deadlines)
        db.fields.queue = _merged(db.fields.queue, staged.fields.queue)

    def release(self, slots: list[int]) -> int:
        """Take every live key of ``slots`` away, in all databases; returns how many. ``step`` frees the memory."""
        total = 0
        for db in self.ks.dbs:
            if not db.size:
                continue
            for slot in slots:
                mapping = db.slots[slot]
                if mapping is not None:
                    total += len(mapping)
                    self._drop(db, slot, mapping)
        return total

    def _drop(self, db: Db, slot: int, mapping: dict[bytes, object]) -> None:
        deadlines = db.exps[slot]
        db.slots[slot] = None
        db.exps[slot] = None
        db.size -= len(mapping)
        if deadlines is not None:
            db.nexp -= len(deadlines)
        if db.fields.count:
            timed = 0
            for value in mapping.values():
                if type(value) is Hash and value.deadlines is not None:
                    timed += 1
            db.fields.count -= timed
            db.nexp -= timed
        if db.written is not None:
            db.written.slot_died(slot, mapping)
        ledger = db.ks.ledger
        counted = ledger.weights if ledger is not None and slot < ledger.weighed else None
        self.dropped.append(Dropped(db, slot, mapping, counted))

    # -- freeing ----------------------------------------------------------------------------------------------------

    def step(self, keys_max: int) -> bool:
        """Free up to ``keys_max`` keys of released slots; False when none are left.

        Also False when a checkpoint has yet to hear of those: until then they stay as they are.
        """
        while self.dropped and keys_max > 0:
            last = self.dropped[-1]
            written = last.db.written
            if written is not None and written.dead.get(last.slot) is last.mapping:
                return False
            keys_max -= self._free(last, keys_max)
            if not last.mapping:
                self.dropped.pop()
        return bool(self.dropped)

    def settle(self, slots: list[int]) -> None:
        """Free what was released of ``slots`` now: they are about to come back."""
        if not self.dropped:
            return
        coming = dict.fromkeys(slots)
        kept: list[Dropped] = []
        for one in self.dropped:
            if one.slot in coming:
                written = one.db.written
                if written is not None and written.dead.get(one.slot) is one.mapping:
                    # One by one, for there will be others under the slot.
                    written.dead[one.slot] = None
                    written.dirty.update(dict.fromkeys(one.mapping))
                self._free(one, len(one.mapping))
            else:
                kept.append(one)
        self.dropped = kept

    def _free(self, one: Dropped, keys_max: int) -> int:
        mapping = one.mapping
        ledger = self.ks.ledger
        # A ledger that has begun anew never counted these keys.
        counts = ledger is not None and ledger.weights is one.counted
        access = self.ks.access
        freed = 0
        while mapping and freed < keys_max:
            key, value = mapping.popitem()
            freed += 1
            if counts:
                assert ledger is not None
                ledger.replaced(one.db, one.slot, key, value, None)
            if access is not None:
                access.forget(one.db, key)
        return freed

    # -- digest -----------------------------------------------------------------------------------------------------

    def canonical(self) -> bytes:
        """Content as bytes for the state digest; empty when nothing is staged."""
        return b"".join([mid + digest(area.ks) for mid, area in sorted(self.areas.items())])


def _take_out(db: Db, staged: Db, slots: list[int]) -> None:
    """Bring the live keys of ``slots`` over to a database beside the live one."""
    for slot in slots:
        mapping = db.slots[slot]
        if mapping is None:
            continue
        deadlines = db.exps[slot]
        staged.slots[slot], staged.exps[slot] = mapping, deadlines
        db.slots[slot] = db.exps[slot] = None
        timed = 0
        for value in mapping.values():
            if type(value) is Hash and value.deadlines is not None:
                timed += 1
        staged.size += len(mapping)
        staged.fields.count += timed
        staged.nexp += timed + (0 if deadlines is None else len(deadlines))
    db.size -= staged.size
    db.nexp -= staged.nexp
    db.fields.count -= staged.fields.count
    there = dict.fromkeys(slots)
    if staged.nexp:
        staged.deadlines, db.deadlines = _parted(db.deadlines, there)
        staged.fields.queue, db.fields.queue = _parted(db.fields.queue, there)


def _parted(
    heap: list[tuple[int, bytes]], slots: dict[int, None]
) -> tuple[list[tuple[int, bytes]], list[tuple[int, bytes]]]:
    """The entries of a heap whose keys are in ``slots``, and the others, as heaps."""
    inside = [pair for pair in heap if slot_of(pair[1]) in slots]
    outside = [pair for pair in heap if slot_of(pair[1]) not in slots]
    heapify(inside)
    heapify(outside)
    return inside, outside


def _merged(heap: list[tuple[int, bytes]], more: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    if not heap:
        return more
    if len(more) * _PUSHES_PER_HEAPIFY < len(heap):
        for pair in more:
            heappush(heap, pair)
        return heap
    heap += more
    heapify(heap)
    return heap
