"""A disk in memory that writes down every call.

Rule: implements ``durakv.world.ports.Disk`` and nothing durakv does to files may escape it; ``strace.py`` proves that
against the kernel. Faults are told to it by number of call, so that a run with one is repeatable. It must not know what
crash states follow from the calls.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Iterable

from jstyle.crash.trace import (
    ALLOCATE,
    CREATE,
    DATASYNC,
    LINK,
    MARK,
    MKDIR,
    RENAME,
    SYNC,
    SYNC_DIR,
    SYNC_FAILED,
    TRUNCATE,
    UNLINK,
    WRITE,
    Event,
    Image,
    Trace,
    apply_data,
    parent,
    starting_names,
)

Job = Callable[[], None]
Done = Callable[[OSError | None], None]


class RecordingFile:
    """An open file; keeps working after its name is gone, as a descriptor does."""

    def __init__(self, disk: RecordingDisk, path: str, inode: int, *, direct: bool) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._direct = direct
        self._closed = False

    def pread(self, size: int, offset: int) -> bytes:
        self._check_open()
        return bytes(self._disk.contents[self._inode][offset : offset + size])

    def pwrite(self, data: bytes, offset: int) -> int:
        assert not self._direct, f"write to {self._path}, which was opened for direct reading"
        self._change(Event(WRITE, self._path, self._inode, offset=offset, data=bytes(data)))
        return len(data)

    def fdatasync(self) -> None:
        self._sync(DATASYNC)

    def fsync(self) -> None:
        self._sync(SYNC)

    def fallocate(self, offset: int, size: int) -> None:
        self._change(Event(ALLOCATE, self._path, self._inode, offset=offset, size=size))

    def truncate(self, size: int) -> None:
        self._change(Event(TRUNCATE, self._path, self._inode, size=size))

    def size(self) -> int:
        return len(self._disk.contents[self._inode])

    def close(self) -> None:
        self._check_open()
        self._closed = True

    def _check_open(self) -> None:
        assert not self._closed, f"{self._path} is used after it was closed"

    def _sync(self, kind: str) -> None:
        self._check_open()
        try:
            self._disk.admit(kind)
        except OSError:
            self._disk.note(Event(SYNC_FAILED, self._path, self._inode))
            raise
        self._disk.note(Event(kind, self._path, self._inode))

    def _change(self, event: Event) -> None:
        self._check_open()
        self._disk.admit(event.kind)
        apply_data(self._disk.contents[self._inode], event)
        self._disk.note(event)


class RecordingDisk:
    """``trace`` grows with every call that changes anything. Lane jobs run in ``run_one``.

    ``fault_position`` is where in the trace the told call failed, -1 while it has not.
    """

    def __init__(self, start: Image, free_bytes: int = 100 << 30) -> None:
        self.trace = Trace(start)
        self.names = starting_names(start)
        self.contents = {inode: bytearray(start.files[path]) for path, inode in self.names.items() if inode}
        self.free = free_bytes
        self.calls: dict[str, int] = {}
        self.fault_kinds: tuple[str, ...] = ()
        self.fault_at = 0
        self.fault_errno = 0
        self.fault_position = -1
        # The calls are those of another process, whose errors are not the node's.
        self.elsewhere = False
        self._next_inode = len(self.contents) + 1
        self._locks: list[str] = []
        self._jobs: deque[tuple[Job, Done]] = deque()

    # -- faults ------------------------------------------------------------------------------------------------------

    def fail_call(self, kinds: Iterable[str], number: int, code: int) -> None:
        """The ``number``-th call (from 1) among those of ``kinds`` fails with errno ``code``, once."""
        self.fault_kinds = tuple(kinds)
        self.fault_at = number
        self.fault_errno = code

    def admit(self, kind: str) -> None:
        """Count a call before it happens. Raises OSError when it is the one that must fail."""
        if self.elsewhere:
            return
        self.calls[kind] = self.calls.get(kind, 0) + 1
        if kind in self.fault_kinds and self.fault_position < 0 and self.count(self.fault_kinds) == self.fault_at:
            self.fault_position = len(self.trace.events)
            raise OSError(self.fault_errno, f"injected into {kind} number {self.fault_at}")

    def count(self, kinds: Iterable[str]) -> int:
        """Calls of these kinds so far."""
        return sum(self.calls.get(kind, 0) for kind in kinds)

    def note(self, event: Event) -> None:
        """Write down what has happened."""
        self.trace.events.append(event)

    def mark(self, label: str, *value: int) -> None:
        """Write down a word of the application."""
        self.trace.events.append(Event(MARK, label=label, value=value))

    # -- ports.Disk --------------------------------------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False, direct: bool = False) -> RecordingFile:
        inode = self.names.get(path)
        if inode == 0:
            raise IsADirectoryError(errno.EISDIR, "is a directory", path)
        if inode is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            inode = self._create(path)
        return RecordingFile(self, path, inode, direct=direct)

    def exists(self, path: str) -> bool:
        return path in self.names

    def listdir(self, path: str) -> list[str]:
        if self.names.get(path) != 0:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        return sorted(name.rpartition("/")[2] for name in self.names if parent(name) == path)

    def mkdir(self, path: str) -> None:
        if path in self.names:
            return
        if parent(path):
            self.mkdir(parent(path))
        self.admit(MKDIR)
        self.names[path] = 0
        self.note(Event(MKDIR, path))

    def rename(self, old: str, new: str) -> None:
        inode = self._inode_of(old)
        self.admit(RENAME)
        del self.names[old]
        self.names[new] = inode
        self.note(Event(RENAME, new, inode, old=old))

    def link(self, old: str, new: str) -> None:
        inode = self._inode_of(old)
        if new in self.names:
            raise FileExistsError(errno.EEXIST, "file exists", new)
        self.admit(LINK)
        self.names[new] = inode
        self.note(Event(LINK, new, inode, old=old))

    def unlink(self, path: str) -> None:
        inode = self._inode_of(path)
        self.admit(UNLINK)
        del self.names[path]
        self.note(Event(UNLINK, path, inode))

    def fsync_dir(self, path: str) -> None:
        if self.names.get(path) != 0:
            raise FileNotFoundError(errno.ENOENT, "no such directory", path)
        self.admit(SYNC_DIR)
        self.note(Event(SYNC_DIR, path))

    def free_bytes(self, path: str) -> int:
        return self.free

    def wait_unlocked(self, path: str, timeout_ms: int) -> bool:
        """Nobody else is here."""
        return True

    def lock(self, path: str) -> bool:
        if path in self._locks:
            return False
        if path not in self.names:
            self._create(path)
        self._locks.append(path)
        return True

    def submit(self, job: Job, done: Done) -> None:
        self._jobs.append((job, done))

    # -- the run -----------------------------------------------------------------------------------------------------

    def run_one(self) -> None:
        """Run the oldest lane job and its completion."""
        job, done = self._jobs.popleft()
        failure: OSError | None = None
        try:
            job()
        except OSError as error:
            failure = error
        done(failure)

    def forget_process(self) -> None:
        """The process is gone: its locks and queued jobs with it."""
        self._locks.clear()
        self._jobs.clear()

    def image(self) -> Image:
        """Everything as a reader sees it now, which is what a killed process (not a power cut) leaves."""
        files = {path: bytes(self.contents[inode]) for path, inode in self.names.items() if inode}
        return Image(files, tuple(path for path, inode in self.names.items() if not inode))

    def _create(self, path: str) -> int:
        if self.names.get(parent(path)) != 0:
            raise FileNotFoundError(errno.ENOENT, "no such directory", parent(path))
        self.admit(CREATE)
        inode = self._next_inode
        self._next_inode += 1
        self.names[path] = inode
        self.contents[inode] = bytearray()
        self.note(Event(CREATE, path, inode))
        return inode

    def _inode_of(self, path: str) -> int:
        inode = self.names.get(path)
        if not inode:
            raise FileNotFoundError(errno.ENOENT, "no such file", path)
        return inode
