"""A node of a stream: some consecutive entries, packed, with their ids beside them. [compiled]

An id is one integer, ``ms << 64 | seq``, so ids compare and step as numbers. A deleted entry stays where it is, marked,
until its whole node goes: that, and the size the node would have as a listpack, decide when a node is full and what
approximate trimming removes, so both are the same as upstream's and part of the state.
Rule: changed only by Stream, which journals; a node knows nothing of its neighbours. Source: t_stream.c.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Final

from durakv.keyspace.values.packed import LISTPACK_OVERHEAD
from durakv.keyspace.values.streampack import int_size, listpack, pack_int, pack_text, signed64, unpack

SEQ_MASK: Final = (1 << 64) - 1

DELETED: Final = 1
SAME_FIELDS: Final = 2
# Elements of an entry besides fields and values: flags, both differences of the id.
_FIXED: Final = 3


class Node:
    """``fields`` are the first entry's, left out of every entry that has the same ones.

    Entry i has the id ``ms[i], seq[i]``, the marks ``flags[i]``, and its values (or fields and values) packed in
    ``data`` up to ``ends[i]``. ``size`` is what all entries take in a listpack, in bytes. ``live`` and ``dead`` count
    entries; ``first_id`` is the one the differences in a listpack refer to.
    """

    __slots__ = (
        "base_ms", "base_seq", "data", "dead", "ends", "fields", "fields_size", "first_id", "flags", "live", "ms",
        "seq", "size",
    )  # fmt: skip

    def __init__(self, first_id: int, fields: list[bytes]) -> None:
        self.first_id = first_id
        # Its halves.
        self.base_ms = first_id >> 64
        self.base_seq = first_id & SEQ_MASK
        self.fields = fields
        self.fields_size = 0
        for field in fields:
            self.fields_size += len(pack_text(field))
        self.ms: array[int] = array("Q")
        self.seq: array[int] = array("Q")
        self.ends: array[int] = array("I")
        self.flags = bytearray()
        self.data = bytearray()
        self.size = 0
        self.live = 0
        self.dead = 0

    # -- reading --------------------------------------------------------------------------------------------------

    def count(self) -> int:
        """Entries, deleted ones included."""
        return len(self.flags)

    def listpack_size(self) -> int:
        """Bytes of the node as a listpack."""
        head = int_size(self.live) + int_size(self.dead) + int_size(len(self.fields)) + 2
        return LISTPACK_OVERHEAD + head + self.fields_size + self.size

    def id_at(self, position: int) -> int:
        """The id of an entry."""
        return self.ms[position] << 64 | self.seq[position]

    def find(self, entry_id: int) -> int:
        """The position of the first entry with an id >= ``entry_id``; count() when there is none."""
        ms = entry_id >> 64
        low = bisect_left(self.ms, ms)
        if low == len(self.ms) or self.ms[low] != ms:
            return low
        return bisect_left(self.seq, entry_id & SEQ_MASK, low, bisect_right(self.ms, ms, low))

    def start_of(self, position: int) -> int:
        """Where in ``data`` an entry begins."""
        return self.ends[position - 1] if position else 0

    def entry(self, position: int, data: bytes) -> list[bytes]:
        """Field, value, field, value, ... of an entry; ``data`` is the node's, as bytes."""
        found = unpack(data, self.start_of(position), self.ends[position])
        if not self.flags[position] & SAME_FIELDS:
            return found
        flat: list[bytes] = []
        fields = self.fields
        for i in range(len(fields)):
            flat.append(fields[i])
            flat.append(found[i])
        return flat

    def first_live(self) -> int:
        """The position of the first entry that is not deleted; count() when all are."""
        flags = self.flags
        n = len(flags)
        for i in range(n):
            if not flags[i] & DELETED:
                return i
        return n

    def last_live(self) -> int:
        """The position of the last entry that is not deleted; -1 when all are."""
        flags = self.flags
        for i in range(len(flags) - 1, -1, -1):
            if not flags[i] & DELETED:
                return i
        return -1

    def as_listpack(self) -> bytes:
        """The node as upstream stores it. Source: t_stream.c streamAppendItem()."""
        out = [pack_int(self.live), pack_int(self.dead), pack_int(len(self.fields))]
        out += [pack_text(field) for field in self.fields]
        out.append(pack_int(0))
        count = 4 + len(self.fields)
        base_ms, base_seq = self.base_ms, self.base_seq
        data = bytes(self.data)
        for i in range(len(self.flags)):
            flags = self.flags[i]
            out.append(pack_int(flags))
            out.append(pack_int(signed64(self.ms[i] - base_ms)))
            out.append(pack_int(signed64(self.seq[i] - base_seq)))
            pieces = _FIXED + len(self.fields)
            if not flags & SAME_FIELDS:
                both = len(unpack(data, self.start_of(i), self.ends[i]))
                out.append(pack_int(both // 2))
                pieces = _FIXED + 1 + both
            out.append(data[self.start_of(i) : self.ends[i]])
            out.append(pack_int(pieces))
            count += pieces + 1
        return listpack(b"".join(out), count)

    # -- writing --------------------------------------------------------------------------------------------------

    def append(self, entry_id: int, flat: list[bytes]) -> None:
        """Add an entry with an id above all others: field, value, field, value, ..."""
        data = self.data
        n = len(flat) // 2
        ms, seq = entry_id >> 64, entry_id & SEQ_MASK
        before = len(data)
        overhead = 2 + int_size(signed64(ms - self.base_ms)) + int_size(signed64(seq - self.base_seq))
        if self._same_fields(flat):
            for i in range(1, 2 * n, 2):
                data += pack_text(flat[i])
            self.flags.append(SAME_FIELDS)
            overhead += int_size(_FIXED + n)
        else:
            for text in flat:
                data += pack_text(text)
            self.flags.append(0)
            overhead += int_size(n) + int_size(_FIXED + 1 + 2 * n)
        self.ms.append(ms)
        self.seq.append(seq)
        self.ends.append(len(data))
        self.size += overhead + len(data) - before
        self.live += 1

    def _same_fields(self, flat: list[bytes]) -> bool:
        fields = self.fields
        if len(flat) != 2 * len(fields):
            return False
        for i in range(len(fields)):
            if flat[2 * i] != fields[i]:
                return False
        return True

    def unappend(self, size_before: int) -> None:
        """Take the last append() back; ``size_before`` is ``size`` as it was."""
        self.ms.pop()
        self.seq.pop()
        self.ends.pop()
        self.flags.pop()
        del self.data[self.ends[-1] if self.ends else 0 :]
        self.size = size_before
        self.live -= 1

    def mark(self, position: int) -> None:
        """Mark a live entry deleted."""
        self.flags[position] |= DELETED
        self.live -= 1
        self.dead += 1

    def unmark(self, position: int) -> None:
        """Take mark() back."""
        self.flags[position] &= ~DELETED
        self.live += 1
        self.dead -= 1

    def copy(self) -> Node:
        """A node with the same content that shares nothing that changes."""
        twin = Node(self.first_id, self.fields)
        twin.ms = self.ms[:]
        twin.seq = self.seq[:]
        twin.ends = self.ends[:]
        twin.flags = self.flags[:]
        twin.data = self.data[:]
        twin.size = self.size
        twin.live = self.live
        twin.dead = self.dead
        return twin
