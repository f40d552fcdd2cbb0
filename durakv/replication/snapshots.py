"""A checkpoint as a file for members whose log ends too early: made, sent, received, installed.

Rule: the only place that replaces the state of a running node. A received file is checked as a whole before anything
reads it; what it replaces goes only after the checkpoint it holds is durable and named, and whoever crashes in between
finds the rest of the work at its next start (storage/recovery.py).
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.checkpoint.load import Loader
from durakv.checkpoint.materialise import adopt
from durakv.checkpoint.place import checkpoint_directory, environment, read_current, write_current
from durakv.checkpoint.resume import follow
from durakv.checkpoint.snapshot_file import SnapshotInfo, read_header, unpack_snapshot
from durakv.observe.events import Notice
from durakv.storage.errors import EXIT_IO, StorageError
from durakv.storage.segment import Covered
from raft.storage import UnavailableError
from raft.types import Membership, SnapshotMeta

if TYPE_CHECKING:
    from durakv.checkpoint.kv import OpenKv
    from durakv.engine.beside import Beside
    from durakv.replication.checkpoints import Checkpoints
    from durakv.replication.group_log import GroupLog
    from durakv.world.ports import Clock, Disk, File
    from raft.messages import Snapshot

# A file nobody read for this long goes: it holds as much space as the data.
_KEEP_MS: Final = 600_000
_LOAD_ROWS: Final = 5000
_OUTGOING: Final = ".dksnap"
_INCOMING: Final = "incoming.dksnap"


class SnapshotRefused(StorageError):
    """The volume does not take what this node needs to go on."""

    exit_code = EXIT_IO


Done = Callable[[OSError | None], None]


class Snapshots:
    """One node's; implements SnapshotSource."""

    def __init__(
        self, checkpoints: Checkpoints, beside: Beside, group_log: GroupLog, disk: Disk, clock: Clock, open_kv: OpenKv
    ) -> None:  # fmt: skip
        self.checkpoints = checkpoints
        self.beside = beside
        self.group_log = group_log
        self.disk = disk
        self.clock = clock
        self.open_kv = open_kv
        self.folder = checkpoint_directory(checkpoints.directory)
        self.ready: SnapshotMeta | None = None
        self.path = ""
        self.file: File | None = None
        self.asked = False
        self.last_id = 0
        self.read_ns = 0
        self.incoming: File | None = None
        self.installs = 0
        checkpoints.on_snapshot = self._made

    def start(self) -> None:
        """Remove what an earlier run left."""
        self.disk.mkdir(self.folder)
        for name in self.disk.listdir(self.folder):
            if name.endswith((_OUTGOING, _OUTGOING + ".new")):
                self.disk.unlink(f"{self.folder}/{name}")
        self.clock.call_later(_KEEP_MS, self._tidy)

    # -- sending -----------------------------------------------------------------------------------------------------

    def meta(self) -> SnapshotMeta | None:
        """See SnapshotSource."""
        ready = self.ready
        if ready is not None and ready.index >= self.group_log.first_index() - 1:
            return ready
        if self.asked:
            return None
        self.checkpoints.wake()
        if self.checkpoints.child is not None:
            self.asked = True
            self.last_id += 1
            self.checkpoints.flush()
            self.checkpoints.child.send(f"S {self.checkpoints.capture.index} {self.last_id}")
        return None

    def _made(self, line: str) -> None:
        words = line.split(" ", 7)
        if words[0] == "X":
            self.checkpoints.observer.event(Notice("snapshot-failed", line[2:]))
            return
        self.asked = False
        if len(words) != 8:
            # It failed, and why was said before.
            return
        path = words[7]
        file = self.disk.open(path)
        info = read_header(file, path)
        self._drop()
        self.path = path
        self.file = file
        self.read_ns = self.clock.monotonic_ns()
        at = info.applied
        self.ready = SnapshotMeta(at.index, at.term, at.subterm, Membership.decode(info.membership), int(words[1]))

    def _forget_others(self, directory: str) -> None:
        """Remove the files of environments that are no longer the checkpoint."""
        for name in self.disk.listdir(self.folder):
            place = f"{self.folder}/{name}"
            if name.startswith("env-") and place != directory:
                for inner in self.disk.listdir(place):
                    self.disk.unlink(f"{place}/{inner}")

    def chunk(self, id: int, offset: int, size: int) -> bytes:
        """See SnapshotSource."""
        if self.ready is None or self.ready.id != id or self.file is None:
            self.meta()
            raise UnavailableError(f"snapshot {id} is not there any more")
        self.read_ns = self.clock.monotonic_ns()
        return self.file.pread(size, offset)

    def _drop(self) -> None:
        self.ready = None
        if self.file is not None:
            self.file.close()
            self.file = None
            self.disk.unlink(self.path)

    def _tidy(self) -> None:
        self.clock.call_later(_KEEP_MS, self._tidy)
        if self.ready is not None and self.clock.monotonic_ns() - self.read_ns > _KEEP_MS * 1_000_000:
            self._drop()

    # -- receiving ---------------------------------------------------------------------------------------------------

    def receive(self, chunk: Snapshot) -> None:
        """The next piece of a snapshot, or the first of another one."""
        path = f"{self.folder}/{_INCOMING}"
        try:
            if chunk.offset == 0 or self.incoming is None:
                if self.incoming is not None:
                    self.incoming.close()
                self.incoming = self.disk.open(path, create=True)
                self.incoming.truncate(0)
            data, at = chunk.data, chunk.offset
            while data:
                count = self.incoming.pwrite(data, at)
                if count <= 0:
                    raise OSError(errno.ENOSPC, "nothing written", path)
                data, at = data[count:], at + count
        except OSError as e:
            raise SnapshotRefused(
                f"{path}: the snapshot that the leader sends cannot be stored: {e}; make room on the volume, then "
                "start this node again"
            ) from e

    def install(self, meta: SnapshotMeta, done: Done) -> None:
        """Become what the received file says; ``done`` when it is durable, in memory, and the log begins behind it."""
        if not self.checkpoints.log.idle():
            # What was appended before is superseded, but its writes must not come after the new log's.
            self.checkpoints.log.append([], lambda error: self.install(meta, done) if error is None else done(error))
            return
        checkpoints = self.checkpoints
        checkpoints.pause()
        number = (read_current(self.disk, checkpoints.directory) or 0) + 1
        place = environment(checkpoints.directory, number)
        found: list[SnapshotInfo] = []
        refused: list[StorageError] = []

        def unpack() -> None:
            try:
                info = self._unpack(place, meta)
            except StorageError as e:
                refused.append(e)
                return
            write_current(self.disk, checkpoints.directory, number)
            found.append(info)

        def unpacked(error: OSError | None) -> None:
            if error is not None:
                refused.append(StorageError(
                    f"{place}: the snapshot cannot be unpacked: {error}; free some space or mend the disk, then start "
                    "this node again"
                ))  # fmt: skip
            if refused:
                # The memory of this node is as before, but Raft's log is the snapshot's by now: it cannot go on.
                raise refused[0]
            self._begin(found[0], meta, place, done)

        self.disk.submit(unpack, unpacked)

    def _begin(self, info: SnapshotInfo, meta: SnapshotMeta, place: str, done: Done) -> None:
        log = self.checkpoints.log
        if not log.idle():
            # It has left a mark meanwhile, which must not come after the new log either.
            log.append([], lambda error: self._begin(info, meta, place, done) if error is None else done(error))
            return
        at = info.applied
        covered = Covered(at.index, at.term, at.chain)
        log.begin_after(covered, lambda error: self._begun(meta, place, error, done))

    def _unpack(self, place: str, meta: SnapshotMeta) -> SnapshotInfo:
        """On the log thread: the received file as an environment of this node. Raises StorageError, OSError."""
        path = f"{self.folder}/{_INCOMING}"
        assert self.incoming is not None
        self.incoming.fsync()
        self.incoming.close()
        self.incoming = None
        info = unpack_snapshot(self.disk, path, place)
        at = info.applied
        if (at.index, at.term) != (meta.index, meta.term):
            raise StorageError(
                f"{path}: ends at index {at.index} term {at.term}, announced was {meta.index} term {meta.term}; start "
                "this node again to fetch another one"
            )
        store = self.open_kv(place, write=True)
        try:
            adopt(store, self.checkpoints.engine.node_id)
        finally:
            store.close()
        self.disk.fsync_dir(self.folder)
        return info

    def _begun(self, meta: SnapshotMeta, directory: str, error: OSError | None, done: Done) -> None:
        if error is not None:
            done(error)
            return
        applier = self.checkpoints.engine.applier
        applier.ks.empty()
        if applier.on_flush is not None:
            applier.on_flush()
        self.beside.clear()
        rows: list[tuple[bytes, bytes]] = []
        store = self.open_kv(directory, write=False)
        loader = Loader(store, applier.ks, lambda name, blob: rows.append((name, blob)))

        def more() -> None:
            if loader.step(_LOAD_ROWS):
                # Heartbeats and clients of this node get their turn.
                self.clock.call_soon(more)
                return
            store.close()
            loaded = loader.loaded
            self.beside.take(rows)
            applier.resume(loaded.applied.index, loaded.applied.ts_ms)
            self.group_log.base = meta
            self._drop()
            self.installs += 1
            self.checkpoints.go_on(follow(applier.ks, self.beside, loaded))
            self.disk.unlink(f"{self.folder}/{_INCOMING}")
            self._forget_others(directory)
            done(None)

        more()
