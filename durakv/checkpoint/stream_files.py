"""The files of the effect stream, on the server's side: appended to, never synced, removed when a checkpoint has them.

Rule: the only place that writes them. After a start there are none: the log makes them again from where the
checkpoint ends.
"""

from __future__ import annotations

import errno
from typing import Final

from durakv.checkpoint.place import stream_directory, stream_name
from durakv.world.ports import Disk, File

FILE_BYTES: Final = 64 << 20


class StreamFiles:
    """``files`` are (name, bytes, last index) of those that still hold something, oldest first."""

    def __init__(self, disk: Disk, directory: str, file_bytes: int = FILE_BYTES) -> None:
        self._disk = disk
        self.folder = stream_directory(directory)
        self._file_bytes = file_bytes
        self._number = 0
        self._file: File | None = None
        self.files: list[tuple[str, int, int]] = []

    def begin(self) -> None:
        """Remove what an earlier run left."""
        self._disk.mkdir(self.folder)
        self.close()
        for name in self._disk.listdir(self.folder):
            self._disk.unlink(f"{self.folder}/{name}")
        self.files = []

    def append(self, frame: bytes, index: int) -> tuple[str, int]:
        """Write a frame that ends at ``index``; returns its file and where in it the next one begins."""
        if self._file is None or self.files[-1][1] >= self._file_bytes:
            self.close()
            self._number += 1
            name = stream_name(self._number)
            self._file = self._disk.open(f"{self.folder}/{name}", create=True)
            self.files.append((name, 0, 0))
        name, size, _ = self.files[-1]
        written = 0
        while written < len(frame):
            count = self._file.pwrite(frame[written:] if written else frame, size + written)
            if count <= 0:
                raise OSError(errno.EIO, "nothing written", f"{self.folder}/{name}")
            written += count
        self.files[-1] = (name, size + len(frame), index)
        return name, size + len(frame)

    def bytes_held(self) -> int:
        """Bytes no checkpoint is known to have."""
        total = 0
        for _, size, _ in self.files:
            total += size
        return total

    def drop_through(self, index: int) -> None:
        """A checkpoint has everything up to ``index``."""
        while self.files and self.files[0][2] <= index:
            if len(self.files) == 1:
                # Nothing is left to read; the next frame begins another file.
                self.close()
            self._disk.unlink(f"{self.folder}/{self.files[0][0]}")
            del self.files[0]

    def close(self) -> None:
        """Nothing is appended for now."""
        if self._file is not None:
            self._file.close()
            self._file = None
