"""A digest of everything applied: equal on two nodes exactly when their databases hold the same. [compiled]

Rule: covers keys, deadlines, types and content, and nothing local: not insertion order inside a slot, not encodings,
not whether a string is ``bytes`` or ``bytearray``. It reads values only through ``kind`` and ``canonical()``.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Protocol

from durakv.keyspace.keyspace import Db, Keyspace

DIGEST_SIZE: Final = 16


class Canonical(Protocol):
    """What every class of keyspace/values offers."""

    @property
    def kind(self) -> bytes: ...

    def canonical(self) -> bytes:
        """Content as bytes, equal for equal content; in order for lists only."""


def digest(ks: Keyspace) -> bytes:
    """16 bytes over all databases; O(size of the data)."""
    total = blake2b(digest_size=DIGEST_SIZE)
    for db in ks.dbs:
        if db.size:
            total.update(b"db %d %d\n" % (db.number, db.size))
            for slot in range(len(db.slots)):
                if db.slots[slot]:
                    total.update(slot_digest(db, slot))
    if ks.accounts is not None:
        total.update(ks.accounts.canonical())
    if ks.programs is not None:
        total.update(ks.programs.canonical())
    if ks.source is not None:
        total.update(ks.source.canonical())
    if ks.handoff is not None:
        total.update(ks.handoff.canonical())
    return total.digest()


def slot_digest(db: Db, slot: int) -> bytes:
    """16 bytes over one slot of one database; all zero when it is empty."""
    mapping = db.slots[slot]
    if not mapping:
        return bytes(DIGEST_SIZE)
    total = blake2b(b"slot %d\n" % slot, digest_size=DIGEST_SIZE)
    deadlines = db.exps[slot]
    for key in sorted(mapping):
        at_ms = -1 if deadlines is None else deadlines.get(key, -1)
        kind, content = canonical_value(mapping[key])
        # Every part is preceded by its length, so that no two states read the same.
        total.update(b"%d:%b %d %b %d:" % (len(key), key, at_ms, kind, len(content)))
        total.update(content)
    return total.digest()


def canonical_value(value: object) -> tuple[bytes, bytes]:
    """(kind, content) of a stored value."""
    if type(value) is bytes:
        return b"string", value
    if type(value) is bytearray:
        return b"string", bytes(value)
    stored: Canonical = value  # type: ignore[assignment]
    return stored.kind, stored.canonical()
