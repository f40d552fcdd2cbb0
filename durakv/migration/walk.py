"""An RDB file whose giant values are passed over in small steps, for a loop that must not stall.

The reader walks over a value in one go, which takes a second for some millions of elements. Here such a value stops the
reader behind its key; ``walk`` passes over it step by step and remembers where it ends, so that the next pass over the
same file can jump. Rule: reads the same records as RdbFile, and judges the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from durakv.rdb import kinds
from durakv.rdb.errors import DamagedRdb, Malformed
from durakv.rdb.reader import Entry, RdbFile
from durakv.rdb.window import ByteSource, Window

# Values with more elements than this are walked over in steps of so many.
ELEMENTS: Final = 2048
_COUNTED: Final = frozenset(
    (kinds.LIST, kinds.SET, kinds.ZSET_TEXT, kinds.HASH, kinds.ZSET, kinds.LIST_QUICKLIST, kinds.LIST_QUICKLIST_2,
     kinds.HASH_VALKEY_TTL, kinds.HASH_REDIS_TTL)
)  # fmt: skip


class SteppedRdb(RdbFile):
    """``ends``: where giant values end, by where they begin; filled by ``walk``, shared by the passes over one file."""

    def __init__(self, source: ByteSource, path: str, ends: dict[int, int], *, keep_bytes_max: int) -> None:
        self._ends = ends
        self._keep_bytes_max = keep_bytes_max
        super().__init__(source, path, verify=False, skip_modules=True, whole_bytes_max=keep_bytes_max)

    def _entry(self, kind: int, offset: int) -> Entry:
        if kind not in _COUNTED:
            return super()._entry(kind, offset)
        begin = self._window.position()
        count, body_at = self._peek(kind)
        if count <= ELEMENTS:
            return super()._entry(kind, offset)
        key = self._window.string()
        assert self._window.position() == body_at, f"the key at byte {begin} was read twice, differently"
        if self._begun >= 0:
            offset = self._begun
        end = self._ends.get(body_at, -1)
        entry = Entry(self._db, key, kind, self._expire_ms, None, offset, body_at, end)
        self._begun = self._expire_ms = -1
        if end >= 0:
            self._go_to(end)
        return entry

    def walk(self, entry: Entry) -> Iterator[None]:
        """Pass over a value whose ``end`` is not known (-1) yet. Raises DamagedRdb, OSError."""
        window = Window(self.source, entry.begin, None, 0)
        try:
            yield from _steps(window, entry.kind)
        except Malformed as error:
            raise DamagedRdb(self.path, error.at, error.reason) from None
        entry.end = self._ends[entry.begin] = window.position()
        self._go_to(entry.end)

    def next_read(self) -> int:
        """Offset from which the file will be read next."""
        return self._window.start + len(self._window.data)

    def _peek(self, kind: int) -> tuple[int, int]:
        """(number of elements, where the value begins) of the key that comes next; nothing is taken."""
        window = self._window
        begin = window.position()
        window.anchor = window.at
        window.skip_strings(1)
        body_at = window.position()
        if kind == kinds.HASH_REDIS_TTL:
            window.skip(8)
        count = window.number()
        if window.anchor >= 0:
            window.at = window.anchor
            window.anchor = -1
        else:
            # A key of many megabytes has gone by.
            self._go_to(begin)
        return count, body_at

    def _go_to(self, position: int) -> None:
        self._window = Window(self.source, position, None, self._keep_bytes_max)


def _steps(window: Window, kind: int) -> Iterator[None]:
    if kind in {kinds.LIST, kinds.SET, kinds.LIST_QUICKLIST, kinds.HASH}:
        left = window.count(1) * (2 if kind == kinds.HASH else 1)
        while left:
            some = min(left, ELEMENTS)
            window.skip_strings(some)
            left -= some
            yield
        return
    if kind == kinds.HASH_REDIS_TTL:
        window.skip(8)
    left = window.count(2)
    for at in range(left):
        if at % ELEMENTS == 0:
            yield
        _skip_element(window, kind)


def _skip_element(window: Window, kind: int) -> None:
    if kind == kinds.ZSET:
        window.skip_strings(1)
        window.skip(8)
    elif kind == kinds.ZSET_TEXT:
        window.skip_strings(1)
        size = window.byte()
        window.skip(size if size < 253 else 0)
    elif kind == kinds.HASH_VALKEY_TTL:
        window.skip_strings(2)
        window.skip(8)
    elif kind == kinds.HASH_REDIS_TTL:
        window.number()
        window.skip_strings(2)
    else:
        assert kind == kinds.LIST_QUICKLIST_2, f"no walk is known for type {kind}"
        window.number()
        window.skip_strings(1)
