"""What else goes wrong with a disk: calls that fail, space that is short, syncs that lie, bytes that rot.

Rule: the only place that makes a call of a simulated disk fail or a medium differ from what was written. Damage to the
medium hits only log records that the fault atlas gives free; a failing call may hit anything, for it damages nothing.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from random import Random
from typing import Final

from durakv.storage.segment import SEGMENT_HEADER_BYTES, parse_segment_header
from jstyle.sim.atlas import Atlas, Frame, frames, frames_from
from jstyle.sim.disk import ALLOCATE, OVERWRITE, TRUNCATE, WRITE, Inode, Op, SimDisk, apply

AT_WRITE: Final = "write"
AT_SYNC: Final = "fsync"


@dataclass
class FaultOptions:
    """Probabilities per call. ``fsync_*`` and ``write_*`` per call of that kind, the medium's per synced write."""

    read_eio: float = 0.0
    write_eio: float = 0.0
    write_short: float = 0.0
    fsync_eio: float = 0.0
    stale_read: float = 0.0
    lost_write: float = 0.0
    misdirected_write: float = 0.0
    # After a failed sync reads return what the medium has (as btrfs) instead of what was written (as ext4, XFS).
    revert_on_fsync_eio: bool = False


class Doomed:
    """A write that the medium lost, or has at ``place`` instead (-1: nowhere); ``former``: what is there instead."""

    __slots__ = ("data", "former", "offset", "place")

    def __init__(self, offset: int, data: bytes, former: bytes, place: int) -> None:
        self.offset = offset
        self.data = data
        self.former = former
        self.place = place


