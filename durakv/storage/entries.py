"""Log entries in memory: the newest ones whole, the terms of all of them as runs, and their form as frame bodies.

Rule: the only place that maps an entry kind to a frame type and back. It must not know files or durability.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from typing import Final, Generic, Protocol, TypeVar

from durakv.storage.record import CONFIG, NOOP, PAYLOAD

KIND_NORMAL: Final = 0
KIND_NOOP: Final = 1
KIND_CONFIG: Final = 2

# What an entry costs in memory beside its payload; keeps the cache bounded when entries are tiny.
ENTRY_OVERHEAD_BYTES: Final = 120

_CONFIG_PREFIX: Final = b"#CFG "


class LogEntry(Protocol):
    """What the log needs of an entry. ``kind`` is 0 normal, 1 no-op, 2 configuration."""

    @property
    def index(self) -> int: ...

    @property
    def term(self) -> int: ...

    @property
    def subterm(self) -> int: ...

    @property
    def kind(self) -> int: ...

    @property
    def data(self) -> bytes: ...


E = TypeVar("E", bound=LogEntry)
E_co = TypeVar("E_co", bound=LogEntry, covariant=True)


class EntryFactory(Protocol[E_co]):
    """Makes an entry from (index, term, subterm, kind, data)."""

    def __call__(self, index: int, term: int, subterm: int, kind: int, data: bytes, /) -> E_co: ...


def frame_type(kind: int) -> int:
    """The frame type of an entry kind."""
    if kind == KIND_NORMAL:
        return PAYLOAD
    if kind == KIND_NOOP:
        return NOOP
    assert kind == KIND_CONFIG, f"entry kind {kind} has no frame type"
    return CONFIG


def frame_body(kind: int, data: bytes) -> bytes:
    """The body of an entry's frame; configurations travel as one annotation line so that foreign loaders skip them."""
    if kind == KIND_NORMAL:
        return data
    if kind == KIND_CONFIG:
        return b"%s%s\r\n" % (_CONFIG_PREFIX, base64.b64encode(data))
    assert not data, "a no-op entry carries no data"
    return b""


def entry_of_frame(frame: int, body: bytes) -> tuple[int, bytes] | None:
    """(kind, data) of a frame that takes an index, or None when the body is not what ``frame_body`` makes."""
    if frame == PAYLOAD:
        return KIND_NORMAL, body
    if frame == NOOP:
        return None if body else (KIND_NOOP, b"")
    if frame != CONFIG or not body.startswith(_CONFIG_PREFIX) or not body.endswith(b"\r\n"):
        return None
    try:
        return KIND_CONFIG, base64.b64decode(body[len(_CONFIG_PREFIX) : -2], validate=True)
    except binascii.Error:
        return None


class TermRuns:
    """Terms of consecutive entries, stored where they change."""

    __slots__ = ("_starts", "_terms")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._terms: list[int] = []

    def append(self, index: int, term: int) -> None:
        """Note the term of the next entry."""
        if not self._terms or self._terms[-1] != term:
            assert not self._terms or term > self._terms[-1], f"term falls from {self._terms[-1]} to {term} at {index}"
            self._starts.append(index)
            self._terms.append(term)

    def term(self, index: int) -> int:
        """Term of a held entry."""
        return self._terms[bisect_right(self._starts, index) - 1]

    def trim_before(self, index: int) -> None:
        """Forget the entries below ``index``."""
        keep = max(bisect_right(self._starts, index) - 1, 0)
        del self._starts[:keep]
        del self._terms[:keep]

    def clear(self) -> None:
        """Forget all."""
        self._starts = []
        self._terms = []

    def trim_after(self, index: int) -> None:
        """Forget the entries above ``index``."""
        while self._starts and self._starts[-1] > index:
            self._starts.pop()
            self._terms.pop()


class EntryTail(Generic[E]):
    """The newest entries, contiguous from ``base``. The caller says which may be dropped, and the limit says when."""

    __slots__ = ("_bytes", "_entries", "_limit_bytes", "base")

    def __init__(self, base: int, limit_bytes: int) -> None:
        self.base = base
        self._limit_bytes = limit_bytes
        self._entries: list[E] = []
        self._bytes = 0

    def append(self, entry: E) -> None:
        """Add the next entry."""
        self._entries.append(entry)
        self._bytes += len(entry.data) + ENTRY_OVERHEAD_BYTES

    def span(self, lo: int, hi: int) -> list[E]:
        """Entries lo..hi-1; all must be held."""
        return self._entries[lo - self.base : hi - self.base]

    def get(self, index: int) -> E:
        """One held entry."""
        return self._entries[index - self.base]

    def trim_after(self, index: int) -> None:
        """Forget the entries above ``index``."""
        keep = max(index + 1 - self.base, 0)
        for entry in self._entries[keep:]:
            self._bytes -= len(entry.data) + ENTRY_OVERHEAD_BYTES
        del self._entries[keep:]
        self.base = min(self.base, index + 1)

    def restart(self, base: int) -> None:
        """Forget all; the next entry is ``base``."""
        self.base = base
        self._entries = []
        self._bytes = 0

    def evict(self, upto: int) -> None:
        """When over the limit, drop the oldest down to half of it, none above ``upto``."""
        if self._bytes <= self._limit_bytes:
            return
        count = 0
        most = min(upto + 1 - self.base, len(self._entries))
        while count < most and self._bytes > self._limit_bytes // 2:
            self._bytes -= len(self._entries[count].data) + ENTRY_OVERHEAD_BYTES
            count += 1
        del self._entries[:count]
        self.base += count
