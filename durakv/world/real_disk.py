"""The kernel's file system, and the log thread.

Rule: the only place in durakv that touches files. One daemon thread runs the jobs of the lane in order; everything
else runs on the caller's thread. It must not know what the bytes mean.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

from durakv.world.ports import File

_ALIGN: Final = 4096
_LOCK_POLL_S: Final = 0.01
_O_DIRECT: Final[int] = getattr(os, "O_DIRECT", 0)
_UNSUPPORTED: Final = (errno.EINVAL, errno.ENOTSUP)

Job = Callable[[], None]
Done = Callable[[OSError | None], None]


class RealFile:
    """A file descriptor with positioned reads and writes."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def pread(self, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes; fewer only at the end of the file."""
        data = os.pread(self._fd, size, offset)
        if len(data) == size or not data:
            return data
        parts = [data]
        got = len(data)
        while got < size:
            data = os.pread(self._fd, size - got, offset + got)
            if not data:
                break
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def pwrite(self, data: bytes, offset: int) -> int:
        return os.pwrite(self._fd, data, offset)

    def fdatasync(self) -> None:
        os.fdatasync(self._fd)

    def fsync(self) -> None:
        os.fsync(self._fd)

    def fallocate(self, offset: int, size: int) -> None:
        os.posix_fallocate(self._fd, offset, size)

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        os.close(self._fd)


class DirectFile(RealFile):
    """Reads that bypass the page cache, through an aligned buffer. Read-only."""

    def pread(self, size: int, offset: int) -> bytes:
        begin = offset - offset % _ALIGN
        span = -(-(offset + size - begin) // _ALIGN) * _ALIGN
        if size <= 0:
            return b""
        # Anonymous maps are page-aligned, which is what O_DIRECT asks of a buffer.
        with mmap.mmap(-1, span) as buffer:
            got = 0
            while got < span:
                view = memoryview(buffer)[got:]
                try:
                    count = os.preadv(self._fd, [view], begin + got)
                finally:
                    view.release()
                got += count
                if count == 0 or count % _ALIGN:
                    break
            return buffer[offset - begin : max(min(got, offset - begin + size), offset - begin)]

    def pwrite(self, data: bytes, offset: int) -> int:
        raise OSError(errno.EBADF, f"write of {len(data)} bytes at {offset} to a file opened for direct reading")


class RealDisk:
    """Implements ports.Disk. ``call_threadsafe(fn)`` must run ``fn`` on the loop thread."""

    def __init__(
        self,
        call_threadsafe: Callable[[Callable[[], None]], object],
        on_bug: Callable[[BaseException], None] | None = None,
    ) -> None:
        """``on_bug(error)`` hears, on the loop thread, of a job that failed with anything but OSError and must stop the
        node; without it the exception is raised there.
        """
        self._call_threadsafe = call_threadsafe
        self._on_bug = on_bug
        self._queue: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._locks: list[int] = []
        self._worker = threading.Thread(target=self._work, name="log", daemon=True)
        self._worker.start()

    def open(self, path: str, *, create: bool = False, direct: bool = False) -> File:
        """Read-write, or read-only past the page cache."""
        if direct:
            return self._open_direct(path)
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0)
        return RealFile(os.open(path, flags, 0o640))

    def exists(self, path: str) -> bool:
        return os.path.exists(path)

    def listdir(self, path: str) -> list[str]:
        return sorted(os.listdir(path))

    def mkdir(self, path: str) -> None:
        os.makedirs(path, mode=0o750, exist_ok=True)

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def link(self, old: str, new: str) -> None:
        os.link(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def fsync_dir(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def free_bytes(self, path: str) -> int:
        """What an unprivileged process may still use."""
        stat = os.statvfs(path)
        return stat.f_bavail * stat.f_frsize

    def lock(self, path: str) -> bool:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._locks.append(fd)
        return True

    def wait_unlocked(self, path: str, timeout_ms: int) -> bool:
        if not os.path.exists(path):
            return True
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            deadline_ns = time.monotonic_ns() + timeout_ms * 1_000_000
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    if time.monotonic_ns() >= deadline_ns:
                        return False
                    time.sleep(_LOCK_POLL_S)
                else:
                    return True
        finally:
            # Closing gives the lock back.
            os.close(fd)

    def submit(self, job: Job, done: Done) -> None:
        self._queue.put((job, done))

    def close(self) -> None:
        """Finish queued jobs, stop the thread, drop the locks."""
        self._queue.put(None)
        self._worker.join()
        for fd in self._locks:
            os.close(fd)
        self._locks.clear()

    def _open_direct(self, path: str) -> File:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        # Dropped even when O_DIRECT works: later buffered reads must not see pages whose sync has failed.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if _O_DIRECT:
            try:
                direct_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | _O_DIRECT)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
            else:
                os.close(fd)
                return DirectFile(direct_fd)
        return RealFile(fd)

    def _work(self) -> None:
        while True:
            item = self._queue.get()
            if item is None:
                return
            job, done = item
            try:
                job()
            except OSError as error:
                self._call_threadsafe(_completion(done, error))
            except BaseException as bug:  # noqa: BLE001 - handed to the loop thread, which stops the node
                self._call_threadsafe(_bug_report(self._on_bug, bug))
                return
            else:
                self._call_threadsafe(_completion(done, None))


def _completion(done: Done, error: OSError | None) -> Callable[[], None]:
    return lambda: done(error)


def _bug_report(on_bug: Callable[[BaseException], None] | None, bug: BaseException) -> Callable[[], None]:
    def report() -> None:
        if on_bug is None:
            raise bug
        on_bug(bug)

    return report
