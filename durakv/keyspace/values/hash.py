"""A hash: fields to values in order of first insertion, some of them with a deadline. [compiled]

Rule: every mutator journals its inverse. It knows neither keys nor time; who empties it removes its key, and who gives
its first field a deadline or takes the last one away tells the database (Db.fields_changed()).
``entries_max`` and ``value_size_max`` are hash-max-listpack-entries and -value; they decide only the encoding's name.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from durakv.keyspace.journal import steps
from durakv.keyspace.values.field_deadlines import FieldDeadlines
from durakv.keyspace.values.packed import netstring
from durakv.keyspace.values.touched import Touched

_UNDO_FIELD: Final = 1
_UNDO_PACKED: Final = 2
_UNDO_DEADLINE: Final = 3


class Hash:
    """``packed``: small enough so far to be called a listpack; once large, it stays a hash table.

    ``deadlines`` is None unless a field has one; a hash that ever had one stays a hash table. ``tracker``: see touched.
    """

    __slots__ = ("deadlines", "fields", "packed", "tracker")

    kind: ClassVar[bytes] = b"hash"
    entries_max: Final = 512
    value_size_max: Final = 64

    def __init__(self) -> None:
        self.fields: dict[bytes, bytes] = {}
        self.packed = True
        self.deadlines: FieldDeadlines | None = None
        self.tracker: Touched | None = None

    def __len__(self) -> int:
        return len(self.fields)

    def get(self, field: bytes) -> bytes | None:
        """The value of ``field`` or None."""
        return self.fields.get(field)

    def set(self, field: bytes, value: bytes) -> bool:
        """Store one field without deadline; True when it is new."""
        if self.deadlines is not None:
            self.clear_deadline(field)
        return self.set_keep(field, value)

    def set_keep(self, field: bytes, value: bytes) -> bool:
        """Store one field and keep its deadline, if any; True when it is new."""
        fields = self.fields
        old = fields.get(field)
        fields[field] = value
        steps.append((self, _UNDO_FIELD, field, old))
        if self.tracker is not None:
            self._note(field, old)
        if self.packed:
            limit = Hash.value_size_max
            if len(value) > limit or len(field) > limit or len(fields) > Hash.entries_max:
                self.unpack()
        return old is None

    def delete(self, field: bytes) -> bool:
        """Remove one field; False when it is not there."""
        old = self.fields.pop(field, None)
        if old is None:
            return False
        steps.append((self, _UNDO_FIELD, field, old))
        if self.tracker is not None:
            self.tracker.updated(field)
        if self.deadlines is not None:
            self.clear_deadline(field)
        return True

    def _note(self, field: bytes, old: bytes | None) -> None:
        """``field`` was stored over ``old``."""
        tracker = self.tracker
        assert tracker is not None
        if old is None:
            tracker.fresh(field)
        else:
            tracker.updated(field)

    def expect(self, count: int) -> None:
        """Say that one command names ``count`` fields: more than fit a listpack end it, repeated names or not."""
        if self.packed and count > Hash.entries_max:
            self.unpack()

    def unpack(self) -> None:
        """From now on a hash table."""
        self.packed = False
        steps.append((self, _UNDO_PACKED, None, None))

    # -- deadlines ------------------------------------------------------------------------------------------------

    def deadline(self, field: bytes) -> int:
        """When ``field`` goes, in Unix ms; -1 for never, a field that is not there included."""
        return -1 if self.deadlines is None else self.deadlines.at_ms.get(field, -1)

    def set_deadline(self, field: bytes, at_ms: int) -> None:
        """Let an existing field go at ``at_ms``, Unix ms."""
        if self.packed:
            self.unpack()
        steps.append((self, _UNDO_DEADLINE, field, self._put_deadline(field, at_ms)))
        if self.tracker is not None:
            self.tracker.updated(field)

    def clear_deadline(self, field: bytes) -> bool:
        """Keep ``field`` for good; False when it had no deadline."""
        deadlines = self.deadlines
        if deadlines is None:
            return False
        old = deadlines.clear(field)
        if old < 0:
            return False
        steps.append((self, _UNDO_DEADLINE, field, old))
        if self.tracker is not None:
            self.tracker.updated(field)
        if not deadlines.at_ms:
            self.deadlines = None
        return True

    def expire(self, now_ms: int) -> int:
        """Delete the fields whose deadline has passed at ``now_ms``; how many."""
        due = [] if self.deadlines is None else self.deadlines.due(now_ms)
        for field in due:
            self.delete(field)
        return len(due)

    def view(self, now_ms: int) -> Hash:
        """What is left at ``now_ms``, for reading: a copy that nothing may change."""
        twin = self.copy()
        deadlines = twin.deadlines
        if deadlines is not None:
            for field in deadlines.due(now_ms):
                del twin.fields[field]
                deadlines.clear(field)
            if not deadlines.at_ms:
                twin.deadlines = None
        return twin

    def _put_deadline(self, field: bytes, at_ms: int) -> int:
        if self.deadlines is None:
            self.deadlines = FieldDeadlines()
        return self.deadlines.set(field, at_ms)

    # -- as a whole -----------------------------------------------------------------------------------------------

    def encoding(self) -> bytes:
        """The name OBJECT ENCODING shows. Source: t_hash.c hashTypeTryConversion(), hashTypeSet()."""
        return b"listpack" if self.packed else b"hashtable"

    def canonical(self) -> bytes:
        """Content as bytes, equal for equal content whatever the order of insertion; deadlines behind a ``!``."""
        fields = self.fields
        parts = [netstring(field) + netstring(fields[field]) for field in sorted(fields)]
        if self.deadlines is not None:
            at_ms = self.deadlines.at_ms
            parts.append(b"!")
            parts += [netstring(field) + b"%d;" % at_ms[field] for field in sorted(at_ms)]
        return b"".join(parts)

    def copy(self) -> Hash:
        """An independent hash with the same content, deadlines, order and encoding."""
        twin = Hash()
        twin.fields = self.fields.copy()
        twin.packed = self.packed
        if self.deadlines is not None:
            twin.deadlines = self.deadlines.copy()
        return twin

    def undo(self, op: int, a: bytes | None, b: Any) -> None:
        """Revert one journal step. A deleted field comes back as the last one: order is the same on every node."""
        if op == _UNDO_PACKED:
            self.packed = True
            return
        assert a is not None
        if op == _UNDO_FIELD:
            if self.tracker is not None:
                self._note(a, self.fields.get(a))
            if b is None:
                del self.fields[a]
            else:
                self.fields[a] = b
            return
        if self.tracker is not None:
            self.tracker.updated(a)
        assert op == _UNDO_DEADLINE
        if b >= 0:
            self._put_deadline(a, b)
            return
        deadlines = self.deadlines
        assert deadlines is not None
        deadlines.clear(a)
        if not deadlines.at_ms:
            self.deadlines = None
