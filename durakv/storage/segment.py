"""One append-only file of frames, and what the log thread does to it.

Rule: the only place that creates, seals, cuts and removes segment files; each method of ``SegmentWriter`` is one step
that leaves the directory recoverable wherever it is interrupted. They run on the log thread (or inline), in lane order.
It must not know Raft, commit, or who is waiting.
"""

from __future__ import annotations

import errno
import re
from array import array
from typing import Final

from durakv.storage.errors import CorruptionError, IdentityError
from durakv.storage.lane import Lane, sync_or_die, sync_timed, write_all
from durakv.storage.record import HEADER_BYTES, crc
from durakv.world.ports import File

SEGMENT_HEADER_BYTES: Final = 256
SEGMENT_BYTES: Final = 64 << 20
SEAL_BODY_BYTES: Final = 41
SEAL_BYTES: Final = HEADER_BYTES + SEAL_BODY_BYTES
FORMAT_VERSION: Final = 1
SPARE_NAME: Final = "dk.spare.tmp"

_LINE = re.compile(
    rb"#DKSEG1 cluster=([0-9a-f]{32}) node=([0-9a-f]{16}) seg=([0-9a-f]{16}) base=([0-9a-f]{16}) pterm=([0-9a-f]{8})"
    rb" pchain=([0-9a-f]{8}) ms=([0-9a-f]{11}) salt=([0-9a-f]{8}) fmt=([0-9a-f]{4}) *"
)
_NAME = re.compile(r"dk\.(\d{20})\.log")


def segment_name(number: int) -> str:
    """File name of segment ``number``; names sort as numbers do."""
    return f"dk.{number:020d}.log"


def segment_number(name: str) -> int | None:
    """The number in a segment's file name, or None for any other name."""
    match = _NAME.fullmatch(name)
    return None if match is None else int(match.group(1))


class SegmentHeader:
    """Line 1 of a segment. ``base`` is the index of its first entry; ``prev_term``/``prev_chain`` belong to base-1."""

    __slots__ = ("base", "cluster_id", "created_ms", "node_id", "number", "prev_chain", "prev_term", "salt")

    def __init__(
        self,
        cluster_id: bytes,
        node_id: int,
        number: int,
        base: int,
        prev_term: int,
        prev_chain: int,
        created_ms: int,
        salt: int,
    ) -> None:
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.number = number
        self.base = base
        self.prev_term = prev_term
        self.prev_chain = prev_chain
        self.created_ms = created_ms
        self.salt = salt

    def encode(self) -> bytes:
        """Exactly 256 bytes, ending in CRLF."""
        text = (
            f"#DKSEG1 cluster={self.cluster_id.hex()} node={self.node_id:016x} seg={self.number:016x}"
            f" base={self.base:016x} pterm={self.prev_term:08x} pchain={self.prev_chain:08x}"
            f" ms={self.created_ms:011x} salt={self.salt:08x} fmt={FORMAT_VERSION:04x}"
        ).encode()
        text = text.ljust(240)
        assert len(text) == 240, "a segment header field is wider than its place"
        return b"%s  crc=%08x\r\n" % (text, crc(text))


def parse_segment_header(data: bytes, path: str) -> SegmentHeader:
    """Line 1 of the segment at ``path``. Raises CorruptionError unless it is exactly what a writer wrote,
    IdentityError for another format version.
    """
    if len(data) != SEGMENT_HEADER_BYTES:
        raise CorruptionError(path, 0, f"the segment has no first line: {len(data)} of {SEGMENT_HEADER_BYTES} bytes")
    match = _LINE.fullmatch(data[:240])
    if match is None or data[240:] != b"  crc=%08x\r\n" % crc(data[:240]):
        raise CorruptionError(path, 0, "the segment's first line fails its checksum")
    numbers = [int(match.group(place), 16) for place in range(2, 10)]
    if numbers[7] != FORMAT_VERSION:
        raise IdentityError(
            f"{path}: segment format {numbers[7]} is not {FORMAT_VERSION}; run the durakv that wrote it"
        )
    return SegmentHeader(
        bytes.fromhex(match.group(1).decode("ascii")),
        numbers[0],
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4],
        numbers[5],
        numbers[6],
    )


