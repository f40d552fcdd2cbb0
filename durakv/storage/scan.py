"""Reading one segment from its first byte to where it stops making sense.

Rule: a scan only reports; what to do about it is decided in recovery.py. It reads in windows, so its memory does not
grow with the file, and it accepts a frame only when header checksum, place, segment, index, term, body checksum and
chain all fit. It must not write.
"""

from __future__ import annotations

from array import array
from typing import Final

from durakv.storage.entries import TermRuns, entry_of_frame
from durakv.storage.record import HEADER_BYTES, MAGIC, MARK, SEAL, Header, crc, next_chain, parse_header
from durakv.storage.segment import (
    SEGMENT_HEADER_BYTES,
    SegmentHeader,
    parse_segment_header,
    seal_body,
)
from durakv.world.ports import Disk, File

WINDOW_BYTES: Final = 4 << 20


class Window:
    """A moving view of a file; ``view`` returns fewer bytes than asked only at the end of the file."""

    __slots__ = ("_data", "_file", "_start")

    def __init__(self, file: File) -> None:
        self._file = file
        self._data = b""
        self._start = 0

    def view(self, offset: int, size: int) -> bytes:
        """``size`` bytes at ``offset``."""
        at = offset - self._start
        if at < 0 or at + size > len(self._data):
            self._data = self._file.pread(max(size, WINDOW_BYTES), offset)
            self._start = offset
            at = 0
        return self._data[at : at + size]


class SegmentScan:
    """What a segment holds. ``end`` is the offset after the last good frame, ``evidence`` the highest index that some
    good frame proves to have been synced here; the ``later_*`` fields tell of good headers found behind a bad frame.
    """

    def __init__(self, path: str, header: SegmentHeader, file_bytes: int, index: int, term: int, chain: int) -> None:
        self.path = path
        self.header = header
        self.file_bytes = file_bytes
        self.end = SEGMENT_HEADER_BYTES
        self.offsets: array[int] = array("Q")
        self.chains: array[int] = array("I")
        self.last_index = index
        self.last_term = term
        self.last_chain = chain
        self.evidence = 0
        self.sealed = False
        self.bad_reason = ""
        self.tail_is_zero = True
        self.later_headers = 0
        self.later_evidence = 0


def scan_segment(disk: Disk, path: str, runs: TermRuns, *, direct: bool) -> SegmentScan:
    """Scan one segment and add its terms to ``runs``. Raises CorruptionError when its first line is unreadable.

    ``direct`` reads what the disk holds rather than what the page cache believes.
    """
    file = disk.open(path, direct=direct)
    try:
        window = Window(file)
        header = parse_segment_header(window.view(0, SEGMENT_HEADER_BYTES), path)
        scan = SegmentScan(path, header, file.size(), header.base - 1, header.prev_term, header.prev_chain)
        while not scan.sealed and _accept(scan, window, runs):
            pass
        scan.tail_is_zero = _is_zero_from(window, scan.end)
        if scan.tail_is_zero:
            scan.bad_reason = ""
        else:
            scan.bad_reason = scan.bad_reason or "bytes behind the seal"
            _look_behind(scan, window)
        return scan
    finally:
        file.close()


def _accept(scan: SegmentScan, window: Window, runs: TermRuns) -> bool:
    """Take in the frame at ``scan.end``; False, with the reason noted, when it is not a good one."""
    offset = scan.end
    head = window.view(offset, HEADER_BYTES)
    frame = parse_header(head, scan.header.salt) if len(head) == HEADER_BYTES else None
    if frame is None:
        scan.bad_reason = "no valid frame header"
        return False
    if frame.offset != offset or frame.seg != scan.header.number & 0xFFFF:
        scan.bad_reason = f"a frame that belongs at offset {frame.offset} of segment {frame.seg:04x}"
        return False
    body = window.view(offset + HEADER_BYTES, frame.body_len) if frame.body_len else b""
    if len(body) != frame.body_len:
        scan.bad_reason = f"body of {frame.body_len} bytes is cut off after {len(body)}"
        return False
    body_crc = crc(body)
    if body_crc != frame.body_crc:
        scan.bad_reason = f"body crc {body_crc:08x} != {frame.body_crc:08x}"
        return False
    if frame.kind == MARK or frame.kind == SEAL:
        fits = _accept_note(scan, frame, body)
    else:
        fits = _accept_entry(scan, frame, body, runs)
    if not fits:
        scan.bad_reason = f"a frame of index {frame.index} term {frame.term} that does not follow the one before"
        return False
    scan.evidence = max(scan.evidence, frame.synced_evidence())
    scan.end = offset + HEADER_BYTES + frame.body_len
    return True


def _accept_note(scan: SegmentScan, frame: Header, body: bytes) -> bool:
    if frame.index != scan.last_index or frame.chain != scan.last_chain or frame.term != scan.last_term:
        return False
    if frame.kind == MARK:
        return not body
    scan.sealed = body == seal_body(scan.header.base, scan.last_index)
    return scan.sealed


def _accept_entry(scan: SegmentScan, frame: Header, body: bytes, runs: TermRuns) -> bool:
    chain = next_chain(scan.last_chain, frame.index, frame.term, frame.body_crc)
    if frame.index != scan.last_index + 1 or frame.term < scan.last_term or frame.chain != chain:
        return False
    if entry_of_frame(frame.kind, body) is None:
        return False
    runs.append(frame.index, frame.term)
    scan.offsets.append(frame.offset)
    scan.chains.append(chain)
    scan.last_index = frame.index
    scan.last_term = frame.term
    scan.last_chain = chain
    return True


def _is_zero_from(window: Window, offset: int) -> bool:
    while True:
        piece = window.view(offset, WINDOW_BYTES)
        if not piece:
            return True
        if piece.count(0) != len(piece):
            return False
        offset += len(piece)


def _look_behind(scan: SegmentScan, window: Window) -> None:
    """Find headers behind the bad place that are good and in their own place."""
    offset = scan.end + 1
    while True:
        piece = window.view(offset, WINDOW_BYTES)
        if len(piece) < HEADER_BYTES:
            return
        at = piece.find(MAGIC)
        while at >= 0:
            if at + HEADER_BYTES <= len(piece):
                _note_behind(scan, piece[at : at + HEADER_BYTES], offset + at)
            at = piece.find(MAGIC, at + 1)
        # Windows overlap by one header so that none is missed at a seam.
        offset += len(piece) - HEADER_BYTES + 1


def _note_behind(scan: SegmentScan, data: bytes, offset: int) -> None:
    frame = parse_header(data, scan.header.salt)
    if frame is None or frame.offset != offset or frame.seg != scan.header.number & 0xFFFF:
        return
    scan.later_headers += 1
    scan.later_evidence = max(scan.later_evidence, frame.synced_evidence())
