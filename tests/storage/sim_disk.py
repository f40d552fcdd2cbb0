"""A disk in memory that can lie, fail and lose power.

Each file has what is durable and an ordered list of operations that are not yet; each directory likewise.
``after_crash`` builds the disk a power cut could leave: data operations kept, dropped or torn by 512-byte sector in
any combination, directory operations kept as a prefix (journalled), file names lost unless their directory was synced.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from random import Random

SECTOR = 512


class PowerCut(BaseException):
    """The process and the machine are gone; nothing may catch this."""


class Inode:
    """File content as seen (``data``), as durable, and the operations in between."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = bytearray()
        self.pending: list[tuple[str, int, bytes | int]] = []


def _apply(data: bytearray, op: tuple[str, int, bytes | int]) -> None:
    kind, offset, arg = op
    if kind == "write":
        assert isinstance(arg, bytes)
        if len(data) < offset + len(arg):
            data.extend(bytes(offset + len(arg) - len(data)))
        data[offset : offset + len(arg)] = arg
    elif kind == "truncate":
        if len(data) > offset:
            del data[offset:]
        else:
            data.extend(bytes(offset - len(data)))
    else:
        assert isinstance(arg, int)
        data.extend(bytes(max(offset + arg - len(data), 0)))


def _torn(op: tuple[str, int, bytes | int], rng: Random) -> list[tuple[str, int, bytes | int]]:
    """Any subset of the sectors of a write."""
    kind, offset, arg = op
    if kind != "write" or not isinstance(arg, bytes):
        return [op]
    pieces: list[tuple[str, int, bytes | int]] = []
    at = 0
    while at < len(arg):
        size = min(SECTOR - (offset + at) % SECTOR, len(arg) - at)
        if rng.random() < 0.5:
            pieces.append((kind, offset + at, arg[at : at + size]))
        at += size
    return pieces


