"""The checkpoint's store in memory: what the simulator and tests run on instead of LMDB.

Rule: keeps the protocol's promises to the letter; committed state changes in one assignment. ``dump()`` and
``restore()`` turn it into bytes and back, so that snapshots of it can travel. It must not know what rows mean.
"""

from __future__ import annotations

import errno
import struct
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Final

from durakv.checkpoint.kv import DB_NAMES
from durakv.storage.record import crc

_KEY_BYTES_MAX: Final = 511
_MAGIC: Final = b"DKMEM1\n"
_ROW: Final = struct.Struct("<BHI")
_CRC: Final = struct.Struct("<I")


class MemoryTxn:
    """A transaction on a MemoryKv. ``changes[db][key]`` is None for a removed row."""

    def __init__(self, store: MemoryKv, *, write: bool) -> None:
        self._store = store
        self._base = store.committed
        self._write = write
        self._open = True
        self._changes: list[dict[bytes, bytes | None]] = [{} for _ in DB_NAMES]

    def get(self, db: int, key: bytes) -> bytes | None:
        changes = self._changes[db]
        if key in changes:
            return changes[key]
        return self._base[db].get(key)

    def replace(self, db: int, key: bytes, value: bytes) -> bytes | None:
        assert self._open and self._write, "a write outside of a writing transaction"
        if not 1 <= len(key) <= _KEY_BYTES_MAX:
            raise OSError(errno.EINVAL, f"a key of {len(key)} bytes; 1 to {_KEY_BYTES_MAX} are possible")
        old = self.get(db, key)
        self._changes[db][key] = bytes(value)
        return old

    def pop(self, db: int, key: bytes) -> bytes | None:
        assert self._open and self._write, "a write outside of a writing transaction"
        old = self.get(db, key)
        self._changes[db][key] = None
        return old

    def rows(self, db: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        merged: dict[bytes, bytes | None] = {**self._base[db], **self._changes[db]}
        keys = sorted(merged)
        for i in range(bisect_left(keys, start), len(keys)):
            value = merged[keys[i]]
            if value is not None:
                yield keys[i], value

    def commit(self) -> None:
        assert self._open, "a transaction ends once"
        self._open = False
        if self._write:
            self._store.committing(self._changes)

    def abort(self) -> None:
        self._open = False
        if self._write:
            self._store.writing = False


class MemoryKv:
    """``committed[db]`` maps keys to values. ``write_file(path, offset, data)`` serves copy_compact()."""

    def __init__(self, write_file: Callable[[str, int, bytes], None] | None = None) -> None:
        self.committed: list[dict[bytes, bytes]] = [{} for _ in DB_NAMES]
        self.writing = False
        self._write_file = write_file

    def begin(self, *, write: bool) -> MemoryTxn:
        if write:
            assert not self.writing, "two writing transactions at a time"
            self.writing = True
        return MemoryTxn(self, write=write)

    def committing(self, changes: list[dict[bytes, bytes | None]]) -> None:
        """Make the changes of the one writing transaction the state, for readers that begin from now on."""
        state = list(self.committed)
        for db in range(len(DB_NAMES)):
            if changes[db]:
                rows = state[db].copy()
                for key, value in changes[db].items():
                    if value is None:
                        rows.pop(key, None)
                    else:
                        rows[key] = value
                state[db] = rows
        self.committed = state
        self.writing = False

    def copy_compact(self, path: str, offset: int) -> None:
        assert self._write_file is not None, "this store was given no way to write files"
        self._write_file(path, offset, self.dump())

    def used_bytes(self) -> int:
        return sum(len(key) + len(value) for rows in self.committed for key, value in rows.items())

    def file_bytes(self) -> int:
        return self.used_bytes()

    def compact(self) -> None:
        """There are no free pages."""

    def close(self) -> None:
        """Nothing is open."""

    def dump(self) -> bytes:
        """The committed state as bytes."""
        parts = [_MAGIC]
        for db in range(len(DB_NAMES)):
            for key, value in sorted(self.committed[db].items()):
                parts += (_ROW.pack(db, len(key), len(value)), key, value)
        body = b"".join(parts)
        return body + _CRC.pack(crc(body))

    @staticmethod
    def restore(data: bytes, write_file: Callable[[str, int, bytes], None] | None = None) -> MemoryKv:
        """The store that ``data`` was dumped from. Raises OSError EBADMSG."""
        body = data[:-4]
        if not body.startswith(_MAGIC) or _CRC.pack(crc(body)) != data[-4:]:
            raise OSError(errno.EBADMSG, "this is no dump of a store")
        made = MemoryKv(write_file)
        at = len(_MAGIC)
        while at < len(body):
            db, key_size, value_size = _ROW.unpack_from(body, at)
            at += _ROW.size
            made.committed[db][body[at : at + key_size]] = body[at + key_size : at + key_size + value_size]
            at += key_size + value_size
        return made
