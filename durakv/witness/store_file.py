"""A witness's state as files: version N is ``<N>.st`` in a directory of its own, published by link().

Rule: a version's file is complete and synced before it gets its name, and never written again; the highest number is
the state, and if that file is damaged the state is lost, whatever older ones say. Works for one process and for many
nodes on a shared file system alike, provided link() is atomic and directories are coherent there (on NFS mount with
``lookupcache=none``). Must not know what a state means. Copies of the directory cannot be told from the original:
never restore one, never use two. Deleting the highest version by hand is such a restore.

Layout: ``<root>/<cluster>-<group>-<witness>/`` holds ``CREATED`` (the marker, never deleted), ``<N>.st`` and, while
something is written, ``<writer>.<token>.tmp``.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final

from durakv.witness.errors import StoreUnfitError, SyncError
from durakv.witness.parts import StateKey
from durakv.witness.record import SEALED_BYTES_MAX
from durakv.witness.store import Loaded, exists, lost, read_mark, read_sealed
from durakv.world.ports import Disk

MARKER: Final = "CREATED"
# Versions kept. More than one, so that a writer that was overtaken finds its predecessor gone and knows.
KEPT: Final = 4
_SUFFIX: Final = ".st"
_TEMPORARY: Final = ".tmp"
_CREATOR: Final = "create"
_READ_ATTEMPTS: Final = 8
_NO_LINKS: Final = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)


class FileRegister:
    """One state under ``root``. ``writer`` names this writer's temporary files; no two live writers share it."""

    def __init__(self, disk: Disk, root: str, key: StateKey, writer: str) -> None:
        self.key = key
        self.directory = f"{root}/{key.name()}"
        self._root = root
        self._disk = disk
        self._writer = writer
        self._incarnation: bytes | None = None
        # A sync failed: what can be read may not be on the medium, and no later sync of the same would tell.
        self._in_doubt = False

    # -- Register ----------------------------------------------------------------------------------------------------

    def load(self) -> Loaded:
        """See Register."""
        for _ in range(_READ_ATTEMPTS):
            versions = self._versions()
            if not versions:
                raise lost(f"there is no state in {self.directory} (is its file system mounted?)")
            if self._incarnation is None:
                self._incarnation = read_mark(self.key, self.read_marker()).incarnation
            data = self._read(self._path(versions[-1]))
            if data is None:
                # Newer ones came and it was pruned since the directory was read.
                continue
            sealed = read_sealed(self.key, data)
            if sealed.version != versions[-1]:
                raise lost(f"{self._path(versions[-1])} holds version {sealed.version}")
            if sealed.incarnation != self._incarnation:
                raise lost(f"the state and the marker in {self.directory} are of different creations")
            return Loaded(data, "", sealed)
        raise OSError(errno.EBUSY, f"{self.directory}: files vanish while they are read")

    def publish(self, before: Loaded, data: bytes, token: bytes) -> bool:
        """See Register."""
        version = before.sealed.version
        if not self._put(self._path(version + 1), data, self._writer, token):
            return False
        # Whoever read long ago may have linked a number that was used and pruned since. Files are pruned in order, so
        # if the predecessor is still the file that was read, the number was never used.
        if self._read(self._path(version)) != before.data:
            self._remove(self._path(version + 1))
            return False
        self._sync_directory(self.directory)
        self._in_doubt = False
        self._prune(version + 1)
        return True

    def settle(self) -> bool:
        """See Register."""
        if self._in_doubt:
            return False
        self._sync_directory(self.directory)
        return True

    def prepare(self) -> None:
        """See Register."""
        missing = []
        path = self.directory
        while path and not self._disk.exists(path):
            missing.append(path)
            path = path.rpartition("/")[0]
        self._disk.mkdir(self.directory)
        for made in missing:
            self._sync_directory(made.rpartition("/")[0] or "/")

    def put_first(self, data: bytes, token: bytes) -> bytes:
        """See Register."""
        versions = self._versions()
        if versions and versions != [1]:
            raise exists(self.key)
        self._put(self._path(1), data, _CREATOR, token)
        self._sync_directory(self.directory)
        there = self._read(self._path(1))
        if there is None:
            raise exists(self.key)
        return there

    def put_marker(self, data: bytes, token: bytes) -> bytes:
        """See Register."""
        path = f"{self.directory}/{MARKER}"
        self._put(path, data, _CREATOR, token)
        self._sync_directory(self.directory)
        there = self._read(path)
        assert there is not None, "nobody deletes a marker"
        return there

    def read_marker(self) -> bytes | None:
        """See Register."""
        return self._read(f"{self.directory}/{MARKER}")

    def probe(self) -> None:
        """See Register. link() has just been used; a file system without it failed then."""

    # -- files -------------------------------------------------------------------------------------------------------

    def _path(self, version: int) -> str:
        return f"{self.directory}/{version}{_SUFFIX}"

    def _versions(self) -> list[int]:
        """Ascending; empty when there is no such directory."""
        try:
            names = self._disk.listdir(self.directory)
        except FileNotFoundError:
            return []
        found = []
        for name in names:
            digits = name.removesuffix(_SUFFIX)
            if digits != name and digits.isascii() and digits.isdecimal() and str(int(digits)) == digits:
                found.append(int(digits))
        return sorted(found)

    def _read(self, path: str) -> bytes | None:
        """What is on the medium (or the server), one byte more than may be there at most; None when there is none."""
        try:
            file = self._disk.open(path, direct=True)
        except FileNotFoundError:
            return None
        try:
            return file.pread(SEALED_BYTES_MAX + 1, 0)
        finally:
            file.close()

    def _put(self, path: str, data: bytes, writer: str, token: bytes) -> bool:
        """A synced file of these bytes under a name that was free; False when it was not."""
        temporary = f"{self.directory}/{writer}.{token.hex()}{_TEMPORARY}"
        try:
            self._write(temporary, data)
            try:
                self._disk.link(temporary, path)
            except FileExistsError:
                return False
            except OSError as e:
                if e.errno in _NO_LINKS:
                    text = f"{self._root}: this file system has no hard links ({e.strerror}); use another one"
                    raise StoreUnfitError(e.errno, text) from e
                raise
            return True
        finally:
            self._remove(temporary)

    def _write(self, path: str, data: bytes) -> None:
        file = self._disk.open(path, create=True)
        try:
            written = 0
            while written < len(data):
                count = file.pwrite(data[written:], written)
                if count <= 0:
                    raise OSError(errno.EIO, f"short write: {written} of {len(data)} bytes", path)
                written += count
            self._sync(file.fsync, path)
        finally:
            file.close()

    def _sync_directory(self, path: str) -> None:
        self._sync(lambda: self._disk.fsync_dir(path), path)

    def _sync(self, sync: Callable[[], None], path: str) -> None:
        try:
            sync()
        except OSError as e:
            self._in_doubt = True
            raise SyncError(e.errno, f"{path}: sync failed ({e.strerror})") from e

    def _remove(self, path: str) -> None:
        if not self._disk.exists(path):
            return
        try:
            self._disk.unlink(path)
        except FileNotFoundError:
            # Somebody else pruned it just now.
            return

    def _prune(self, newest: int) -> None:
        """In order, oldest first (see publish()); and what an earlier process of this writer left behind."""
        for version in self._versions():
            if version <= newest - KEPT:
                self._remove(self._path(version))
        for name in self._disk.listdir(self.directory):
            if name.endswith(_TEMPORARY) and name.partition(".")[0] in (self._writer, _CREATOR):
                self._remove(f"{self.directory}/{name}")