class DiskFaults:
    """The faults of one machine's disk. ``injected`` counts them by name."""

    def __init__(self, disk: SimDisk, number: int, random: Random, options: FaultOptions, atlas: Atlas) -> None:
        self.disk = disk
        self.number = number
        self.random = random
        self.options = options
        self.atlas = atlas
        # No space: calls that need more fail, when they write or only when they sync.
        self.full = False
        self.full_at = AT_WRITE
        # The limit is a quota: the free space that is reported does not show it.
        self.unseen = False
        self.enabled = True
        self.injected: dict[str, int] = {}
        # By file: shown to be lost only when the log can tell, one at a time.
        self._doomed: dict[Inode, Doomed] = {}
        # (kind, error number): each makes the next call of that kind fail. Kinds: read, fsync, fsync_dir, write, ...
        self.fail_next: list[tuple[str, int]] = []

    def count(self, name: str) -> None:
        """Note one injected fault."""
        self.injected[name] = self.injected.get(name, 0) + 1
        self.disk.timeline.fold("disk-fault", self.disk.name, name)

    def medium_damaged(self) -> bool:
        """Whether any byte of the medium differs from what a healthy disk would hold."""
        return any(self.injected.get(name) for name in ("bit-flip", "lost-write", "misdirected-write"))

    def _hits(self, probability: float) -> bool:
        return self.enabled and probability > 0 and self.random.random() < probability

    def _planned(self, kind: str) -> int:
        for place, (wanted, number) in enumerate(self.fail_next):
            if wanted == kind:
                del self.fail_next[place]
                return number
        return 0

    # -- calls ---------------------------------------------------------------------------------------------------------

    def read(self, path: str, inode: Inode, size: int, offset: int) -> bytes | None:
        """What a read returns instead of the file's bytes; None: those. Raises OSError."""
        number = self._planned("read") or (errno.EIO if self._hits(self.options.read_eio) else 0)
        if number:
            self.count("read-error")
            raise OSError(number, "simulated read error", path)
        if inode.replaced is not None and self._hits(self.options.stale_read):
            at, old = inode.replaced
            if offset < at + len(old) and at < offset + size and self._is_free(path, inode, at):
                self.count("stale-read")
                image = bytearray(inode.data)
                image[at : at + len(old)] = old
                return bytes(image[offset : offset + size])
        return None

    def change(self, kind: str, path: str) -> None:
        """A changing call begins. Raises OSError."""
        number = self._planned(WRITE if kind == OVERWRITE else kind)
        if not number and self.full and self.full_at == AT_WRITE and kind in (WRITE, ALLOCATE, "create"):
            number = errno.ENOSPC
        if not number and kind in (WRITE, OVERWRITE) and self._hits(self.options.write_eio):
            number = errno.EIO
        if number:
            self.count(f"{kind}-error")
            raise OSError(number, f"simulated {kind} error", path)

    def written(self, path: str, length: int) -> int:
        """How many of the bytes a write takes."""
        if length > 1 and self._hits(self.options.write_short):
            self.count("short-write")
            return self.random.randrange(1, length)
        return length

    def sync_directory(self, path: str) -> None:
        """A directory is synced. Raises OSError."""
        if self._hits(self.options.fsync_eio):
            self.count("fsync_dir-error")
            raise OSError(errno.EIO, "simulated fsync error", path)

    def sync(self, path: str, inode: Inode) -> bool:
        """A file is synced: True when it was dealt with here. Raises OSError after dropping what was to be synced."""
        full = self.full and self.full_at == AT_SYNC and any(op[1] != TRUNCATE for op in inode.pending)
        if full or self._hits(self.options.fsync_eio):
            self._fail_sync(inode)
            self.count("fsync-error")
            raise OSError(errno.ENOSPC if full else errno.EIO, "simulated fsync error", path)
        options = self.options
        if not self.enabled or not (options.lost_write or options.misdirected_write):
            return False
        wrong = None
        if inode not in self._doomed:
            wrong = next((found for op in inode.pending if (found := self._goes_wrong(path, inode, op))), None)
        inode.sync()
        if wrong is not None:
            self._doomed[inode] = wrong
        elif inode in self._doomed:
            self._come_true(inode, self._doomed[inode])
        return True

    def _fail_sync(self, inode: Inode) -> None:
        """As Linux does: the pages count as clean although not all reached the disk; the next sync says all is well."""
        for op in inode.pending:
            if self.random.random() < 0.3:
                apply(inode.durable, op)
        inode.pending.clear()
        inode.version += 1
        inode.diverged = True
        if self.options.revert_on_fsync_eio:
            inode.data = bytearray(inode.durable)

    def _goes_wrong(self, path: str, inode: Inode, op: Op) -> Doomed | None:
        """Whether a write that is about to be synced is one to lose, or to put where another record belongs."""
        _, kind, offset, data = op
        if kind != WRITE:
            return None
        assert isinstance(data, bytes)
        lost = self._hits(self.options.lost_write)
        misdirected = not lost and self._hits(self.options.misdirected_write)
        if not (lost or misdirected) or not self._all_free(path, inode, data):
            return None
        former = bytes(inode.durable[offset : offset + len(data)]).ljust(len(data), b"\0")
        if lost:
            return Doomed(offset, data, former, -1)
        # The hard case: a well-formed record in the valid place of another.
        places = [f.offset for f in frames(inode.durable) if self.atlas.may_damage(self.number, f.index)]
        places = [at for at in places if at != offset and at + len(data) <= len(inode.durable)]
        return Doomed(offset, data, former, places[-1]) if places else None

    def _come_true(self, inode: Inode, doomed: Doomed) -> None:
        """Once later bytes prove that the write was synced, it was not, or elsewhere; see flip_bit()."""
        end = doomed.offset + len(doomed.data)
        if inode.durable[doomed.offset : end] != doomed.data:
            # Cut off again, with what else a new leader does not have.
            del self._doomed[inode]
            return
        found = frames(inode.durable)
        newest = max((f.index for f in found if f.is_entry and f.offset < end), default=0)
        if not newest or max(f.evidence for f in found) < newest:
            return
        del self._doomed[inode]
        at = doomed.place
        if at < 0:
            self.count("lost-write")
        elif self._range_free(inode, at, len(doomed.data)):
            self.count("misdirected-write")
            inode.durable[at : at + len(doomed.data)] = doomed.data
        else:
            return
        inode.durable[doomed.offset : end] = doomed.former
        inode.version += 1
        inode.diverged = True

    def _range_free(self, inode: Inode, begin: int, size: int) -> bool:
        hit = [f for f in frames(inode.durable) if f.offset < begin + size and begin < f.offset + f.size]
        return all(self.atlas.may_damage(self.number, f.index) for f in hit)

    # -- the atlas -----------------------------------------------------------------------------------------------------

    def _is_log(self, path: str) -> bool:
        return "/log/dk." in path and path.endswith(".log")

    def _all_free(self, path: str, inode: Inode, data: bytes) -> bool:
        """Whether every record in a write to a log file may go bad here."""
        if not self._is_log(path) or not inode.data.startswith(b"#DKSEG1 "):
            return False
        salt = parse_segment_header(bytes(inode.data[:SEGMENT_HEADER_BYTES]), path).salt
        found = frames_from(data, 0, salt)
        return bool(found) and all(self.atlas.may_damage(self.number, f.index) for f in found)

    def _is_free(self, path: str, inode: Inode, at: int) -> bool:
        frame = next((f for f in frames(inode.data) if f.offset <= at < f.offset + f.size), None)
        return self._is_log(path) and frame is not None and self.atlas.may_damage(self.number, frame.index)

    def flip_bit(self) -> str:
        """Flip one bit of a durable log record that the atlas gives free; says where, or "" when none is.

        Only of a record that later bytes of the log prove to have been synced. No log can tell the rot of its newest
        record, in the moment before the next one or a mark is behind it, from a write that the power cut tore.
        """
        places: list[tuple[str, Inode, Frame]] = []
        proven = 0
        for path in sorted(self.disk.durable_names):
            inode = self.disk.durable_names[path]
            if self._is_log(path):
                found = frames(inode.durable)
                proven = max([proven] + [f.evidence for f in found])
                free = [f for f in found if self.atlas.may_damage(self.number, f.index)]
                places += [(path, inode, f) for f in free if f.is_entry]
        places = [place for place in places if place[2].index <= proven]
        if not places:
            return ""
        path, inode, frame = self.random.choice(places)
        at, bit = frame.offset + self.random.randrange(frame.size), 1 << self.random.randrange(8)
        inode.durable[at] ^= bit
        # The page is not cached any more, or the flip would only show after a restart.
        if at < len(inode.data):
            inode.data[at] ^= bit
        inode.version += 1
        inode.diverged = True
        self.disk.version += 1
        self.count("bit-flip")
        return f"{path} byte {at} of index {frame.index}"
