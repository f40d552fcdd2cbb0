"""The log as the core sees it: a durable part read through LogReader and a tail in memory.

Rule: the only place that knows which entries are durable (`stable`), handed to the driver (`handed`) and given out to
apply (`emitted`). An entry leaves memory when it is both durable and emitted, so neither replication nor apply reads
the disk in the steady state. Must not know roles, peers or messages.
"""

from collections import deque
from typing import Final

from raft.storage import CompactedError, LogReader
from raft.types import Entry, SnapshotMeta

# The tail is cut in steps, because deleting from the front of a list costs its whole length.
_TRIM_ENTRIES: Final = 512
_TRIM_BYTES: Final = 1024 * 1024


class RaftLog:
    """Entries first_index() .. last; all positions are log indexes."""

    def __init__(self, storage: LogReader, applied: int, commit: int) -> None:
        self.storage = storage
        self.last = storage.last_index()
        self.last_term = storage.term(self.last)
        self.stable = self.last
        self.handed = self.last
        self.commit = commit
        self.emitted = applied
        self.applied = applied
        # entries[i] has index offset + i; below offset only storage knows.
        self.tail: list[Entry] = []
        self.offset = self.last + 1
        # A snapshot given to the driver that is not durable yet; storage still shows the old log.
        self.pending_snapshot: SnapshotMeta | None = None
        # [seq, last index] of each hand-over not reported durable, clipped when entries under it are replaced.
        self._handovers: deque[list[int]] = deque()
        self._spent_bytes = 0
        self.trim_entries = _TRIM_ENTRIES
        self.trim_bytes = _TRIM_BYTES

    def first_index(self) -> int:
        """The first index whose entry can be read."""
        if self.pending_snapshot is not None:
            return self.pending_snapshot.index + 1
        return self.storage.first_index()

    def term(self, index: int) -> int:
        """Term of `index`. Raises CompactedError or UnavailableError where the log does not reach."""
        if index == self.last:
            return self.last_term
        at = index - self.offset
        if at >= 0:
            if index > self.last:
                raise AssertionError(f"term({index}) past the log's end {self.last}")
            return self.tail[at].term
        if self.pending_snapshot is not None:
            if index == self.pending_snapshot.index:
                return self.pending_snapshot.term
            raise CompactedError(f"index {index} is below the snapshot being installed")
        return self.storage.term(index)

    def last_subterm(self) -> int:
        """Subterm of the last entry, 0 for an empty log; not kept ready, for only elections with a witness ask."""
        if self.tail:
            return self.tail[-1].subterm
        if self.last == 0:
            return 0
        meta = self.pending_snapshot
        if meta is None and self.last >= self.storage.first_index():
            return self.storage.entries(self.last, self.last + 1, 0)[0].subterm
        if meta is None:
            meta = self.storage.snapshot_meta()
        if meta is None or meta.index != self.last:
            raise AssertionError(f"the log ends at {self.last} with neither an entry nor a snapshot there")
        return meta.subterm

    def matches(self, index: int, term: int) -> bool:
        """True if the log has that entry; False also where it was compacted or never written."""
        if index > self.last:
            return False
        try:
            return self.term(index) == term
        except CompactedError:
            return False

    def entries(self, lo: int, hi: int, max_bytes: int) -> list[Entry]:
        """Entries lo .. hi-1, at least one and then while their data fits in max_bytes."""
        offset = self.offset
        if lo >= offset:
            out = self.tail[lo - offset : hi - offset]
            if len(out) > 1:
                size = 0
                for count, entry in enumerate(out):
                    size += len(entry.data)
                    if size > max_bytes and count > 0:
                        del out[count:]
                        break
            return out
        if self.pending_snapshot is not None:
            raise CompactedError(f"index {lo} is below the snapshot being installed")
        stored = self.storage.entries(lo, min(hi, offset), max_bytes)
        if lo + len(stored) < offset or hi <= offset:
            return stored
        room = max_bytes - sum(len(entry.data) for entry in stored)
        for entry in self.tail[: hi - offset]:
            room -= len(entry.data)
            if room < 0:
                break
            stored.append(entry)
        return stored

    def append(self, entry: Entry) -> None:
        """Add one entry at the end."""
        self.tail.append(entry)
        self.last = entry.index
        self.last_term = entry.term

    def append_all(self, entries: list[Entry]) -> None:
        """Add entries that continue the log."""
        self.tail.extend(entries)
        last = entries[-1]
        self.last = last.index
        self.last_term = last.term

    def truncate(self, index: int) -> None:
        """Drop `index` and everything after it, to be replaced at once. Committed entries never go."""
        if index <= self.commit:
            raise AssertionError(f"truncation at {index} would drop entries committed through {self.commit}")
        keep = index - 1
        if index >= self.offset:
            del self.tail[index - self.offset :]
        else:
            self.tail = []
            self.offset = index
        self.stable = min(self.stable, keep)
        self.handed = min(self.handed, keep)
        for handover in self._handovers:
            handover[1] = min(handover[1], keep)
        self.last = keep
        self.last_term = self.tail[-1].term if self.tail else self.term_below_tail(keep)

    def term_below_tail(self, index: int) -> int:
        """Term of the entry just before the tail."""
        if self.pending_snapshot is not None and index == self.pending_snapshot.index:
            return self.pending_snapshot.term
        return self.storage.term(index)

    def restore(self, meta: SnapshotMeta) -> None:
        """Replace the whole log by a snapshot; it counts as durable only when its hand-over is reported done."""
        self.tail = []
        self.offset = meta.index + 1
        self.last = meta.index
        self.last_term = meta.term
        self.commit = meta.index
        self.emitted = meta.index
        self.handed = meta.index
        self.stable = 0
        self.pending_snapshot = meta
        self._handovers.clear()
        self._spent_bytes = 0

    def take_unhanded(self) -> list[Entry]:
        """Entries the driver has not been given yet; counts them as given."""
        if self.handed == self.last:
            return []
        out = self.tail[self.handed + 1 - self.offset :]
        self.handed = self.last
        return out

    def note_handover(self, seq: int) -> None:
        """Everything through `handed` is durable once hand-over `seq` is."""
        self._handovers.append([seq, self.handed])

    def handover_done(self, seq: int, index: int, term: int) -> bool:
        """Hand-over `seq` is durable; True if `stable` moved. (index, term) is what the driver was given last.

        Entries truncated since were clipped off the hand-over, also when the same index was written again: the disk
        may hold the old entry now and the new one only after a later hand-over.
        """
        upto = -1
        while self._handovers and self._handovers[0][0] <= seq:
            upto = self._handovers.popleft()[1]
        if upto < 0 or upto <= self.stable:
            return False
        if upto == index and self.term(index) != term:
            raise AssertionError(f"hand-over {seq} reports term {term} at {index}, the log has {self.term(index)}")
        self.stable = upto
        if self.pending_snapshot is not None and upto >= self.pending_snapshot.index:
            self.pending_snapshot = None
        return True

    def take_committed(self, max_bytes: int) -> list[Entry]:
        """The next committed and durable entries to apply, in order, each exactly once."""
        upto = self.commit if self.commit < self.stable else self.stable
        if upto <= self.emitted:
            return []
        out = self.entries(self.emitted + 1, upto + 1, max_bytes)
        self.emitted = out[-1].index
        for entry in out:
            self._spent_bytes += len(entry.data)
        self._trim()
        return out

    def _trim(self) -> None:
        spent = min(self.stable, self.emitted) + 1 - self.offset
        if spent >= self.trim_entries or (spent > 0 and self._spent_bytes >= self.trim_bytes):
            del self.tail[:spent]
            self.offset += spent
            self._spent_bytes = 0
