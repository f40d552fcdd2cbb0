"""When what changed is written down, how far the checkpoint is, and what the log may therefore forget.

The server writes frames of row changes to the effect stream; a process of its own, the materialiser, brings them into
LMDB and says how far it is. It may die at any time: its rows always end at one index, and it goes on from there.
Rule: the only place that talks to the materialiser and that drops log. Nothing acknowledged depends on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.checkpoint.materialise import found
from durakv.checkpoint.place import checkpoint_directory, environment, read_current, stream_directory, write_current
from durakv.checkpoint.stream_files import StreamFiles
from durakv.observe.events import Notice
from raft.types import Entry, EntryKind

if TYPE_CHECKING:
    from durakv.checkpoint.capture import Capture
    from durakv.checkpoint.kv import OpenKv
    from durakv.config.settings import Settings
    from durakv.engine.engine import Engine
    from durakv.observe.events import Observer
    from durakv.storage.log import Log
    from durakv.world.ports import Child, Clock, Disk, Spawn

# What changed becomes a frame when so many commands have run: few enough for nobody to wait long behind them.
_FRAME_UNITS: Final = 64
# Frames are brought into the stream this long after the first change, or when there are so many bytes of them.
_FRAME_MS: Final = 10
_WRITE_BYTES: Final = 1 << 16
# After the first frame the materialiser is started; a server that serves for a moment only never needs one.
_PATIENCE_MS: Final = 2000
_RETRY_MS: Final = 500
_BACK_OFF_MS: Final = (100, 1000, 5000, 30_000)
# A materialiser that lags this much is asked to hurry.
_HURRY_BYTES: Final = 512 << 20

Saved = Callable[[str], None]


class Checkpoints:
    """One node's. ``saved_index`` is what the checkpoint holds, ``saved_ms`` when that was learned, Unix ms."""

    def __init__(
        self, engine: Engine, capture: Capture, log: Log[Entry], disk: Disk, clock: Clock, observer: Observer,
        settings: Settings, spawn: Spawn, open_kv: OpenKv, cluster_id: bytes,
    ) -> None:  # fmt: skip
        self.engine = engine
        self.cluster_id = cluster_id
        self.capture = capture
        self.log = log
        self.disk = disk
        self.clock = clock
        self.observer = observer
        self.settings = settings
        self.spawn = spawn
        self.open_kv = open_kv
        self.directory = str(settings.dir)
        self.files = StreamFiles(disk, self.directory)
        self.child: Child | None = None
        self.failures = 0
        self.saved_index = capture.index
        self.saved_ms = clock.wall_ms()
        self.duration_ms = 0
        self.used_bytes = 0
        self.saves = 0
        self.last_failed = False
        self.timer = False
        self.last: Entry | None = None
        self.archive_error = ""
        # Frames that are not in the stream yet, and the index they lead to.
        self.unwritten: list[bytes] = []
        self.unwritten_bytes = 0
        self.unwritten_index = 0
        self.refused = False
        self.units_seen = 0
        self.stopped = False
        self.paused = False
        # The materialiser is going to be started.
        self.starting = False
        # Counts materialisers: what one that was replaced still says does not count.
        self.generation = 0
        self.hurried = False
        # (index, whom to tell) of those who asked for all so far to be in the checkpoint.
        self.waiting: list[tuple[int, Saved]] = []
        # Called with what the materialiser says of a snapshot file it was asked for.
        self.on_snapshot: Callable[[str], None] | None = None
        # Called first when the node stops.
        self.on_stop: list[Callable[[], None]] = []
        # Called when this node's state was replaced as a whole.
        self.on_new_capture: Callable[[Capture], None] | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Forget the old stream; the materialiser is started when there is something for it."""
        if read_current(self.disk, self.directory) is None:
            number = 1
            while self.disk.exists(environment(self.directory, number)):
                # A start that was interrupted; nothing in there counts.
                number += 1
            self._found(number)
        self.files.begin()

    def _found(self, number: int) -> None:
        """An empty checkpoint, for a node that starts with its log alone."""
        place = environment(self.directory, number)
        self.disk.mkdir(place)
        # Log will go because of what is in there, so the name it goes by must last.
        self.disk.fsync_dir(self.directory)
        store = self.open_kv(place, write=True)
        found(store, self.cluster_id, self.engine.node_id, len(self.engine.ks.dbs))
        store.close()
        self.disk.fsync_dir(place)
        self.disk.fsync_dir(checkpoint_directory(self.directory))
        write_current(self.disk, self.directory, number)

    def wake(self) -> None:
        """Somebody waits for what only the materialiser can give: start it now, unless it has just failed."""
        if self.child is None and self.failures == 0:
            self._spawn()

    def _spawn(self) -> None:
        self.starting = False
        if self.stopped or self.paused or self.child is not None:
            return
        settings = self.settings
        self.generation += 1
        generation = self.generation
        number = read_current(self.disk, self.directory)
        assert number is not None
        args = [
            "materialise", stream_directory(self.directory), checkpoint_directory(self.directory),
            environment(self.directory, number), str(int(settings.checkpoint_bytes)),
            str(int(settings.checkpoint_interval) * 1000),
        ]  # fmt: skip
        try:
            child = self.spawn(
                args,
                lambda line: self._line(line) if generation == self.generation else None,
                lambda code: self._ended(code, generation),
            )
        except OSError as e:
            self.observer.event(Notice("checkpoint-failed", f"the materialiser cannot be started: {e}"))
            self._again()
            return
        self.child = child
        for name, size, index in self.files.files:
            child.send(f"G {name} {size} {index}")
        if self.waiting:
            child.send("C")

    def stop(self) -> None:
        """The node stops: the materialiser writes what it was told and leaves."""
        for stop in self.on_stop:
            stop()
        self.stopped = True
        self._answer(len(self.waiting), "ERR the node stops")
        if self.child is not None:
            # Without this word the end of its input means that the server died, and it must not write any more.
            self.child.send("Q")
            self.child.close()
            self.child = None
        self.files.close()

    def pause(self) -> None:
        """A snapshot is about to take the checkpoint's place: end the materialiser for now."""
        child, self.child = self.child, None
        # What it still says does not count, nor that it ended.
        self.generation += 1
        self.paused = True
        if child is not None:
            child.kill()

    def go_on(self, capture: Capture) -> None:
        """It has: begin again from there."""
        self.capture = capture
        self.last = None
        self._wrote_all()
        self.saved_index = capture.index
        self.saved_ms = self.clock.wall_ms()
        self.paused = False
        self._answer(len(self.waiting), "ERR a snapshot has replaced this node's data")
        self.files.begin()
        if self.on_new_capture is not None:
            self.on_new_capture(capture)

    def _ended(self, code: int, generation: int) -> None:
        if self.stopped or self.paused or generation != self.generation:
            return
        self.child = None
        self.last_failed = True
        self.hurried = False
        self.observer.event(
            Notice("checkpoint-failed", f"the materialiser ended with exit code {code} and is started again; the "
                   "checkpoint is as it was, and the log is kept from there")
        )  # fmt: skip
        self._again()

    def _again(self) -> None:
        delay_ms = _BACK_OFF_MS[min(self.failures, len(_BACK_OFF_MS) - 1)]
        self.failures += 1
        self._start_in(delay_ms)

    def _start_in(self, delay_ms: int) -> None:
        if not self.starting:
            self.starting = True
            self.clock.call_later(delay_ms, self._spawn)

    # -- writing down ------------------------------------------------------------------------------------------------

    def applied(self, entries: list[Entry]) -> None:
        """These entries were applied just now."""
        self.last = entries[-1]
        for entry in entries:
            if entry.kind == EntryKind.CONFIG:
                self.capture.beside.membership = entry.data
        units = self.engine.applier.units
        if units - self.units_seen >= _FRAME_UNITS and not self.refused:
            self._capture()
            if self.unwritten_bytes >= _WRITE_BYTES:
                self._write_out()
        self._arm()

    def _timer(self) -> None:
        self.timer = False
        self.flush()

    def flush(self) -> None:
        """Write down all that was applied."""
        if self.stopped or self.paused or self.engine.applier.in_entry:
            return
        # While the volume refuses, what changes stays marked, which costs no more however long it takes.
        if not self.refused or self._write_out():
            self._capture()
            self._write_out()

    def _capture(self) -> None:
        last = self.last
        if last is None or self.stopped or self.paused or self.engine.applier.in_entry:
            return
        if last.index <= self.capture.index:
            return
        self.units_seen = self.engine.applier.units
        frame = self.capture.frame(last.index, last.term, last.subterm, self.log.chain(last.index))
        self.unwritten.append(frame)
        self.unwritten_bytes += len(frame)
        self.unwritten_index = last.index

    def _write_out(self) -> bool:
        """Bring frames into the stream; False while the volume refuses."""
        if not self.unwritten:
            return True
        frames = self.unwritten[0] if len(self.unwritten) == 1 else b"".join(self.unwritten)
        try:
            name, size = self.files.append(frames, self.unwritten_index)
        except OSError as e:
            self.unwritten = [frames]
            if not self.refused:
                self.refused = True
                text = f"changes cannot be written down: {e}; free some space"
                self.observer.event(Notice("checkpoint-failed", text))
            self._arm()
            return False
        index = self.unwritten_index
        self._wrote_all()
        if self.child is not None:
            self.child.send(f"G {name} {size} {index}")
        else:
            self._start_in(_PATIENCE_MS)
        return True

    def _wrote_all(self) -> None:
        self.unwritten = []
        self.unwritten_bytes = 0
        self.refused = False

    def _arm(self) -> None:
        if not self.timer:
            self.timer = True
            self.clock.call_later(_RETRY_MS if self.refused else _FRAME_MS, self._timer)

    def second(self) -> None:
        """Once a second: ask for haste when what is not in the checkpoint grows."""
        if self.log.archive_error != self.archive_error:
            self.archive_error = self.log.archive_error
            if self.archive_error:
                text = f"log segments are kept, for archive-dir does not take them: {self.archive_error}"
                self.observer.event(Notice("archive-failed", text))
        if self.child is None or self.hurried:
            return
        if self.lag_bytes() > _HURRY_BYTES or 2 * self.log.bytes_held() > int(self.settings.log_max):
            self.hurried = True
            self.child.send("C")

    def save(self, then: Saved) -> None:
        """Bring all that is applied into the checkpoint, then ``then("")``, or with an error text."""
        self.flush()
        if self.capture.index <= self.saved_index:
            then("")
            return
        self.waiting.append((self.capture.index, then))
        if self.child is not None:
            self.child.send("C")
        else:
            self.wake()

    # -- how far it is -----------------------------------------------------------------------------------------------

    def _line(self, line: str) -> None:
        words = line.split()
        if not words:
            return
        if words[0] == "A" and len(words) == 4:
            self._advanced(int(words[1]), int(words[2]), int(words[3]))
        elif words[0] in ("S", "X"):
            if self.on_snapshot is not None:
                self.on_snapshot(line)
        elif words[0] == "E":
            self.observer.event(Notice("checkpoint-failed", line[2:]))
        else:
            self.observer.event(Notice("checkpoint-failed", f"the materialiser said {line!r}"))

    def _advanced(self, index: int, used_bytes: int, duration_ms: int) -> None:
        if index < self.saved_index:
            raise AssertionError(f"the checkpoint went from index {self.saved_index} back to {index}")
        self.saved_index = index
        self.saved_ms = self.clock.wall_ms()
        self.used_bytes = used_bytes
        self.duration_ms = duration_ms
        self.saves += 1
        self.failures = 0
        self.last_failed = self.hurried = False
        try:
            self.files.drop_through(index)
        except OSError as e:
            self.observer.event(Notice("checkpoint-failed", f"the effect stream cannot be shortened: {e}"))
        ripe = 0
        while ripe < len(self.waiting) and self.waiting[ripe][0] <= index:
            ripe += 1
        self._answer(ripe, "")
        self.forget_log()

    def _answer(self, count: int, error: str) -> None:
        ripe = self.waiting[:count]
        del self.waiting[:count]
        for _, then in ripe:
            then(error)

    def forget_log(self) -> None:
        """Drop log that the checkpoint covers and no follower that is away for a while is likely to want."""
        archive = str(self.settings.archive_dir)
        self.log.drop_through(self.saved_index, int(self.settings.log_follower_keep), archive)

    def lag_bytes(self) -> int:
        """Changes that are not in the checkpoint."""
        return self.files.bytes_held()

    def refusal(self) -> str | None:
        """Why writes are refused: the log would grow without end."""
        limit = int(self.settings.log_max)
        held = self.log.bytes_held()
        if held <= limit:
            return None
        return (
            f"MISCONF the log holds {held >> 20} MiB, log-max is {limit >> 20} MiB, and the checkpoint lags "
            f"{self.lag_bytes() >> 20} MiB behind; writes disabled, reads served: see why in this node's log"
        )
