"""The file of a full synchronisation on its way through the disk: written as it comes, then read piece by piece.

Rule: every call that may block runs on the disk's lane; what the loop reads lies in memory already, if ``fetch`` was
asked for it before. The file holds nothing that the source could not send again, so it is never synced and goes with
the connection it came over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from durakv.rdb.crc64 import Crc64

if TYPE_CHECKING:
    from durakv.world.ports import Disk, File

_WRITE_BYTES: Final = 256 << 10
# What the loop reads ahead; the reader's own window is half of it.
FETCH_BYTES: Final = 8 << 20
_SUM_BYTES: Final = 8


class Spool:
    """One file. ``queued_bytes`` came in and are not written yet; ``error`` is why it is of no use any more."""

    def __init__(self, disk: Disk, directory: str, name: str, on_progress: Callable[[], None]) -> None:
        """``on_progress``: something was written, or has failed."""
        self._disk = disk
        self._directory = directory
        self.path = f"{directory}/{name}"
        self._on_progress = on_progress
        self._file: File | None = None
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._size = 0
        self.queued_bytes = 0
        self.error: OSError | None = None
        self._closed = False
        self._sum = Crc64()
        # The last bytes are the sum itself.
        self._last = b""
        self._ahead = b""
        self._ahead_at = 0
        self._fetching = False
        self._submit(self._open)

    # -- writing -----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Take bytes in order."""
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= _WRITE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand everything taken to the disk."""
        data = b"".join(self._waiting)
        self._waiting = []
        self._waiting_bytes = 0
        if not data:
            return
        summed = self._last + data
        self._last = summed[-_SUM_BYTES:]
        self._sum.update(summed[:-_SUM_BYTES])
        at = self._size
        self._size += len(data)
        self.queued_bytes += len(data)

        def written() -> None:
            self.queued_bytes -= len(data)

        self._submit(lambda: self._write(data, at), written)

    def sum_is_good(self) -> bool:
        """Whether the last bytes are the checksum of all before them; a sum of zero says that there is none."""
        stored = int.from_bytes(self._last, "little")
        return stored in (0, self._sum.value())

    def settle(self, then: Callable[[], None]) -> None:
        """Call ``then`` once everything is written and the beginning can be read."""
        self.flush()
        self._submit(lambda: None, lambda: self.fetch(0, then))

    def close(self) -> None:
        """Remove the file; nothing is called any more."""
        if not self._closed:
            self._closed = True
            self._ahead = b""
            self._disk.submit(self._remove, _nothing_more)

    # -- reading: a ByteSource ---------------------------------------------------------------------------------------

    def size(self) -> int:
        """Bytes taken so far."""
        return self._size

    def pread(self, size: int, offset: int) -> bytes:
        """From memory when it was fetched, else from the file."""
        begin = offset - self._ahead_at
        end = min(begin + size, self._size - self._ahead_at)
        if begin >= 0 and end <= len(self._ahead):
            return self._ahead[begin:end]
        assert self._file is not None, "settle() has been waited for"
        return self._file.pread(size, offset)

    def fetched(self, offset: int) -> bool:
        """Whether the next reads from ``offset`` on will not block; if not, begin to fetch."""
        end = self._ahead_at + len(self._ahead)
        return self._ahead_at <= offset and (end >= self._size or offset + FETCH_BYTES // 2 <= end)

    def fetch(self, offset: int, then: Callable[[], None]) -> None:
        """Bring the bytes from ``offset`` on into memory, then call ``then``."""
        if self._fetching:
            return
        self._fetching = True
        found: list[bytes] = []

        def arrived() -> None:
            self._fetching = False
            self._ahead_at, self._ahead = offset, found[0]
            then()

        self._submit(lambda: found.append(self._read(offset)), arrived)

    # -- on the lane -------------------------------------------------------------------------------------------------

    def _submit(self, job: Callable[[], None], after: Callable[[], None] | None = None) -> None:
        def done(error: OSError | None) -> None:
            if self._closed:
                return
            if error is not None:
                self.error = self.error or error
            elif after is not None:
                after()
            self._on_progress()

        self._disk.submit(job, done)

    def _open(self) -> None:
        self._disk.mkdir(self._directory)
        # What an earlier run left behind.
        for name in self._disk.listdir(self._directory):
            self._disk.unlink(f"{self._directory}/{name}")
        self._file = self._disk.open(self.path, create=True)

    def _write(self, data: bytes, at: int) -> None:
        if self._file is None:
            raise OSError(f"{self.path} could not be opened")
        done = self._file.pwrite(data, at)
        while done < len(data):
            done += self._file.pwrite(data[done:], at + done)

    def _read(self, offset: int) -> bytes:
        assert self._file is not None, "written before it is read"
        return self._file.pread(FETCH_BYTES, offset)

    def _remove(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
            self._disk.unlink(self.path)


def _nothing_more(error: OSError | None) -> None:
    """A file that stays behind is removed by the next one."""
