"""LMDB as the checkpoint's store: five databases in one file, every commit synced.

Rule: the only place that imports lmdb. Syncs are never off and the map is never written through: either would trade
the promise that a crash leaves the last commit. LMDB trusts its pages, so a file that nobody checked
(checkpoint/pages.py) must not be opened. Errors come out as OSError; EBADMSG is a damaged structure.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from typing import Any, Final

import lmdb

_NAMES: Final = (b"keys", b"elem", b"aux", b"gc", b"meta")
# Address space, not memory or disk.
_MAP_BYTES_MIN: Final = 64 << 30
_MAP_FULL: Final = -30792
_NOT_FOUND: Final = -30798
# What LMDB says of pages it cannot make sense of.
_DAMAGE: Final = (-30797, -30796, -30795, -30794, -30793)


class RealTxn:
    """Implements checkpoint.kv.KvTxn."""

    def __init__(self, txn: Any, dbs: list[Any]) -> None:
        self._txn = txn
        self._dbs = dbs

    def get(self, db: int, key: bytes) -> bytes | None:
        try:
            value: bytes | None = self._txn.get(key, None, self._dbs[db])
        except lmdb.Error as error:
            raise as_os_error(error) from error
        return value

    def replace(self, db: int, key: bytes, value: bytes) -> bytes | None:
        try:
            old: bytes | None = self._txn.replace(key, value, self._dbs[db])
        except lmdb.Error as error:
            raise as_os_error(error) from error
        return old

    def pop(self, db: int, key: bytes) -> bytes | None:
        try:
            old: bytes | None = self._txn.pop(key, self._dbs[db])
        except lmdb.Error as error:
            raise as_os_error(error) from error
        return old

    def rows(self, db: int, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """See KvTxn. The iterator is LMDB's own, for speed, and so would be its errors: none on pages found sound."""
        try:
            cursor = self._txn.cursor(self._dbs[db])
            if start and not cursor.set_range(start):
                return iter(())
            found: Iterator[tuple[bytes, bytes]] = iter(cursor)
        except lmdb.Error as error:
            raise as_os_error(error) from error
        return found

    def commit(self) -> None:
        try:
            self._txn.commit()
        except lmdb.Error as error:
            raise as_os_error(error) from error

    def abort(self) -> None:
        self._txn.abort()


class RealKv:
    """Implements checkpoint.kv.KvStore."""

    def __init__(self, directory: str, *, write: bool) -> None:
        """Open, or when writing create, ``data.mdb`` in an existing directory.

        Raises OSError; FileNotFoundError also for a store that was never finished being made.
        """
        self._directory = directory
        self._path = os.path.join(directory, "data.mdb")
        self._open(write=write)

    def _open(self, *, write: bool) -> None:
        size = self.file_bytes() if os.path.exists(self._path) else 0
        try:
            self._env = lmdb.open(
                self._directory,
                map_size=max(_MAP_BYTES_MIN, 4 * size),
                max_dbs=len(_NAMES),
                readonly=not write,
                create=write,
                readahead=False,
            )
            self._dbs = [self._env.open_db(name, create=write) for name in _NAMES]
        except lmdb.Error as error:
            raise as_os_error(error) from error
        if write:
            # Slots of readers that died with their process would pin free pages for ever.
            self._env.reader_check()

    def begin(self, *, write: bool) -> RealTxn:
        try:
            return RealTxn(self._env.begin(write=write), self._dbs)
        except lmdb.Error as error:
            raise as_os_error(error) from error

    def copy_compact(self, path: str, offset: int) -> None:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.lseek(fd, offset, os.SEEK_SET)
            self._env.copyfd(fd, compact=True)
        except lmdb.Error as error:
            raise as_os_error(error) from error
        finally:
            os.close(fd)

    def used_bytes(self) -> int:
        with self._env.begin() as txn:
            pages = 0
            for db in self._dbs:
                stat = txn.stat(db)
                pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            return int(pages * self._env.stat()["psize"])

    def file_bytes(self) -> int:
        return os.stat(self._path).st_size

    def compact(self) -> None:
        new = self._path + ".new"
        try:
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            os.close(fd)
            self.copy_compact(new, 0)
            _sync(new)
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        self._env.close()
        # Readers elsewhere keep the old file and its locks to themselves: in a lock file that is shared with them the
        # new file would be taken for the old one's next commit.
        os.unlink(os.path.join(self._directory, "lock.mdb"))
        os.rename(new, self._path)
        # Before anything is committed to the new file: its name must not be lost with the commits in it.
        _sync(self._directory)
        self._open(write=True)

    def close(self) -> None:
        self._env.close()


def open_kv(directory: str, *, write: bool) -> RealKv:
    """Implements checkpoint.kv.OpenKv."""
    return RealKv(directory, write=write)


def _sync(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def as_os_error(error: lmdb.Error) -> OSError:
    """What LMDB said, as the kernel would have."""
    code: int = getattr(error, "code", None) or errno.EIO
    if code == _MAP_FULL:
        code = errno.ENOSPC
    elif code == _NOT_FOUND:
        code = errno.ENOENT
    elif code in _DAMAGE:
        code = errno.EBADMSG
    elif code < 0:
        code = errno.EINVAL
    return OSError(code, str(error))
