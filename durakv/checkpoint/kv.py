"""The ordered key-value store a checkpoint lives in, as a protocol: five databases, one writer, snapshot reads.

Rule: whatever a transaction does is there after ``commit()`` returned, whole, or not at all; a crash at any time leaves
the last committed state. Every call blocks. Errors are OSError; errno EBADMSG says that the store's own structure is
damaged. It must not know what rows mean.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

KEYS: Final = 0
ELEM: Final = 1
AUX: Final = 2
GC: Final = 3
META: Final = 4
DB_NAMES: Final = ("keys", "elem", "aux", "gc", "meta")


class KvTxn(Protocol):
    """A transaction; keys have 1 to 511 bytes and are in order of their bytes."""

    def get(self, db: int, key: bytes) -> bytes | None: ...

    def replace(self, db: int, key: bytes, value: bytes) -> bytes | None:
        """Store a row; what was there before."""

    def pop(self, db: int, key: bytes) -> bytes | None:
        """Remove a row; what was there."""

    def rows(self, db: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """All rows with a key >= ``start``, ascending. Nothing may be written while it is in use."""

    def commit(self) -> None: ...

    def abort(self) -> None:
        """Forget what the transaction did, or end a reading one."""


class KvStore(Protocol):
    """An open store. Not to be used from two threads."""

    def begin(self, *, write: bool) -> KvTxn:
        """Start a transaction; at most one that writes at a time."""

    def copy_compact(self, path: str, offset: int) -> None:
        """Write a copy of the last committed state, without free pages, into the existing file ``path`` from there."""

    def used_bytes(self) -> int:
        """Bytes of the file in use, free pages inside it not counted."""

    def file_bytes(self) -> int:
        """Bytes of the file: it grows and does not shrink."""

    def compact(self) -> None:
        """Replace the file by one without free pages, in one step. No transaction may be open.

        Raises OSError, after which the store is as it was, unless it cannot be opened again: then it is closed.
        """

    def close(self) -> None: ...


class OpenKv(Protocol):
    """Opens, or creates, the store in a directory."""

    def __call__(self, directory: str, *, write: bool) -> KvStore:
        """Raises OSError; with errno EBADMSG when there is a file that is no sound store."""
