"""``durakv write-rdb <environment> <file> <Unix seconds> <RDB version> [--without-keys|--without-functions|--fsync]``.

Started by the server: reads the checkpoint, writes the file, says ``R <index> <bytes> <keys>`` or ``E <text>``, ends.
Rule: the only place of this package that touches the real world; ends early when the server is gone.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

from durakv import __version__
from durakv.checkpoint.process import one_line
from durakv.rdb.writer import RdbWriter, VersionTooLow
from durakv.replicas.rdb_rows import export_rows
from durakv.storage.errors import EXIT_IO, EXIT_USAGE, StorageError
from durakv.world.ports import Disk, File
from durakv.world.real_disk import RealDisk
from durakv.world.real_kv import open_kv

_WORDS: Final = 4
# The server and its log come first.
_NICE: Final = 5


class FileSink:
    """Implements rdb.writer.Sink."""

    def __init__(self, disk: Disk, path: str) -> None:
        """Raises OSError."""
        self._file: File = disk.open(path, create=True)
        self._file.truncate(0)
        self._at = 0

    def write(self, data: bytes) -> None:
        """See Sink."""
        self._put(data, self._at)
        self._at += len(data)

    def write_start(self, data: bytes) -> None:
        """See Sink."""
        self._put(data, 0)

    def _put(self, data: bytes, at: int) -> None:
        done = 0
        while done < len(data):
            count = self._file.pwrite(data[done:] if done else data, at + done)
            if count <= 0:
                raise OSError("nothing written: the volume is full")
            done += count

    def close(self, *, fsync: bool) -> None:
        """Raises OSError."""
        if fsync:
            self._file.fsync()
        self._file.close()


def main(argv: list[str]) -> int:
    """Write the file; the exit code."""
    options = [word for word in argv if word.startswith("--")]
    words = [word for word in argv if not word.startswith("--")]
    if len(words) != _WORDS:
        sys.stderr.write("write-rdb is started by the server; use SAVE, BGSAVE or redis-cli --rdb\n")
        return EXIT_USAGE
    directory, path, version = words[0], words[1], int(words[3])
    gc.disable()
    os.nice(_NICE)
    try:
        disk = RealDisk(lambda job: job())
        # Its pages are the materialiser's, which may write new ones right now: it has looked at those it began with.
        store = open_kv(directory, write=False)
        sink = FileSink(disk, path)
        writer = RdbWriter(sink, version)
        facts = {"valkey-ver": __version__, "redis-bits": "64", "ctime": words[2], "aof-base": "0"}
        exported = export_rows(
            store, writer, version, facts, keys="--without-keys" not in options,
            functions="--without-functions" not in options,
        )  # fmt: skip
        size = writer.finish()
        sink.close(fsync="--fsync" in options)
        store.close()
    except StorageError as error:
        print(f"E {one_line(error)}", flush=True)  # noqa: T201 - the reply to the server
        return error.exit_code
    except (OSError, ValueError, VersionTooLow) as error:
        print(f"E {one_line(error)}", flush=True)  # noqa: T201 - the reply to the server
        return EXIT_IO
    print(f"R {exported.index} {size} {exported.keys}", flush=True)  # noqa: T201 - the reply to the server
    return 0
