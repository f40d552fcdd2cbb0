"""The keys of some slots as a stream of operations, while they change: one session of an export.

The scan visits database by database within slot by slot. A change behind the scan, new keys included, puts its key on
the list of what has to go again; a change ahead of it is left to the scan. An operation carries the key's state when it
is sent, so a key that changes a thousand times between two batches goes once. When nothing is left and nothing changes
any more, as after a fence, whoever carried out the stream in order holds exactly what is here.
Rule: reads the live keys of its slots and knows neither logs nor peers.
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.handoff.entries import DELETE, NO_DIGEST, PUT, WIPE, Op, chained, counts_digest, put_op
from durakv.keyspace.keyspace import Keyspace
from durakv.keyspace.staging import slot_counts, value_payload
from durakv.keyspace.weights import ENTRY_BYTES, bytes_weight, weight_of

# Of so many keys of each slot and database the weight is taken for the estimate; of one each where slots are many.
_SAMPLES: Final = 5
_SAMPLED_SLOTS_MAX: Final = 512
# Slots and databases without a key that one batch may pass, so that an empty scan does not hold up the loop.
_STEPS_MAX: Final = 8192


def estimated_bytes(ks: Keyspace, slots: list[int]) -> int:
    """About what the keys of ``slots`` take in memory; from a few keys of each slot."""
    total = 0
    samples = _SAMPLES if len(slots) <= _SAMPLED_SLOTS_MAX else 1
    for db in ks.dbs:
        if not db.size:
            continue
        for slot in slots:
            mapping = db.slots[slot]
            if not mapping:
                continue
            seen = 0
            weight = 0
            for key, value in mapping.items():
                weight += bytes_weight(len(key)) + ENTRY_BYTES + weight_of(value)
                seen += 1
                if seen == samples:
                    break
            total += weight * len(mapping) // seen
    return total


class Stream:
    """``slots`` ascending. ``scanned``: every key was visited. ``seq`` batches were made, ``digest`` is over them."""

    __slots__ = (
        "_at", "_db", "_dirty", "_pending", "_round", "_steps", "_wipes", "digest", "ks", "op_bytes", "scanned", "seq",
        "slots",
    )  # fmt: skip

    def __init__(self, ks: Keyspace, slots: list[int]) -> None:
        self.ks = ks
        self.slots = slots
        self.scanned = False
        self.seq = 0
        self.digest = NO_DIGEST
        # What an operation took on average, lately.
        self.op_bytes = 64
        # The scan is in this slot and database; keys of it not visited yet, None before it begins there.
        self._at = 0
        self._db = 0
        self._pending: dict[bytes, None] | None = None
        # Visited keys that changed since they were sent, and those of them that are being sent.
        self._dirty: dict[tuple[int, bytes], None] = {}
        self._round: list[tuple[int, bytes]] = []
        # Databases that were emptied.
        self._wipes: dict[int, None] = {}
        self._steps = 0

    # -- what happens -----------------------------------------------------------------------------------------------

    def changed(self, slot: int, db: int, key: bytes) -> None:
        """A key of one of the slots was written, removed, or given another deadline."""
        if db in self._wipes and self.ks.dbs[db].peek(key) is None:
            # It goes with its database.
            return
        if self.scanned or self.visited(slot, db, key):
            self._dirty[(db, key)] = None

    def visited(self, slot: int, db: int, key: bytes) -> bool:
        """Whether the scan will not come to the key any more, be it there or not."""
        current = self.slots[self._at]
        if (slot, db) != (current, self._db):
            return (slot, db) < (current, self._db)
        return self._pending is not None and key not in self._pending

    def flushed(self, db: int) -> None:
        """A database was emptied; call it before ``changed`` for keys written since."""
        self._wipes[db] = None
        self._dirty = {place: None for place in self._dirty if place[0] != db}
        self._round = [place for place in self._round if place[0] != db]
        if self._pending and self._db == db:
            self._pending = {}

    # -- what goes out ----------------------------------------------------------------------------------------------

    def complete(self) -> bool:
        """Whether every key was visited and nothing has to go again."""
        return self.scanned and not self._dirty and not self._round and not self._wipes

    def backlog_bytes(self) -> int:
        """About how much has to go again, without what the scan has yet to visit."""
        return (len(self._dirty) + len(self._round)) * self.op_bytes

    def batch(self, size_bytes: int) -> bytes:
        """The operations that come next, about so many bytes of them; a value larger than ``size_bytes`` goes alone.

        Empty: there is nothing to say, or, as long as not ``scanned``, it takes another call to find it.
        """
        self._steps = _STEPS_MAX
        out: list[bytes] = []
        size = count = 0
        for db in self._wipes:
            put_op(out, Op(WIPE, db))
            size += 32
        self._wipes = {}
        while size < size_bytes:
            op = self._next()
            if op is None:
                break
            put_op(out, op)
            size += op.size_bytes()
            count += 1
        if count:
            self.op_bytes = (self.op_bytes + size // count + 1) // 2
        made = b"".join(out)
        if made:
            self.seq += 1
            self.digest = chained(self.digest, made)
        return made

    def counts(self) -> bytes:
        """The digest over how many keys each slot has now."""
        return counts_digest(slot_counts(self.ks, self.slots))

    def _next(self) -> Op | None:
        while not self.scanned:
            op = self._visit()
            if op is not None:
                return op
            self._steps -= 1
            if self._steps < 0:
                return None
        if not self._round:
            if not self._dirty:
                return None
            self._round = list(self._dirty)
            self._round.reverse()
            self._dirty = {}
        db, key = self._round.pop()
        # On its way now: a change after this has to go again, one before need not.
        self._dirty.pop((db, key), None)
        return self._op(db, key)

    def _visit(self) -> Op | None:
        """One more key, or one step between databases."""
        pending = self._pending
        slot = self.slots[self._at]
        database = self.ks.dbs[self._db]
        mapping = database.slots[slot]
        if pending is None:
            self._pending = dict.fromkeys(mapping) if mapping else {}
            return None
        while pending:
            key, _ = pending.popitem()
            value = None if mapping is None else mapping.get(key)
            if value is not None:
                at_ms = database.expiry(key) if database.exps[slot] else -1
                return Op(PUT, self._db, key, at_ms, value_payload(value))
        self._pending = None
        self._db += 1
        if self._db == len(self.ks.dbs):
            self._db = 0
            self._at += 1
            if self._at == len(self.slots):
                self._at -= 1
                self.scanned = True
        return None

    def _op(self, db: int, key: bytes) -> Op:
        database = self.ks.dbs[db]
        value = database.peek(key)
        if value is None:
            return Op(DELETE, db, key)
        return Op(PUT, db, key, database.expiry(key), value_payload(value))
