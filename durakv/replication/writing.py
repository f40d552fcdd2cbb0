"""What Readys hand to the disk, in the order they were taken, and what leaves once that is durable. [compiled]

Rule: the only place that gives entries, hard states and snapshots to the storage of a running node. A hard state goes
first, then entries; what promises durability leaves when both are synced. While a snapshot is installed everything
later waits. It must not know the protocol: neither what messages mean nor when a hard state has to be written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from durakv.storage.hardstate import HardState, HardStateFile
from durakv.storage.log import Log
from raft.messages import Snapshot
from raft.types import Entry, SnapshotMeta
from raft.types import HardState as Promised

if TYPE_CHECKING:
    from durakv.replication.snapshots import Snapshots

M = TypeVar("M")

# A sync that takes longer would be felt by clients of this node; it then goes to the log thread.
_INLINE_SYNC_US_MAX: Final = 2000
_LEADER_INLINE_US_MAX: Final = 200


class _Both:
    """Calls ``then`` when done() was called twice, with the first error if there was one."""

    def __init__(self, then: Callable[[OSError | None], None]) -> None:
        self.then = then
        self.left = 2
        self.error: OSError | None = None

    def done(self, error: OSError | None) -> None:
        """One of the two ended."""
        self.left -= 1
        self.error = self.error or error
        if self.left == 0:
            self.then(self.error)


class Handed(Generic[M]):
    """One Ready's part. ``hard``: what has to be durable with it, None when nothing of that kind has."""

    __slots__ = ("after", "chunks", "entries", "hard", "snapshot")

    def __init__(
        self, entries: list[Entry], hard: Promised | None, after: list[M], chunks: list[Snapshot],
        snapshot: SnapshotMeta | None,
    ) -> None:  # fmt: skip
        self.entries = entries
        self.hard = hard
        self.after = after
        self.chunks = chunks
        self.snapshot = snapshot


class Writing(Generic[M]):
    """One node's. ``pending``: hand-overs under way, 0 = the disk has nothing of this node's to do.

    ``send(messages)``: they may leave now. ``to_write(promised)``: the state to write for it, None when the one on disk
    will do. ``caught_up()``: a hand-over ended. ``changed()``: an installation began or ended.
    """

    def __init__(
        self, log: Log[Entry], hardstate: HardStateFile, log_sync: str, send: Callable[[list[M]], None],
        to_write: Callable[[Promised], HardState | None], caught_up: Callable[[], None], changed: Callable[[], None],
    ) -> None:  # fmt: skip
        self.log = log
        self.hardstate = hardstate
        self.log_sync = log_sync
        self.send = send
        self.to_write = to_write
        self.caught_up = caught_up
        self.changed = changed
        self.pending = 0
        # Whether clients wait for this node's loop, which must then not wait for a slow disk.
        self.leading = False
        # The store is closing: nothing may reach the log any more.
        self.stopped = False
        # Set where checkpoints are kept.
        self.snapshots: Snapshots | None = None
        # Taken while a snapshot is installed; None when none is.
        self.installing: list[Handed[M]] | None = None

    def take(
        self, entries: list[Entry], hard: Promised | None, after: list[M], chunks: list[Snapshot],
        snapshot: SnapshotMeta | None,
    ) -> None:  # fmt: skip
        """What a Ready hands over; see Handed."""
        if self.installing is not None:
            # Readys are made durable in the order they were taken.
            self.installing.append(Handed(entries, hard, after, chunks, snapshot))
            return
        if chunks or snapshot is not None:
            self._take_snapshot(Handed(entries, hard, after, chunks, snapshot))
            return
        self._write(entries, hard, after)

    def _take_snapshot(self, handed: Handed[M]) -> None:
        assert self.snapshots is not None, "a snapshot for a node that keeps no checkpoint"
        for chunk in handed.chunks:
            self.snapshots.receive(chunk)
        if handed.snapshot is None:
            self._write(handed.entries, handed.hard, handed.after)
            return
        self.installing = []
        self.pending += 1
        self.changed()
        self.snapshots.install(handed.snapshot, lambda error: self._installed(handed, error))

    def _installed(self, handed: Handed[M], error: OSError | None) -> None:
        """A snapshot is durable and in memory, and the log goes on behind it."""
        self.pending -= 1
        if error is not None or self.stopped:
            return
        queued, self.installing = self.installing or [], None
        self._write(handed.entries, handed.hard, handed.after)
        for later in queued:
            self.take(later.entries, later.hard, later.after, later.chunks, later.snapshot)
        self.changed()
        self.caught_up()

    def _write(self, entries: list[Entry], hard: Promised | None, after: list[M]) -> None:
        state = None if hard is None else self.to_write(hard)
        if not entries and state is None:
            if after:
                if self.pending:
                    self.pending += 1
                    self.log.append([], lambda error: self._written(error, after))
                else:
                    self.send(after)
            return
        self.pending += 1
        if state is not None:
            # The log may still hold entries of earlier Readys in memory, so `after` waits for both: the hard state
            # first, then everything appended so far.
            self.pending += 1
            both = _Both(lambda error: self._written(error, after))
            self.hardstate.write(state, lambda error: self._half(both, error))
            self.log.append(entries, both.done)
        elif self._sync_here():
            self.log.append_inline(entries, lambda error: self._written(error, after))
        else:
            self.log.append(entries, lambda error: self._written(error, after))

    def hint(self, state: HardState) -> None:
        """Write ``state``, which nothing waits for."""
        self.pending += 1
        self.hardstate.write(state, lambda error: self._written(error, []))

    def _sync_here(self) -> bool:
        """Whether to write on the loop, which saves two thread switches. A follower has little else to do meanwhile; a
        leader has clients waiting for reads, and a slow disk must not hold up heartbeats.
        """
        if self.log_sync == "inline" or self.log.lazy():
            return True
        if self.log_sync != "auto":
            return False
        return self.log.lane.stats.smooth_us < (_LEADER_INLINE_US_MAX if self.leading else _INLINE_SYNC_US_MAX)

    def _half(self, both: _Both, error: OSError | None) -> None:
        self.pending -= 1
        both.done(error)

    def _written(self, error: OSError | None, after: list[M]) -> None:
        """A hand-over ended. After an error the lane has already told the owner, who stops the node."""
        self.pending -= 1
        if error is not None:
            return
        if after:
            self.send(after)
        self.caught_up()