class SimFile:
    """An open file."""

    def __init__(self, disk: SimDisk, inode: Inode, path: str, *, direct: bool) -> None:
        self.disk = disk
        self.inode = inode
        self.path = path
        self.direct = direct
        self.closed = False

    def pread(self, size: int, offset: int) -> bytes:
        assert not self.closed
        self.disk.reads += 1
        return bytes(self.inode.data[offset : offset + size])

    def pwrite(self, data: bytes, offset: int) -> int:
        assert not self.closed
        assert not self.direct
        short = self.disk.call("pwrite", self.path)
        if short:
            data = data[: len(data) // 2]
        self._do(("write", offset, bytes(data)))
        return len(data)

    def fdatasync(self) -> None:
        self._sync("fdatasync")

    def fsync(self) -> None:
        self._sync("fsync")

    def _sync(self, kind: str) -> None:
        assert not self.closed
        try:
            self.disk.call(kind, self.path)
        except OSError:
            # As Linux does: the pages are marked clean although they never reached the disk.
            self.inode.pending.clear()
            raise
        if self.disk.lose_syncs:
            self.inode.pending.clear()
            return
        for op in self.inode.pending:
            _apply(self.inode.durable, op)
        self.inode.pending.clear()

    def fallocate(self, offset: int, size: int) -> None:
        self.disk.call("fallocate", self.path)
        self._do(("allocate", offset, size))

    def truncate(self, size: int) -> None:
        self.disk.call("truncate", self.path)
        self._do(("truncate", size, 0))

    def size(self) -> int:
        return len(self.inode.data)

    def close(self) -> None:
        self.closed = True

    def _do(self, op: tuple[str, int, bytes | int]) -> None:
        assert not self.closed
        _apply(self.inode.data, op)
        self.inode.pending.append(op)


class SimDisk:
    """Implements ports.Disk. Lane jobs run when the test says so."""

    def __init__(self) -> None:
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.pending_names: list[tuple[str, str, str, Inode]] = []
        self.folders: dict[str, None] = {}
        self.locked: dict[str, None] = {}
        self.jobs: deque[tuple[Callable[[], None], Callable[[OSError | None], None]]] = deque()
        self.calls = 0
        self.reads = 0
        self.trace: list[tuple[str, str]] = []
        self.cut_power_at = 0
        self.faults: dict[int, OSError | str] = {}
        self.lose_syncs = False
        self.free = 100 << 30

    def call(self, kind: str, path: str) -> bool:
        """Count a mutating call; cut power, raise, or return True for a short write when told to at this number."""
        self.calls += 1
        self.trace.append((kind, path))
        if self.calls == self.cut_power_at:
            raise PowerCut
        fault = self.faults.get(self.calls)
        if isinstance(fault, OSError):
            raise fault
        return fault == "short"

    def open(self, path: str, *, create: bool = False, direct: bool = False) -> SimFile:
        if path not in self.names:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self.call("create", path)
            inode = Inode()
            self.names[path] = inode
            self.pending_names.append(("link", path, path, inode))
        return SimFile(self, self.names[path], path, direct=direct)

    def exists(self, path: str) -> bool:
        return path in self.names or path in self.folders

    def listdir(self, path: str) -> list[str]:
        found = [name for name in (*self.names, *self.folders) if name.rpartition("/")[0] == path]
        return sorted(name.rpartition("/")[2] for name in found)

    def mkdir(self, path: str) -> None:
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            self.folders["/".join(parts[:count])] = None

    def rename(self, old: str, new: str) -> None:
        self.call("rename", new)
        inode = self.names.pop(old)
        self.names[new] = inode
        self.pending_names.append(("rename", old, new, inode))

    def link(self, old: str, new: str) -> None:
        self.call("link", new)
        if new in self.names:
            raise FileExistsError(errno.EEXIST, "the name is taken", new)
        self.names[new] = self.names[old]
        self.pending_names.append(("link", new, new, self.names[old]))

    def unlink(self, path: str) -> None:
        self.call("unlink", path)
        self.pending_names.append(("unlink", path, path, self.names.pop(path)))

    def fsync_dir(self, path: str) -> None:
        self.call("fsync_dir", path)
        rest = []
        for op in self.pending_names:
            if op[2].rpartition("/")[0] == path:
                _link(self.durable_names, op)
            else:
                rest.append(op)
        self.pending_names = rest

    def free_bytes(self, path: str) -> int:
        return self.free

    def wait_unlocked(self, path: str, timeout_ms: int) -> bool:
        """Nobody else is here."""
        return True

    def lock(self, path: str) -> bool:
        if path in self.locked:
            return False
        self.locked[path] = None
        return True

    def submit(self, job: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        self.jobs.append((job, done))

    def run_one(self) -> None:
        """Run the oldest lane job and its completion."""
        job, done = self.jobs.popleft()
        error: OSError | None = None
        try:
            job()
        except OSError as caught:
            error = caught
        done(error)

    def run_all(self) -> None:
        """Run lane jobs until none is left."""
        while self.jobs:
            self.run_one()

    def after_crash(self, mode: str, seed: int = 0) -> SimDisk:
        """What is left: mode "all" (a killed process), "none" (only what was synced), "torn" (any subset, by seed)."""
        rng = Random(seed)
        left = SimDisk()
        left.folders = dict(self.folders)
        left.free = self.free
        names = dict(self.durable_names)
        keep = {"all": len(self.pending_names), "none": 0}.get(mode)
        for change in self.pending_names[: rng.randint(0, len(self.pending_names)) if keep is None else keep]:
            _link(names, change)
        for path, inode in names.items():
            copy = Inode()
            copy.durable = bytearray(inode.durable)
            for op in inode.pending:
                if mode == "all":
                    _apply(copy.durable, op)
                elif mode == "torn" and rng.random() < 0.7:
                    for piece in [op] if rng.random() < 0.4 else _torn(op, rng):
                        _apply(copy.durable, piece)
            copy.data = bytearray(copy.durable)
            left.names[path] = copy
        left.durable_names = dict(left.names)
        return left

    def snapshot(self) -> dict[str, bytes]:
        """All file contents as seen."""
        return {path: bytes(inode.data) for path, inode in sorted(self.names.items())}


def _link(names: dict[str, Inode], op: tuple[str, str, str, Inode]) -> None:
    kind, old, new, inode = op
    if kind == "unlink":
        names.pop(old, None)
        return
    if kind == "rename":
        names.pop(old, None)
    names[new] = inode
