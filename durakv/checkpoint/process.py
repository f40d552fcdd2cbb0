"""The materialiser as a process sees it: lines in, lines out, work in small steps between them.

The server writes one command a line:
``G <stream file> <end offset> <index>``  the file may be read up to there, which is where a frame ends
``C``                                     commit what may be read
``S <index> <id>``                        the same, then write a snapshot; ``index`` is where the server is
``Q``                                     commit what may be read at the end of input, which comes next
``U <number>``                            stream files below this number are about to be deleted
and reads: ``A <index> <live bytes> <duration ms>`` at the start and after each commit; ``S <id> <index> <term>
<subterm> <chain> <size> <path>`` for a snapshot, or, when it failed and the rest goes on, ``X <id> <text>`` and
``S <id>``; ``X 0 <text>`` when the file could not be made smaller; ``E <text>`` when nothing goes on, after which the
process ends.
Rule: reads a stream file only as far as it was told, files in the order of their numbers, and never one again that a
commit covers. It must not know ops or rows. ``now_ms`` is any clock that does not step back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.checkpoint.damage import StreamDamaged
from durakv.checkpoint.frames import FrameReader
from durakv.checkpoint.kv import KvStore
from durakv.checkpoint.materialise import Materialiser
from durakv.checkpoint.place import stream_number
from durakv.checkpoint.snapshot_file import write_snapshot
from durakv.world.ports import Disk, File

_READ_BYTES: Final = 1 << 20
_IDLE_MS: Final = 3_600_000
# Of garbage, after each commit.
_COLLECTIONS_MAX: Final = 8
# Free pages worth nobody's while.
_SLACK_BYTES: Final = 256 << 20


class CommandRefused(Exception):
    """A line the server cannot have meant; its text goes back as an error."""


class _StreamFile:
    """One stream file: told up to ``end``, read up to ``at``."""

    __slots__ = ("at", "end", "file", "name", "number", "reader")

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.at = 0
        self.end = 0
        self.file: File | None = None
        self.reader = FrameReader(name)


class MaterialiserProcess:
    """Give it lines with command(), then call step() while it says True; replies go to ``reply``."""

    def __init__(
        self,
        kv: KvStore,
        disk: Disk,
        now_ms: Callable[[], int],
        reply: Callable[[str], None],
        stream_directory: str,
        checkpoint_directory: str,
        bytes_max: int,
        interval_ms: int,
    ) -> None:
        """Commits after ``bytes_max`` bytes of stream or ``interval_ms``. Raises StorageError, OSError.

        Snapshots go to ``checkpoint_directory``; halves of earlier ones are removed.
        """
        # Whether the end of input was announced.
        self.leaving = False
        self._kv = kv
        self._disk = disk
        self._now_ms = now_ms
        self._reply = reply
        self._stream_directory = stream_directory
        self._checkpoint_directory = checkpoint_directory
        self._bytes_max = bytes_max
        self._interval_ms = interval_ms
        self._keeper = Materialiser(kv)
        # By number; the last one may grow.
        self._files: list[_StreamFile] = []
        self._bytes = 0
        # When the oldest change that is not committed was read.
        self._since_ms = -1
        # Counts commits, and up to which of them it was seen whether the file is too large.
        self._committed = 0
        self._weighed = 0
        for name in disk.listdir(checkpoint_directory):
            if name.endswith(".dksnap.new"):
                disk.unlink(f"{checkpoint_directory}/{name}")
        self._report(0)

    def command(self, line: str) -> None:
        """Obey one line. Raises CommandRefused, StorageError, OSError: then the process must end."""
        words = line.split(" ")
        try:
            if words[0] == "G" and len(words) == 4:
                self._go(words[1], int(words[2]))
            elif words[0] == "C" and len(words) == 1:
                self._read_all()
                self._commit()
            elif words[0] == "S" and len(words) == 3:
                self._read_all()
                self._snapshot(words[2])
            elif words[0] == "Q" and len(words) == 1:
                self.leaving = True
            elif words[0] == "U" and len(words) == 2:
                self._forget(int(words[1]))
            else:
                raise CommandRefused(f"unknown command {line!r}")
        except ValueError:
            raise CommandRefused(f"a number is wrong in {line!r}") from None

    def step(self) -> bool:
        """Do a little of what there is to do; False when that is nothing. Raises StorageError, OSError."""
        if self._read(_READ_BYTES):
            if self._bytes >= self._bytes_max:
                self._commit()
            return True
        if self._since_ms >= 0 and self._now_ms() - self._since_ms >= self._interval_ms:
            self._commit()
            return True
        if self._since_ms < 0 and self._keeper.garbage():
            self._keeper.collect()
            return True
        return self._compacted()

    def wait_ms(self) -> int:
        """After step() said False: how long nothing will be to do unless a line comes."""
        if self._since_ms < 0:
            return _IDLE_MS
        return max(0, self._since_ms + self._interval_ms - self._now_ms())

    def finish(self) -> None:
        """No more lines will come: commit what was read. Raises StorageError, OSError."""
        self._commit()
        for stream in self._files:
            if stream.file is not None:
                stream.file.close()
        self._files = []
        self._kv.close()

    # -- reading --------------------------------------------------------------------------------------------------

    def _go(self, name: str, end: int) -> None:
        number = stream_number(name)
        if number < 0:
            raise CommandRefused(f"{name!r} is no name of a stream file")
        last = self._files[-1] if self._files else None
        if last is None or number > last.number:
            last = _StreamFile(name, number)
            self._files.append(last)
        elif number < last.number:
            raise CommandRefused(f"{name} comes after {last.name}")
        last.end = max(last.end, end)

    def _read_all(self) -> None:
        while self._read(_READ_BYTES):
            pass

    def _read(self, bytes_max: int) -> bool:
        """Take in up to so many bytes of the first file that has some; False when none has."""
        while self._files:
            stream = self._files[0]
            if stream.at < stream.end:
                self._take(stream, bytes_max)
                return True
            if len(self._files) == 1:
                return False
            self._close(stream)
        return False

    def _take(self, stream: _StreamFile, bytes_max: int) -> None:
        if stream.file is None:
            stream.file = self._disk.open(f"{self._stream_directory}/{stream.name}")
        data = stream.file.pread(min(bytes_max, stream.end - stream.at), stream.at)
        if not data:
            raise StreamDamaged(stream.name, f"it ends at byte {stream.at}, frames go on to byte {stream.end}")
        stream.at += len(data)
        stream.reader.feed(data)
        while (frame := stream.reader.next()) is not None:
            if self._keeper.apply(frame) and self._since_ms < 0:
                self._since_ms = self._now_ms()
        if self._since_ms >= 0:
            self._bytes += len(data)
        if stream.at == stream.end and stream.reader.pending_bytes():
            raise StreamDamaged(stream.name, f"no frame ends at byte {stream.end}")

    def _close(self, stream: _StreamFile) -> None:
        self._files.remove(stream)
        if stream.file is not None:
            stream.file.close()

    def _forget(self, number: int) -> None:
        for stream in list(self._files):
            if stream.number < number:
                if stream.at < stream.end:
                    raise CommandRefused(f"{stream.name} is to be deleted and was not read to its end")
                self._close(stream)

    # -- writing --------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        start_ms = self._now_ms()
        self._keeper.commit()
        self._bytes = 0
        self._since_ms = -1
        self._committed += 1
        self._report(self._now_ms() - start_ms)
        # While changes never cease there is no other time for it.
        for _ in range(_COLLECTIONS_MAX):
            if not self._keeper.garbage():
                break
            self._keeper.collect()

    def _compacted(self) -> bool:
        """Have the store make room when most of its file is free pages and there is nothing else to do."""
        if self._since_ms >= 0 or self._committed == self._weighed:
            return False
        self._weighed = self._committed
        if self._kv.file_bytes() <= 2 * self._kv.used_bytes() + _SLACK_BYTES:
            return False
        try:
            self._kv.compact()
        except OSError as error:
            # There may be no room for the copy; all goes on as it was.
            self._reply(f"X 0 {one_line(error)}")
        return True

    def _report(self, duration_ms: int) -> None:
        self._reply(f"A {self._keeper.applied.index} {self._kv.used_bytes()} {duration_ms}")

    def _snapshot(self, number: str) -> None:
        self._commit()
        try:
            info, path = write_snapshot(self._kv, self._disk, self._checkpoint_directory)
        except (OSError, ValueError) as error:
            self._reply(f"X {number} {one_line(error)}")
            self._reply(f"S {number}")
            return
        at = info.applied
        self._reply(f"S {number} {at.index} {at.term} {at.subterm} {at.chain} {info.size} {path}")


def one_line(error: BaseException) -> str:
    """An error's text as the rest of a reply."""
    return " ".join(str(error).split()) or type(error).__name__
