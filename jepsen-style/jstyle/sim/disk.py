"""A disk in memory that knows what is durable: per file and per directory, what is on the medium and what is not yet.

Rule: every operation has a sequence number, reads see all of them, the medium has only what was synced. What a power
cut leaves is decided in disk_crash.py, what goes wrong otherwise in disk_faults.py. Lane jobs take time; a sync on the
loop holds up the loop. It must not know what the bytes mean.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Final

from jstyle.sim.clock import NodeClock, PowerCut
from jstyle.sim.streams import stream
from jstyle.sim.timeline import MS

if TYPE_CHECKING:
    from jstyle.sim.disk_faults import DiskFaults
    from jstyle.sim.timeline import Timeline

WRITE: Final = "write"
TRUNCATE: Final = "truncate"
ALLOCATE: Final = "allocate"
# A write that needs no space.
OVERWRITE: Final = "overwrite"

# (sequence, kind, offset or new size, the bytes written or the number of bytes allocated)
Op = tuple[int, str, int, bytes | int]


@dataclass
class DiskOptions:
    """Ranges from which each machine's disk is drawn."""

    latency_min_us: tuple[int, int] = (50, 300)
    latency_mean_us: tuple[int, int] = (300, 3000)
    # How often an operation takes up to ``spike_ms`` instead.
    spike: tuple[float, float] = (0.0, 0.0)
    spike_ms: int = 1000
    free_bytes: int = 100 << 30


class Inode:
    """A file. ``data`` is what reads see, ``durable`` what is on the medium, ``pending`` what lies between."""

    __slots__ = ("data", "diverged", "durable", "pending", "replaced", "version")

    def __init__(self) -> None:
        self.data = bytearray()
        self.durable = bytearray()
        self.pending: list[Op] = []
        # Counts changes of ``durable``.
        self.version = 0
        # The medium is not what the synced operations should have made of it.
        self.diverged = False
        # What the newest write overwrote, for a read that returns it: (offset, bytes).
        self.replaced: tuple[int, bytes] | None = None

    def sync(self) -> None:
        """Everything pending reaches the medium."""
        for op in self.pending:
            apply(self.durable, op)
        self.pending.clear()
        self.version += 1

    def medium(self) -> bytes:
        """What a read past the page cache returns: the kernel first writes its dirty pages out."""
        if not self.diverged:
            return bytes(self.data)
        image = bytearray(self.durable)
        for op in self.pending:
            apply(image, op)
        return bytes(image)


def apply(data: bytearray, op: Op) -> None:
    """Do one operation to a file's bytes."""
    _, kind, offset, arg = op
    if kind == WRITE:
        assert isinstance(arg, bytes)
        if len(data) < offset:
            data.extend(bytes(offset - len(data)))
        data[offset : offset + len(arg)] = arg
    elif kind == TRUNCATE:
        if len(data) > offset:
            del data[offset:]
        else:
            data.extend(bytes(offset - len(data)))
    else:
        assert isinstance(arg, int)
        if offset + arg > len(data):
            data.extend(bytes(offset + arg - len(data)))


class NameOp:
    """A change of a directory that is not durable yet. ``kind``: link, rename or unlink."""

    __slots__ = ("inode", "kind", "new", "old", "seq")

    def __init__(self, seq: int, kind: str, old: str, new: str, inode: Inode) -> None:
        self.seq = seq
        self.kind = kind
        self.old = old
        self.new = new
        self.inode = inode

    def apply(self, names: dict[str, Inode]) -> None:
        """Do it to a directory tree."""
        if self.kind == "unlink":
            names.pop(self.old, None)
            return
        if self.kind == "rename":
            names.pop(self.old, None)
        names[self.new] = self.inode


class SimFile:
    """Implements ports.File."""

    def __init__(self, disk: SimDisk, inode: Inode, path: str, *, direct: bool) -> None:
        self._disk = disk
        self._inode = inode
        self._path = path
        self._direct = direct
        self._image: bytes | None = None

    def pread(self, size: int, offset: int) -> bytes:
        """See File."""
        disk = self._disk
        if disk.faults is not None:
            data = disk.faults.read(self._path, self._inode, size, offset)
            if data is not None:
                return data
        if self._direct and self._inode.diverged:
            if self._image is None:
                self._image = self._inode.medium()
            return self._image[offset : offset + size]
        return bytes(self._inode.data[offset : offset + size])

    def pwrite(self, data: bytes, offset: int) -> int:
        """See File."""
        assert not self._direct, "a file opened for direct reading is not written"
        inode = self._inode
        # Inside what was allocated no space is needed.
        self._disk.change(WRITE if offset + len(data) > len(inode.data) else OVERWRITE, self._path)
        if self._disk.faults is not None:
            inode.replaced = (offset, bytes(inode.data[offset : offset + len(data)]))
            data = data[: self._disk.faults.written(self._path, len(data))]
        self._do(WRITE, offset, bytes(data))
        return len(data)

    def fdatasync(self) -> None:
        """See File."""
        self._disk.sync(self._path, self._inode)

    def fsync(self) -> None:
        """See File."""
        self._disk.sync(self._path, self._inode)

    def fallocate(self, offset: int, size: int) -> None:
        """See File."""
        self._disk.change(ALLOCATE, self._path)
        self._do(ALLOCATE, offset, size)

    def truncate(self, size: int) -> None:
        """See File."""
        self._disk.change(TRUNCATE, self._path)
        self._do(TRUNCATE, size, 0)

    def size(self) -> int:
        """See File."""
        return len(self._inode.data)

    def close(self) -> None:
        """See File."""

    def _do(self, kind: str, offset: int, arg: bytes | int) -> None:
        self._disk.seq += 1
        op = (self._disk.seq, kind, offset, arg)
        apply(self._inode.data, op)
        self._inode.pending.append(op)