def seal_body(base: int, last: int) -> bytes:
    """Body of an S frame: the first index of the segment and the last (base - 1 when it holds none)."""
    return b"#SEAL %016x %016x\r\n" % (base, last)


class Covered:
    """Where a checkpoint ends: the last entry it contains, with the log's digest after it."""

    __slots__ = ("chain", "index", "term")

    def __init__(self, index: int, term: int, chain: int) -> None:
        self.index = index
        self.term = term
        self.chain = chain


class Segment:
    """A segment as the loop thread knows it. ``end`` is where the next frame goes; ``offsets[i]`` is the place of entry
    ``base + i`` and ``chains[i]`` the digest after it.
    """

    __slots__ = ("allocated_bytes", "base", "chains", "end", "file", "header", "number", "offsets", "path", "sealed")

    def __init__(self, header: SegmentHeader, path: str) -> None:
        self.header = header
        self.number = header.number
        self.base = header.base
        self.path = path
        self.end = SEGMENT_HEADER_BYTES
        self.offsets: array[int] = array("Q")
        self.chains: array[int] = array("I")
        self.sealed = False
        # Owned by the log thread while a job that uses the segment is in flight.
        self.file: File | None = None
        self.allocated_bytes = 0

    def last(self) -> int:
        """Index of the last entry here; base - 1 when there is none."""
        return self.base + len(self.offsets) - 1

    def last_chain(self) -> int:
        """Digest after the last entry here."""
        return self.chains[-1] if self.chains else self.header.prev_chain

    def trim_after(self, index: int) -> None:
        """Forget the entries above ``index``; the next frame goes where the first of them was."""
        keep = max(index - self.base + 1, 0)
        if keep < len(self.offsets):
            self.end = self.offsets[keep]
            self.sealed = False
            del self.offsets[keep:]
            del self.chains[keep:]


def droppable(segments: list[Segment], index: int, keep_bytes: int) -> int:
    """How many of the oldest hold nothing above ``index``, less the newest of those up to ``keep_bytes``; never all."""
    count = 0
    while count < len(segments) - 1 and segments[count].sealed and segments[count].last() <= index:
        count += 1
    kept = 0
    while count and kept + segments[count - 1].end <= keep_bytes:
        kept += segments[count - 1].end
        count -= 1
    return count


