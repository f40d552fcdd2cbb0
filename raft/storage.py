"""What the core reads of the durable log, as a protocol, and an in-memory log that honours it.

Rule: the core only reads here; all writing is done by the driver from a Ready. last_index() may count entries handed
to the driver that are not fsynced yet, so the core never asks for an entry it still holds as unstable.
"""

from typing import Protocol

from raft.types import Entry, Membership, SnapshotMeta


class CompactedError(Exception):
    """The entry was compacted away; a snapshot has to stand in for it."""


class UnavailableError(Exception):
    """The log has no such entry, or no such snapshot is readable now; retry later or with a newer one."""


class LogReader(Protocol):
    """The durable log of one group as the core sees it. Calls are synchronous and should be cheap."""

    def first_index(self) -> int:
        """The first index whose entry can be read; 1 for a log never compacted."""
        ...

    def last_index(self) -> int:
        """The last index appended, the snapshot's index if the log is empty, 0 if there is neither."""
        ...

    def term(self, index: int) -> int:
        """The term at first_index()-1 .. last_index(); 0 at index 0. Raises CompactedError, UnavailableError."""
        ...

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        """Entries lo .. hi-1, at least one and then while their data fits. Raises CompactedError, UnavailableError."""
        ...

    def snapshot_meta(self) -> SnapshotMeta | None:
        """The newest durable snapshot, None if there is none."""
        ...

    def snapshot_chunk(self, id: int, offset: int, size: int) -> bytes:
        """Up to `size` bytes at `offset`; fewer only at the end. Raises UnavailableError if `id` is gone."""
        ...


class MemoryLog:
    """A LogReader in memory, with the writing half a test or an ephemeral node needs."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._base_index = 0
        self._base_term = 0
        self._meta: SnapshotMeta | None = None
        self._data = b""

    def first_index(self) -> int:
        """See LogReader."""
        return self._base_index + 1

    def last_index(self) -> int:
        """See LogReader."""
        return self._base_index + len(self._entries)

    def term(self, index: int) -> int:
        """See LogReader."""
        if index < self._base_index:
            raise CompactedError(f"index {index} is below the log's start {self._base_index + 1}")
        if index > self.last_index():
            raise UnavailableError(f"index {index} is past the log's end {self.last_index()}")
        if index == self._base_index:
            return self._base_term
        return self._entries[index - self._base_index - 1].term

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        """See LogReader."""
        if lo <= self._base_index:
            raise CompactedError(f"index {lo} is below the log's start {self._base_index + 1}")
        if hi > self.last_index() + 1:
            raise UnavailableError(f"index {hi - 1} is past the log's end {self.last_index()}")
        out: list[Entry] = []
        size = 0
        for entry in self._entries[lo - self._base_index - 1 : hi - self._base_index - 1]:
            size += len(entry.data)
            if out and size > max_bytes:
                break
            out.append(entry)
        return out

    def snapshot_meta(self) -> SnapshotMeta | None:
        """See LogReader."""
        return self._meta

    def snapshot_chunk(self, id: int, offset: int, size: int) -> bytes:
        """See LogReader."""
        if self._meta is None or self._meta.id != id:
            raise UnavailableError(f"snapshot {id} was replaced")
        return self._data[offset : offset + size]

    def append(self, entries: list[Entry]) -> None:
        """Append, first dropping every entry at or after the first new one."""
        if not entries:
            return
        first = entries[0].index
        if first <= self._base_index or first > self.last_index() + 1:
            raise ValueError(f"append at {first} does not touch the log {self._base_index + 1}..{self.last_index()}")
        del self._entries[first - self._base_index - 1 :]
        self._entries.extend(entries)

    def create_snapshot(self, index: int, membership: Membership, snapshot_id: int, data: bytes) -> SnapshotMeta:
        """Record a snapshot of the state at `index`, which the log must hold; compacts nothing."""
        entry = self.entries(index, index + 1, 0)[0]
        self._meta = SnapshotMeta(index, entry.term, entry.subterm, membership, snapshot_id)
        self._data = data
        return self._meta

    def compact(self, index: int) -> None:
        """Drop entries through `index`, which a snapshot must cover."""
        if self._meta is None or index > self._meta.index:
            raise ValueError(f"compacting through {index} needs a snapshot there")
        if index > self._base_index:
            self._base_term = self.term(index)
            del self._entries[: index - self._base_index]
            self._base_index = index

    def install(self, meta: SnapshotMeta, data: bytes) -> None:
        """Replace everything by a snapshot received from the leader."""
        self._entries = []
        self._base_index = meta.index
        self._base_term = meta.term
        self._meta = meta
        self._data = data

    def copy(self) -> "MemoryLog":
        """An independent image, as a disk would show it after a crash."""
        out = MemoryLog()
        out._entries = list(self._entries)
        out._base_index = self._base_index
        out._base_term = self._base_term
        out._meta = self._meta
        out._data = self._data
        return out