class SimDisk:
    """Implements ports.Disk for one machine, across all its incarnations."""

    def __init__(self, timeline: Timeline, seed: int, name: str, options: DiskOptions) -> None:
        self.timeline = timeline
        self.name = name
        self.random: Random = stream(seed, "disk", name)
        shape = stream(seed, "disk-shape", name)
        self.min_ns = shape.randint(*options.latency_min_us) * 1000
        self.mean_ns = max(shape.randint(*options.latency_mean_us) * 1000, self.min_ns + 1000)
        self.spike = shape.uniform(*options.spike)
        self.spike_ns = options.spike_ms * MS
        # A factor on latencies, and an instant before which nothing completes: the nemesis's.
        self.slowness = 1
        self.hung_until_ns = 0
        self.free = options.free_bytes
        self.faults: DiskFaults | None = None
        self.names: dict[str, Inode] = {}
        self.durable_names: dict[str, Inode] = {}
        self.pending_names: list[NameOp] = []
        self.folders: dict[str, None] = {}
        self.seq = 0
        # Name changes up to here were carried along by a journal commit: a sync of any file.
        self.journalled_seq = 0
        # Counts changes of what is durable, over all files.
        self.version = 0
        self.syncs = 0
        # Changing calls left until the power goes; -1: it stays.
        self.cut_after = -1
        self._clock: NodeClock | None = None
        self._locked: dict[str, None] = {}
        self._jobs: deque[tuple[Callable[[], None], Callable[[OSError | None], None]]] = deque()
        self._serving = False
        self._job_ns = 0
        self._in_job = False

    def boot(self, clock: NodeClock | None) -> None:
        """A new process uses the disk (None: none does): no locks are held and no jobs wait."""
        self._clock = clock
        self._locked.clear()
        self._jobs.clear()
        self._serving = False
        self.cut_after = -1

    # -- ports.Disk --------------------------------------------------------------------------------------------------

    def open(self, path: str, *, create: bool = False, direct: bool = False) -> SimFile:
        """See Disk."""
        inode = self.names.get(path)
        if inode is None:
            if not create:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            self.change("create", path)
            inode = self.names[path] = Inode()
            self._rename("link", path, path, inode)
        return SimFile(self, inode, path, direct=direct)

    def exists(self, path: str) -> bool:
        """See Disk."""
        return path in self.names or path in self.folders

    def listdir(self, path: str) -> list[str]:
        """See Disk."""
        found = [name for name in (*self.names, *self.folders) if name.rpartition("/")[0] == path]
        return sorted(name.rpartition("/")[2] for name in found)

    def mkdir(self, path: str) -> None:
        """See Disk."""
        parts = path.split("/")
        for count in range(1, len(parts) + 1):
            self.folders["/".join(parts[:count])] = None

    def rename(self, old: str, new: str) -> None:
        """See Disk."""
        self.change("rename", new)
        inode = self.names.pop(old)
        self.names[new] = inode
        self._rename("rename", old, new, inode)

    def link(self, old: str, new: str) -> None:
        """See Disk."""
        inode = self.names.get(old)
        if inode is None:
            raise FileNotFoundError(errno.ENOENT, "no such file", old)
        if new in self.names or new in self.folders:
            raise FileExistsError(errno.EEXIST, "file exists", new)
        self.change("link", new)
        self.names[new] = inode
        self._rename("link", old, new, inode)

    def unlink(self, path: str) -> None:
        """See Disk."""
        self.change("unlink", path)
        self._rename("unlink", path, path, self.names.pop(path))

    def fsync_dir(self, path: str) -> None:
        """See Disk."""
        self.change("fsync_dir", path)
        self._take_sync_time()
        if self.faults is not None:
            self.faults.sync_directory(path)
        rest = []
        for op in self.pending_names:
            if op.new.rpartition("/")[0] == path:
                op.apply(self.durable_names)
            else:
                rest.append(op)
        self.pending_names = rest
        self.version += 1

    def free_bytes(self, path: str) -> int:
        """See Disk."""
        full = self.faults is not None and self.faults.full and not self.faults.unseen
        return 0 if full else self.free

    def wait_unlocked(self, path: str, timeout_ms: int) -> bool:
        """Nobody else is here."""
        return True

    def lock(self, path: str) -> bool:
        """See Disk."""
        if path in self._locked:
            return False
        self._locked[path] = None
        return True

    def submit(self, job: Callable[[], None], done: Callable[[OSError | None], None]) -> None:
        """See Disk."""
        self._jobs.append((job, done))
        if not self._serving:
            self._serve_next()

    # -- the lane ----------------------------------------------------------------------------------------------------

    def _serve_next(self) -> None:
        clock = self._clock
        assert clock is not None, "a job for a disk that no process uses"
        self._serving = bool(self._jobs)
        if self._serving:
            self._job_ns = self.latency_ns()
            self.timeline.at(clock.lead_ns() + self._job_ns, lambda: clock.aside(self._serve))

    def _serve(self) -> None:
        """The job's effects happen at the end of its time, its completion is heard a little later."""
        job, done = self._jobs.popleft()
        error: OSError | None = None
        self._in_job = True
        try:
            job()
        except OSError as caught:
            error = caught
        finally:
            self._in_job = False
        clock = self._clock
        assert clock is not None
        self.timeline.at(self.random.randrange(1000, 50_000), lambda: clock.enter(lambda: done(error)))
        self._serve_next()

    def interrupt(self) -> None:
        """The process dies now: the job in service may have got any part of its way."""
        if self._serving and self._jobs and self.random.random() < 0.5:
            self.cut_after = self.random.randrange(6)
            with suppress(PowerCut, OSError):
                self._jobs[0][0]()
            self.cut_after = -1
        self._jobs.clear()
        self._serving = False

    def latency_ns(self) -> int:
        """How long one operation takes now."""
        latency_ns = self.min_ns + int(self.random.random() * 2 * (self.mean_ns - self.min_ns))
        if self.spike and self.random.random() < self.spike:
            latency_ns += self.random.randrange(self.spike_ns)
        return max(latency_ns * self.slowness, self.hung_until_ns - self.timeline.now_ns)

    def hang(self, duration_ns: int) -> None:
        """Nothing that begins before then completes before ``duration_ns`` from now."""
        self.hung_until_ns = self.timeline.now_ns + duration_ns

    # -- what files do -----------------------------------------------------------------------------------------------

    def change(self, kind: str, path: str) -> None:
        """A changing call begins: the power may go, space may be short."""
        if self.cut_after >= 0:
            if self.cut_after == 0:
                raise PowerCut
            self.cut_after -= 1
        if self.faults is not None:
            self.faults.change(kind, path)

    def sync(self, path: str, inode: Inode) -> None:
        """Sync one file."""
        self.change("fsync", path)
        self._take_sync_time()
        self.syncs += 1
        self.version += 1
        self.journalled_seq = self.seq
        if self.faults is None or not self.faults.sync(path, inode):
            inode.sync()

    def _take_sync_time(self) -> None:
        """In a job its latency was drawn already; on the loop it holds up the loop."""
        clock = self._clock
        if clock is not None:
            ns, self._job_ns = (self._job_ns, 0) if self._in_job else (self.latency_ns(), self._job_ns)
            clock.take_time(ns)

    def _rename(self, kind: str, old: str, new: str, inode: Inode) -> None:
        self.seq += 1
        self.pending_names.append(NameOp(self.seq, kind, old, new, inode))

    def durable_image(self) -> DurableImage:
        """What is on the medium now, whatever happens next (a view, not a copy)."""
        return DurableImage(self)


class DurableImage:
    """What the machine would find after the worst power cut: only what was synced. A live view; compare ``version``."""

    __slots__ = ("_disk",)

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk

    @property
    def version(self) -> int:
        """Changes whenever anything durable may have changed."""
        return self._disk.version

    def names(self) -> list[str]:
        """Paths of all durable files, sorted."""
        return sorted(self._disk.durable_names)

    def file_version(self, path: str) -> int:
        """Changes with the durable bytes of one file; -1 when there is none. A renamed file keeps its number."""
        inode = self._disk.durable_names.get(path)
        return -1 if inode is None else inode.version

    def size(self, path: str) -> int:
        """Durable length of a file."""
        return len(self._disk.durable_names[path].durable)

    def read(self, path: str, size: int, offset: int) -> bytes:
        """Durable bytes of a file."""
        return bytes(self._disk.durable_names[path].durable[offset : offset + size])
