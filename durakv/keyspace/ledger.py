"""How much memory the keys take, kept in step with every change: what maxmemory is compared with.

Rule: exists only while maxmemory is set, and follows the databases; nothing in them depends on it, and nodes may
differ in it. It is filled slot by slot, since weighing millions of keys at once would stall every client; a slot that
was not weighed yet is not followed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.keyspace.slots import SLOTS, slot_of
from durakv.keyspace.weights import ACCESS_BYTES, DEADLINE_BYTES, ENTRY_BYTES, bytes_weight, weight_of

if TYPE_CHECKING:
    from durakv.keyspace.access import Access
    from durakv.keyspace.keyspace import Db, Keyspace

_SLOTS_A_STEP: Final = 256


class Ledger:
    """``total`` is the weight of all keys of weighed slots with their values, in bytes."""

    def __init__(self, ks: Keyspace) -> None:
        self.ks = ks
        self.total = 0
        # Slots below this are weighed, in every database.
        self.weighed = 0
        # By database: what values that change in place were last taken for.
        self.weights: dict[Db, dict[bytes, int]] = {db: {} for db in ks.dbs}

    def step(self) -> bool:
        """Weigh some more slots; False when all are."""
        if self.weighed == SLOTS:
            return False
        end = min(SLOTS, self.weighed + _SLOTS_A_STEP)
        for slot in range(self.weighed, end):
            for db in self.ks.dbs:
                mapping = db.slots[slot]
                if mapping:
                    for key, value in mapping.items():
                        self._add(db, key, value)
        self.weighed = end
        return True

    def used_bytes(self) -> int:
        """All keys, their deadlines, and what is remembered of their use."""
        deadlines = 0
        for db in self.ks.dbs:
            deadlines += db.nexp
        access: Access | None = self.ks.access
        remembered = 0 if access is None else len(access.stamps)
        return self.total + deadlines * DEADLINE_BYTES + remembered * ACCESS_BYTES

    def weight(self, db: Db, key: bytes) -> int:
        """What removing the key would free, 0 for one that is not there."""
        mapping = db.slots[slot_of(key)]
        value = None if mapping is None else mapping.get(key)
        return 0 if value is None else bytes_weight(len(key)) + ENTRY_BYTES + weight_of(value)

    def replaced(self, db: Db, slot: int, key: bytes, old: object, new: object) -> None:
        """``key`` held ``old`` and holds ``new`` now; None stands for nothing."""
        if slot >= self.weighed:
            return
        if old is not None:
            self.total -= bytes_weight(len(key)) + ENTRY_BYTES
            if type(old) is bytes:
                self.total -= bytes_weight(len(old))
            else:
                self.total -= self.weights[db].pop(key, 0)
        if new is not None:
            self._add(db, key, new)

    def _add(self, db: Db, key: bytes, value: object) -> None:
        weight = weight_of(value)
        if type(value) is not bytes:
            self.weights[db][key] = weight
        self.total += bytes_weight(len(key)) + ENTRY_BYTES + weight

    def touched(self, db: Db, key: bytes) -> None:
        """The value at ``key`` was changed in place."""
        slot = slot_of(key)
        mapping = db.slots[slot]
        value = None if mapping is None else mapping.get(key)
        if slot >= self.weighed or value is None or type(value) is bytes:
            return
        weights = self.weights[db]
        weight = weight_of(value)
        self.total += weight - weights.get(key, 0)
        weights[key] = weight

    def emptied(self, db: Db) -> None:
        """All keys of the database are gone, or came back: what is weighed is weighed anew."""
        self.total = 0
        self.weights = {each: {} for each in self.ks.dbs}
        until, self.weighed = self.weighed, 0
        if all(not each.size for each in self.ks.dbs):
            self.weighed = until
