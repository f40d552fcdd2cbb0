"""What a member keeps, in memory for its Raft core to read and in its file: the write queue between the two.

Rule: the only place that decides what the next disk job is. One job at a time; what is handed over meanwhile becomes
the next one, so however many changes come in, each waits for two syncs at most. Messages that promise something leave
after the job that holds it. Must not know what entries mean or who leads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.holder import record
from durakv.holder.journal import Journal
from durakv.holder.record import Image
from durakv.storage.errors import IdentityError
from durakv.storage.lane import Lane
from raft.messages import Message, Snapshot
from raft.ready import Ready
from raft.storage import MemoryLog
from raft.types import Entry, Membership, SnapshotMeta

# Entries kept behind a snapshot, for members that lag a little.
KEPT_ENTRIES: Final = 64
_ALL_BYTES: Final = 1 << 62


class DurableLog:
    """The log, hard state and newest snapshot of a member. ``send`` takes messages whose promise is durable now;
    ``snapshot`` gives (applied index, membership there, the state's bytes) when the file is to be made anew.
    """

    def __init__(
        self, lane: Lane, directory: str, cluster_id: bytes, member_id: int, send: Callable[[list[Message]], None],
        snapshot: Callable[[], tuple[int, Membership, bytes]],
    ) -> None:  # fmt: skip
        """Reads the file; blocks. Raises StorageError or OSError."""
        self.journal, image = Journal.open(lane, directory, cluster_id, member_id)
        self.hard_state = image.hard_state
        self.state = image.data
        self.log = _memory_log(image)
        self._cluster_id = cluster_id
        self._member_id = member_id
        self._send = send
        self._snapshot = snapshot
        self._writing = False
        self._closing: Callable[[], None] | None = None
        self._closed = False
        # Handed over and not yet part of a job.
        self._vote_changed = False
        self._entries: list[Entry] = []
        self._install = False
        self._after: list[Message] = []
        # Chunks of a snapshot that is being received.
        self._chunks: list[bytes] = []
        last = self.log.last_index()
        if self.log.term(last) > self.hard_state.term or self.hard_state.commit > last:
            raise IdentityError(
                f"{directory}: the log ends at {last} in term {self.log.term(last)}, which does not go with term "
                f"{self.hard_state.term} and commit {self.hard_state.commit}: part of it is lost; replace this member "
                "by one with a new id"
            )

    def received(self, rd: Ready) -> bytes | None:
        """Keep the chunks of a snapshot; its bytes when it is to be installed."""
        for chunk in rd.snapshot_chunks:
            self._chunk(chunk)
        if rd.snapshot is None:
            return None
        data, self._chunks = b"".join(self._chunks), []
        self.log.install(rd.snapshot, data)
        self.state = data
        self._entries = []
        self._install = True
        return data

    def _chunk(self, chunk: Snapshot) -> None:
        if chunk.offset == 0:
            self._chunks = []
        self._chunks.append(chunk.data)

    def hand_over(self, rd: Ready) -> None:
        """Make durable what the Ready says, after what came before; call received() first."""
        if rd.hard_state is not None:
            old, new = self.hard_state, rd.hard_state
            if new.term < old.term or (new.term == old.term and old.vote not in (0, new.vote)):
                raise AssertionError(f"{old!r} may not become {new!r}: a vote would be taken back")
            self._vote_changed |= (new.term, new.vote) != (old.term, old.vote)
            self.hard_state = new
        if rd.entries:
            self.log.append(rd.entries)
            self._entries.extend(rd.entries)
        self._after.extend(rd.after_persist)

    def flush(self) -> None:
        """Begin the next job, if there is something to write and none is under way."""
        if self._writing or self._closed:
            return
        if self._install:
            self._replace(self._image(), must=True)
        elif self._entries or self._vote_changed:
            payload = record.records(self.hard_state, self._entries)
            self._writing = True
            after = self._take()
            self.journal.append(payload, lambda error: self._done(error, after))
        elif self._after:
            # Nothing new to write, and all that came before is written.
            self._send(self._take())
        elif self.journal.length_bytes >= self.journal.replace_at_bytes:
            self._compact()

    def close(self, done: Callable[[], None]) -> None:
        """Write nothing more; ``done`` when the file is closed, perhaps at once."""
        self._closed = True
        self._closing = done
        if not self._writing:
            self._close()

    def _close(self) -> None:
        self.journal.close()
        assert self._closing is not None
        self._closing()

    def _take(self) -> list[Message]:
        after, self._after = self._after, []
        self._entries = []
        self._vote_changed = False
        self._install = False
        return after

    def _image(self) -> Image:
        """The file starts at the snapshot; entries kept before it are kept in memory alone."""
        log = self.log
        meta, last = log.snapshot_meta(), log.last_index()
        first = 1 if meta is None else meta.index + 1
        entries = log.entries(first, last + 1, _ALL_BYTES) if last >= first else []
        return Image(self._cluster_id, self._member_id, self.hard_state, meta, self.state, entries)

    def _replace(self, image: Image, *, must: bool) -> None:
        self._writing = True
        after = self._take()
        self.journal.replace(image, lambda error: self._done(error, after), must=must)

    def _compact(self) -> None:
        index, membership, state = self._snapshot()
        meta = self.log.snapshot_meta()
        if index > (0 if meta is None else meta.index):
            self.log.create_snapshot(index, membership, index, state)
            self.state = state
            self.log.compact(max(self.log.first_index() - 1, index - KEPT_ENTRIES))
        self._replace(self._image(), must=False)

    def _done(self, error: OSError | None, after: list[Message]) -> None:
        self._writing = False
        if self._closed:
            self._close()
            return
        if error is not None:
            # The lane has told the owner, who ends the process; nothing is promised any more.
            self._closed = True
            return
        if after:
            self._send(after)
        self.flush()


def _memory_log(image: Image) -> MemoryLog:
    log = MemoryLog()
    meta: SnapshotMeta | None = image.meta
    if meta is not None:
        log.install(meta, image.data)
    log.append(image.entries)
    return log
