"""A hash: fields to values in order of first insertion. [compiled]

Rule: every mutator journals its inverse. It knows neither keys nor time; who empties it removes its key.
``entries_max`` and ``value_size_max`` are hash-max-listpack-entries and -value; they decide only the encoding's name.
"""

from __future__ import annotations

from typing import ClassVar, Final

from durakv.keyspace.journal import steps
from durakv.keyspace.values.packed import netstring

_UNDO_FIELD: Final = 1
_UNDO_PACKED: Final = 2


class Hash:
    """``packed``: small enough so far to be called a listpack; once large, it stays a hash table."""

    __slots__ = ("fields", "packed")

    kind: ClassVar[bytes] = b"hash"
    entries_max: ClassVar[int] = 512
    value_size_max: ClassVar[int] = 64

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.packed = True

    def __len__(self) -> int:
        return len(self.fields)

    def get(self, field: bytes) -> bytes | None:
        """The value of ``field`` or None."""
        return self.fields.get(field)

    def set(self, field: bytes, value: bytes) -> bool:
        """Store one field; True when it is new."""
        fields = self.fields
        old = fields.get(field)
        fields[field] = value
        steps.append((self, _UNDO_FIELD, field, old))
        if self.packed:
            limit = self.value_size_max
            if len(value) > limit or len(field) > limit or len(fields) > self.entries_max:
                self.unpack()
        return old is None

    def delete(self, field: bytes) -> bool:
        """Remove one field; False when it is not there."""
        old = self.fields.pop(field, None)
        if old is None:
            return False
        steps.append((self, _UNDO_FIELD, field, old))
        return True

    def expect(self, count: int) -> None:
        """Say that one command names ``count`` fields: more than fit a listpack end it, repeated names or not."""
        if self.packed and count > self.entries_max:
            self.unpack()

    def unpack(self) -> None:
        """From now on a hash table."""
        self.packed = False
        steps.append((self, _UNDO_PACKED, None, None))

    def encoding(self) -> bytes:
        """The name OBJECT ENCODING shows. Source: t_hash.c hashTypeTryConversion(), hashTypeSet()."""
        return b"listpack" if self.packed else b"hashtable"

    def canonical(self) -> bytes:
        """Content as bytes, equal for equal content whatever the order of insertion."""
        fields = self.fields
        return b"".join([netstring(field) + netstring(fields[field]) for field in sorted(fields)])

    def copy(self) -> Hash:
        """An independent hash with the same content, order and encoding."""
        twin = Hash()
        twin.fields = self.fields.copy()
        twin.packed = self.packed
        return twin

    def undo(self, op: int, a: bytes | None, b: bytes | None) -> None:
        """Revert one journal step. A deleted field comes back as the last one: order is the same on every node."""
        if op == _UNDO_PACKED:
            self.packed = True
            return
        assert op == _UNDO_FIELD
        assert a is not None
        if b is None:
            del self.fields[a]
        else:
            self.fields[a] = b