class SegmentWriter:
    """The log thread's hands."""

    def __init__(self, lane: Lane, directory: str, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._lane = lane
        self._disk = lane.disk
        self.directory = directory
        self.segment_bytes = segment_bytes
        self._spare: File | None = None
        self._spare_bytes = 0

    def prepare_spare(self, size: int) -> None:
        """Have an allocated file of at least ``size`` bytes ready to become the next segment."""
        if self._spare is not None and self._spare_bytes >= size:
            return
        if self._spare is None:
            self._spare = self._disk.open(f"{self.directory}/{SPARE_NAME}", create=True)
        self._spare.fallocate(0, size)
        self._spare_bytes = size

    def start(self, segment: Segment, size: int) -> None:
        """Turn the spare into ``segment``. Its first line is durable before its name is: a named segment is a good
        one.
        """
        self.prepare_spare(size)
        spare = self._file_of(self._spare, segment)
        write_all(self._lane, segment.path, spare.pwrite, segment.header.encode(), 0)
        sync_or_die(spare.fsync, segment.path)
        self._disk.rename(f"{self.directory}/{SPARE_NAME}", segment.path)
        self._spare = None
        segment.file = spare
        segment.allocated_bytes = self._spare_bytes
        self._sync_directory()

    def write(self, segment: Segment, data: bytes, offset: int) -> None:
        """Put frames at ``offset``, allocating first when a cut or a restart gave the space back."""
        file = self._file_of(segment.file, segment)
        needed = offset + len(data)
        if segment.allocated_bytes < needed:
            size = max(self.segment_bytes, needed)
            file.fallocate(offset, size - offset)
            segment.allocated_bytes = size
        write_all(self._lane, segment.path, file.pwrite, data, offset)

    def sync(self, segment: Segment) -> None:
        """Make all of the segment's frames durable."""
        sync_timed(self._lane, self._file_of(segment.file, segment).fdatasync, segment.path)

    def seal(self, segment: Segment, length: int) -> None:
        """The S frame has been written: make it durable, then give back the space behind it."""
        self.sync(segment)
        file = self._file_of(segment.file, segment)
        file.truncate(length)
        sync_or_die(file.fsync, segment.path)
        segment.allocated_bytes = length

    def cut(self, segment: Segment, offset: int, doomed: list[Segment]) -> None:
        """Remove everything from ``offset`` of ``segment`` on. ``doomed`` are the later segments, oldest first.

        They go newest first, each unlink durable before the next, so that a crash never leaves a gap in the middle.
        """
        try:
            for late in reversed(doomed):
                self._remove(late)
            file = self._file_of(segment.file, segment)
            file.truncate(offset)
            segment.allocated_bytes = offset
            file.fsync()
        except OSError as error:
            # A half-done cut has no safe retry; only appending may wait for space.
            raise OSError(errno.EIO, f"cannot cut the log: {error}", segment.path) from error

    def drop(self, covered: list[Segment], archive: str, refused: list[OSError]) -> None:
        """Take the oldest segments out of ``covered`` and remove them, each unlink durable before the next, so that a
        crash never leaves a gap.

        With ``archive``, a directory, each gets a second name there first; where that fails, which says nothing of the
        log's own medium, it and the rest stay, and ``refused`` says why.
        """
        while covered:
            old = covered[0]
            if archive and self._disk.exists(old.path):
                try:
                    self._archive(old, archive)
                except OSError as error:
                    refused.append(error)
                    return
            self._remove(old)
            del covered[0]

    def _archive(self, old: Segment, archive: str) -> None:
        if not self._disk.exists(archive):
            self._disk.mkdir(archive)
            self._disk.fsync_dir(archive.rpartition("/")[0] or "/")
        name = f"{archive}/{segment_name(old.number)}"
        if not self._disk.exists(name):
            self._disk.link(old.path, name)
            self._disk.fsync_dir(archive)

    def replace(self, doomed: list[Segment], fresh: Segment) -> None:
        """A snapshot stands in for the whole log: begin ``fresh``, which is empty, then remove what was before.

        There is a log at any time: one that ends before the checkpoint does, which recovery replaces, or the fresh
        one, behind segments that recovery does not look at.
        """
        self.start(fresh, self.segment_bytes)
        for old in doomed:
            self._remove(old)

    def trim(self, segment: Segment) -> None:
        """Cut the zero tail at a clean stop, so that a foreign loader can read the file."""
        file = self._file_of(segment.file, segment)
        file.truncate(segment.end)
        segment.allocated_bytes = segment.end
        sync_or_die(file.fsync, segment.path)

    def discard_spare(self) -> None:
        """Remove the spare at a clean stop."""
        if self._spare is not None:
            self._spare.close()
            self._spare = None
            self._disk.unlink(f"{self.directory}/{SPARE_NAME}")
            self._sync_directory()

    def _remove(self, segment: Segment) -> None:
        if self._disk.exists(segment.path):
            self._disk.unlink(segment.path)
            self._sync_directory()
        if segment.file is not None:
            segment.file.close()
            segment.file = None

    def _sync_directory(self) -> None:
        sync_or_die(lambda: self._disk.fsync_dir(self.directory), self.directory)

    def _file_of(self, file: File | None, segment: Segment) -> File:
        assert file is not None, f"segment {segment.number} is used before it was started"
        return file
