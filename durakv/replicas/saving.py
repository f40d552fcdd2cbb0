"""SAVE and BGSAVE: the state of one log index as an RDB file in the data directory, for tools that expect one there.

Nothing durakv itself does depends on that file. Rule: it is replaced by a rename once it is complete and synced, so
whoever reads it sees a whole one, old or new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.observe.events import Notice
from durakv.replicas.job import Form, Job, Made
from durakv.resp.errors import CommandError
from durakv.resp.types import NO_REPLY, OK, ErrorReply, Reply, Simple

if TYPE_CHECKING:
    from durakv.commands.session import Session
    from durakv.engine.engine import Engine
    from durakv.replication.checkpoints import Checkpoints

STARTED: Final = b"Background saving started"
SCHEDULED: Final = b"Background saving scheduled"
IN_PROGRESS: Final = "ERR Background save already in progress"
NOTHING_TO_CANCEL: Final = "ERR Background saving is currently not in progress or scheduled"
CANCELLED: Final = b"Background saving cancelled"
NEEDS_CHECKPOINT: Final = (
    "ERR an RDB file is written from the checkpoint, and this node keeps none: start it with checkpoints yes, or use "
    "durakv-cli export"
)
_VALKEY_9: Final = 80


class Saving:
    """One node's; implements commands.replica_services.SaveService."""

    def __init__(self, engine: Engine, checkpoints: Checkpoints) -> None:
        self.engine = engine
        self.checkpoints = checkpoints
        self.clock = checkpoints.clock
        # As Redis and Valkey say it before the first one.
        self.last_save_ms = self.clock.wall_ms()
        self.last_ok = True
        self.last_duration_s = -1
        self.saves = 0
        self._units = 0
        self._units_begun = 0
        self._job: Job | None = None
        self._begun_ms = 0
        # Who waits for SAVE.
        self._waiting: list[Session] = []
        # Another one begins when this one ends.
        self._again = False

    def stop(self) -> None:
        """The node stops."""
        self._again = False
        if self._job is not None:
            self._job.cancel("the node stops")

    def save(self, s: Session) -> Reply:
        """See SaveService."""
        if self._job is not None:
            raise CommandError(IN_PROGRESS)
        if self.engine.in_transaction:
            raise CommandError("ERR SAVE cannot be part of a transaction; send it alone, or use BGSAVE")
        s.pending += 1
        s.blocked = True
        self._waiting.append(s)
        self._begin()
        return NO_REPLY

    def begin(self, *, schedule: bool) -> Reply:
        """See SaveService."""
        if self._job is not None:
            if not schedule:
                raise CommandError(IN_PROGRESS)
            self._again = True
            return Simple(SCHEDULED)
        self._begin()
        return Simple(STARTED)

    def cancel(self) -> Reply:
        """See SaveService."""
        if self._job is None:
            raise CommandError(NOTHING_TO_CANCEL)
        self._again = False
        self._job.cancel("it was cancelled")
        return Simple(CANCELLED)

    def running_s(self) -> int:
        """See SaveService."""
        return -1 if self._job is None else (self.clock.wall_ms() - self._begun_ms) // 1000

    def changes(self) -> int:
        """See SaveService."""
        return self.engine.applier.units - self._units

    def _begin(self) -> None:
        self._begun_ms = self.clock.wall_ms()
        self._units_begun = self.engine.applier.units
        path = f"{self.checkpoints.directory}/{self.engine.settings.dbfilename}"
        job = Job(
            self.checkpoints, f"{path}.writing", Form(_VALKEY_9), lambda made, error: self._ended(path, made, error),
            fsync=True,
        )  # fmt: skip
        self._job = job
        job.start()

    def _ended(self, path: str, made: Made | None, error: str) -> None:
        if made is None:
            self._finish(path, error)
            return
        disk = self.checkpoints.disk
        directory = self.checkpoints.directory

        def rename() -> None:
            disk.rename(made.path, path)
            disk.fsync_dir(directory)

        disk.submit(rename, lambda failure: self._finish(path, "" if failure is None else str(failure)))

    def _finish(self, path: str, error: str) -> None:
        now_ms = self.clock.wall_ms()
        self._job = None
        self.last_ok = not error
        self.last_duration_s = (now_ms - self._begun_ms) // 1000
        if error:
            partial = f"{path}.writing"
            if self.checkpoints.disk.exists(partial):
                self.checkpoints.disk.unlink(partial)
            self.engine.observer.event(Notice("save-failed", f"{path}: {error}; what was there before is untouched"))
        else:
            self.saves += 1
            self.last_save_ms = now_ms
            self._units = self._units_begun
        waiting, self._waiting = self._waiting, []
        for s in waiting:
            s.pending -= 1
            s.blocked = False
            if not s.closing:
                self.engine.respond(s, ErrorReply(f"ERR the file was not written: {error}") if error else OK)
        if waiting:
            self.engine.schedule()
        if self._again:
            self._again = False
            self._begin()
