"""Files as the administration reads and writes them: sources read-only, results under their final name only when whole.

Rule: the only place where ``durakv-cli`` touches files. A result is synced, then renamed; on failure nothing of it
stays.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from durakv.storage.errors import StorageError
from durakv.world.ports import File


class ReadOnlyFile:
    """An open file; implements rdb's ByteSource and the reading half of ports.File."""

    def __init__(self, path: str, *, direct: bool = False) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        if direct and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def pread(self, size: int, offset: int) -> bytes:
        """``size`` bytes at ``offset``, fewer only at the end of the file."""
        data = os.pread(self._fd, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]
        got = len(data)
        while got < size and (data := os.pread(self._fd, size - got, offset + got)):
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        os.close(self._fd)

    def pwrite(self, data: bytes, offset: int) -> int:
        raise _read_only()

    def fdatasync(self) -> None:
        raise _read_only()

    def fsync(self) -> None:
        raise _read_only()

    def fallocate(self, offset: int, size: int) -> None:
        raise _read_only()

    def truncate(self, size: int) -> None:
        raise _read_only()


def _read_only() -> AssertionError:
    return AssertionError("the administration opened this file for reading only")


class ReadOnlyFiles:
    """Implements aof.parts.Files, and what of ports.Disk a scan of the log needs."""

    def is_directory(self, path: str) -> bool:
        return Path(path).is_dir()

    def exists(self, path: str) -> bool:
        return Path(path).exists()

    def listdir(self, path: str) -> list[str]:
        return sorted(entry.name for entry in Path(path).iterdir())

    def open(self, path: str, *, create: bool = False, direct: bool = False) -> File:
        """For reading; ``direct`` has the kernel forget its clean copy first, so that the medium is read."""
        assert not create, "the administration creates no files in what it reads"
        return ReadOnlyFile(path, direct=direct)


class FileSink:
    """A result file in the making; implements rdb.writer.Sink."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        self._file = self._partial.open("xb")

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def write_start(self, data: bytes) -> None:
        self._file.flush()
        os.pwrite(self._file.fileno(), data, 0)

    def publish(self) -> None:
        """Make the file durable, then give it its name."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._partial.rename(self.path)
        sync_directory(self.path.parent)

    def drop(self) -> None:
        """Leave nothing behind; harmless after ``publish``."""
        self._file.close()
        self._partial.unlink(missing_ok=True)


@contextlib.contextmanager
def result_file(path: Path, *, force: bool) -> Iterator[FileSink]:
    """A file that gets its name when the block ends well. Raises FileExistsError unless ``force``."""
    if path.exists() and not force:
        raise FileExistsError(f"{path}: exists; name another file, or replace it with --force")
    sink = FileSink(path)
    try:
        yield sink
        sink.publish()
    finally:
        sink.drop()


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the lock of a data directory, so that no server starts on it. Raises DirectoryLocked, OSError."""
    import fcntl  # not on every system that could show --help

    from durakv.storage.errors import DirectoryLocked

    lock = directory / "LOCK"
    if not lock.exists():
        if not (directory / "IDENTITY").exists():
            raise StorageError(f"{directory}: is no data directory of durakv (it has no IDENTITY); name another one")
        # A copy without its lock: no server can be running on it under that name.
        yield
        return
    fd = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DirectoryLocked(
                f"{directory}: a durakv server is running on it; stop it first, or work on a copy (durakv-cli backup)"
            ) from None
        yield
    finally:
        os.close(fd)
