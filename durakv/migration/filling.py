"""A full synchronisation: the file is spooled, judged as a whole, and then built up in the emptied databases.

Rule: nothing is proposed before all of the file has been read and found fit; from then on everything goes in slices of
a few milliseconds, and waits while the log has as much as it may have under way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from durakv.engine import source as states
from durakv.engine.batch import Part
from durakv.keyspace.rdb_packed import RdbError
from durakv.migration.keys import PIECE_BYTES, Command, Found, build, survey
from durakv.migration.spool import Spool
from durakv.migration.walk import SteppedRdb
from durakv.rdb.errors import DamagedRdb, UnsupportedRdb

if TYPE_CHECKING:
    from durakv.migration.driver import Importer

# How long one slice may take, and how long others then have the loop.
_SLICE_NS: Final = 3_000_000
_PAUSE_MS: Final = 1
_ITEM_BYTES: Final = 128 << 10
_PART_BYTES: Final = 16
_QUEUED_BYTES_MAX: Final = 8 << 20


class Filling:
    """One file. ``whole``: it has arrived. ``keys``: how many it holds, once it was judged."""

    def __init__(self, importer: Importer, replid: bytes, offset: int) -> None:
        self.whole = False
        self.keys = 0
        self._importer = importer
        self._replid = replid
        self._offset = offset
        self._spool = Spool(importer.disk, importer.directory, f"{offset}.rdb", self._progress)
        self._found = Found()
        self._ends: dict[int, int] = {}
        self._file: SteppedRdb | None = None
        self._survey: Iterator[None] | None = None
        self._build: Iterator[Command | None] | None = None
        self._parts: list[Part] = []
        self._parts_bytes = 0
        # A slice is due, or the disk is about to call.
        self._due = False
        self._closed = False

    def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._spool.close()

    def take(self, data: bytes) -> None:
        """Bytes of the file."""
        self._spool.write(data)
        if self._spool.queued_bytes > _QUEUED_BYTES_MAX:
            self._importer.pause(on=True)

    def complete(self) -> None:
        """The file has arrived."""
        self.whole = True
        self._due = True
        self._spool.settle(self._arrived)

    def _progress(self) -> None:
        """The disk has done something, or could not."""
        error = self._spool.error
        if error is not None:
            self._importer.on_refused(f"its data cannot be spooled: {error}; make room under {self._spool.path}")
        elif not self.whole and self._spool.queued_bytes < _QUEUED_BYTES_MAX // 4:
            self._importer.pause(on=False)

    def _arrived(self) -> None:
        self._due = False
        if not self._spool.sum_is_good():
            self._importer.on_refused("its data was damaged on the way (checksum)")
            return
        try:
            self._file = self._open()
        except (DamagedRdb, UnsupportedRdb) as error:
            self._importer.stop(f"its data cannot be read: {error.reason}")
            return
        self._survey = survey(self._file, self._found)
        self.go_on()

    def _open(self) -> SteppedRdb:
        return SteppedRdb(self._spool, "the source's data", self._ends, keep_bytes_max=PIECE_BYTES)

    # -- slices --------------------------------------------------------------------------------------------------------

    def go_on(self) -> None:
        """Work for a slice, unless one is due anyway."""
        file = self._file
        if self._closed or self._due or file is None:
            return
        if not self._spool.fetched(file.next_read()):
            self._due = True
            self._spool.fetch(file.next_read(), self._again)
            return
        clock = self._importer.clock
        end_ns = clock.monotonic_ns() + _SLICE_NS
        try:
            while clock.monotonic_ns() < end_ns:
                if self._survey is not None:
                    next(self._survey)
                elif not self._build_one():
                    # The log is busy; the importer calls again.
                    return
        except StopIteration:
            if self._pass_over():
                return
        except (DamagedRdb, UnsupportedRdb) as error:
            self._importer.stop(f"its data cannot be read: {error.reason}")
            return
        except (RdbError, IndexError):
            # The source keeps no checksums, or this would have been seen at once.
            self._importer.stop(f"its data cannot be read: a value before byte {file.position()} is damaged")
            return
        except OSError as error:
            self._importer.on_refused(f"its data cannot be read from the spool: {error}")
            return
        self._due = True
        clock.call_later(_PAUSE_MS, self._again)

    def _again(self) -> None:
        self._due = False
        self.go_on()

    def _pass_over(self) -> bool:
        """One of the two passes has ended; True after the second, or when there will be none."""
        importer = self._importer
        if self._survey is None:
            self._send()
            importer.filled(self._replid, self._offset, self._found.stream_db)
            return True
        self._survey = None
        self.keys = self._found.keys
        complaint = self._found.complaint(len(importer.engine.ks.dbs))
        if complaint:
            importer.stop(complaint)
            return True
        self._file = self._open()
        self._build = build(self._file)
        self._add(0, [b"FLUSHALL"])
        self._add(0, [b"FUNCTION", b"FLUSH"])
        parts, self._parts, self._parts_bytes = self._parts, [], 0
        importer.propose(states.BEGIN, parts, 0)
        return False

    def _build_one(self) -> bool:
        """One more command; False when there is no room for it now."""
        if self._parts_bytes >= _ITEM_BYTES:
            if not self._importer.room():
                return False
            self._send()
        assert self._build is not None, "the survey comes first"
        command = next(self._build)
        if command is not None:
            self._add(*command)
        return True

    def _add(self, db: int, argv: list[bytes]) -> None:
        self._parts.append(Part(self._importer.engine.table.find(argv), argv, db))
        self._parts_bytes += _PART_BYTES + sum(len(arg) + 8 for arg in argv)

    def _send(self) -> None:
        if self._parts:
            parts, size = self._parts, self._parts_bytes
            self._parts, self._parts_bytes = [], 0
            self._importer.propose(states.LOAD, parts, size)
