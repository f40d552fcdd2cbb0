"""The log and the checkpoint behind it as one history, which is what Raft reads.

Rule: the only place that says which entries have become a snapshot; it never writes. What the log does not hold any
more is CompactedError, and the snapshot that stands in for it comes from ``snapshots``.
"""

from __future__ import annotations

from typing import Protocol

from durakv.storage.log import Log
from raft.storage import CompactedError, UnavailableError
from raft.types import Entry, EntryKind, Membership, SnapshotMeta


class SnapshotSource(Protocol):
    """Files that hold a checkpoint for others."""

    def meta(self) -> SnapshotMeta | None:
        """A snapshot that can be sent now; asks for one to be made if there is none that reaches the log."""

    def chunk(self, id: int, offset: int, size: int) -> bytes:
        """See LogReader.snapshot_chunk."""


class NoSnapshots:
    """For a node without checkpoints, whose log reaches back to the first entry."""

    def meta(self) -> SnapshotMeta | None:
        """There is none."""
        return None

    def chunk(self, id: int, offset: int, size: int) -> bytes:
        """There is none."""
        raise UnavailableError(f"no snapshot {id} to read {size} bytes at {offset} from")


class GroupLog:
    """Implements raft's LogReader. ``base`` names the checkpoint the node started from, or installed since."""

    def __init__(self, log: Log[Entry], base: SnapshotMeta | None) -> None:
        self.log = log
        self.base = base
        self.snapshots: SnapshotSource = NoSnapshots()

    def first_index(self) -> int:
        """See LogReader."""
        return self.log.first_index()

    def last_index(self) -> int:
        """See LogReader."""
        return self.log.last_index()

    def term(self, index: int) -> int:
        """See LogReader."""
        if index < self.log.first_index() - 1:
            raise CompactedError(f"index {index} is below the log's start {self.log.first_index()}")
        if index > self.log.last_index():
            raise UnavailableError(f"index {index} is past the log's end {self.log.last_index()}")
        return self.log.term(index)

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        """See LogReader."""
        if lo < self.log.first_index():
            raise CompactedError(f"index {lo} is below the log's start {self.log.first_index()}")
        return self.log.entries(lo, hi, max_bytes)

    def snapshot_meta(self) -> SnapshotMeta | None:
        """See LogReader. Without one to send, the node's own: nobody can read its bytes, but it names the history."""
        return self.snapshots.meta() or self.base

    def snapshot_chunk(self, id: int, offset: int, size: int) -> bytes:
        """See LogReader."""
        return self.snapshots.chunk(id, offset, size)

    def memberships(self) -> list[tuple[int, Membership]]:
        """The checkpoint's membership and every later one in the log, oldest first; reads the log behind it."""
        base = self.base
        out = [(0, Membership())] if base is None else [(base.index, base.membership)]
        at = max(self.log.first_index(), out[0][0] + 1)
        while at <= self.log.last_index():
            for entry in self.log.entries(at, self.log.last_index() + 1, 1 << 20):
                if entry.kind == EntryKind.CONFIG:
                    out.append((entry.index, Membership.decode(entry.data)))
                at = entry.index + 1
        return out
