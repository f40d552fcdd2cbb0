"""What can still be read of a damaged segment: every frame that is whole, wherever it lies.

Rule: takes nothing on trust and reads only. A frame's header counts when its checksum, seeded with the segment's salt,
its segment and its place fit. Where the first line with the salt is gone, the salt is worked out from the frames
themselves, and believed when at least two agree. It must not know what is done with the frames.
"""

from __future__ import annotations

from typing import Final

from durakv.storage.entries import TermRuns, entry_of_frame
from durakv.storage.errors import CorruptionError
from durakv.storage.record import HEADER_BYTES, MAGIC, MARK, SEAL, Header, crc, parse_header
from durakv.storage.scan import SegmentScan, Window, scan_segment
from durakv.storage.segment import SEGMENT_HEADER_BYTES, SegmentHeader, segment_name
from durakv.world.ports import Disk

_PIECE_BYTES: Final = 1 << 20
# Of a frame's header, what its checksum covers, and where that stands.
_TEXT_BYTES: Final = 117
_CRC_DIGITS: Final = slice(118, 126)
_CRC_BITS: Final = 32
# So many headers are enough to agree on a salt.
_WITNESSES_MAX: Final = 64
_WITNESSES_MIN: Final = 2


class Frame:
    """A frame whose header is right. ``sound``: its body is too; otherwise the header alone says what was there."""

    __slots__ = ("header", "sound")

    def __init__(self, header: Header, *, sound: bool) -> None:
        self.header = header
        self.sound = sound

    @property
    def end(self) -> int:
        """Offset behind the frame."""
        return self.header.offset + HEADER_BYTES + self.header.body_len

    def note(self) -> bool:
        """Whether it takes no index."""
        return self.header.kind in (MARK, SEAL)


class Survivor:
    """A segment file. ``scan`` is None when its first line is unreadable; then ``salt`` is worked out, None when
    even that is not possible. ``frames()`` reads the file.
    """

    def __init__(self, disk: Disk, log: str, number: int) -> None:
        """Raises IdentityError, OSError."""
        self.disk = disk
        self.number = number
        self.name = segment_name(number)
        self.path = f"{log}/{self.name}"
        self.scan: SegmentScan | None = None
        self.fault = ""
        self._frames: list[Frame] | None = None
        try:
            self.scan = scan_segment(disk, self.path, TermRuns(), direct=True)
            self.salt: int | None = self.scan.header.salt
        except CorruptionError as error:
            self.fault = error.detail
            self.salt = _salt(disk, self.path, number)

    @property
    def header(self) -> SegmentHeader | None:
        """Its first line, None when that is unreadable."""
        return None if self.scan is None else self.scan.header

    def closed(self) -> bool:
        """Whether it is whole and ends in its seal."""
        scan = self.scan
        return scan is not None and not scan.bad_reason and scan.sealed and scan.file_bytes == scan.end

    def frames(self) -> list[Frame]:
        """All frames whose headers are right, in the order of their places. Raises OSError."""
        if self._frames is None:
            self._frames = [] if self.salt is None else _frames(self.disk, self.path, self.number, self.salt)
        return self._frames

    def first_index(self) -> int:
        """The lowest index that it is known to begin with or before; 0 when nothing says."""
        if self.scan is not None:
            return self.scan.header.base
        return next((frame.header.index for frame in self.frames() if not frame.note()), 0)


def _frames(disk: Disk, path: str, number: int, salt: int) -> list[Frame]:
    file = disk.open(path, direct=True)
    try:
        window = Window(file)
        found = []
        at = SEGMENT_HEADER_BYTES
        while at >= 0:
            header = _header_at(window, at, number, salt)
            if header is None:
                at = _next_magic(window, at + 1)
                continue
            frame = Frame(header, sound=_sound(window, header))
            found.append(frame)
            # A body that is not whole may hide the frames that were written over it.
            at = frame.end if frame.sound else at + HEADER_BYTES
        return found
    finally:
        file.close()


def _header_at(window: Window, at: int, number: int, salt: int) -> Header | None:
    head = window.view(at, HEADER_BYTES)
    header = parse_header(head, salt) if len(head) == HEADER_BYTES else None
    if header is None or header.offset != at or header.seg != number & 0xFFFF:
        return None
    return header


def _sound(window: Window, header: Header) -> bool:
    body = window.view(header.offset + HEADER_BYTES, header.body_len) if header.body_len else b""
    if len(body) != header.body_len or crc(body) != header.body_crc:
        return False
    return header.kind in (MARK, SEAL) or entry_of_frame(header.kind, body) is not None


def _next_magic(window: Window, at: int) -> int:
    """Where the magic stands next, from ``at`` on; -1 for nowhere."""
    while len(piece := window.view(at, _PIECE_BYTES)) >= len(MAGIC):
        place = piece.find(MAGIC)
        if place >= 0:
            return at + place
        at += len(piece) - len(MAGIC) + 1
    return -1


# -- a salt that was lost ----------------------------------------------------------------------------------------------


def _salt(disk: Disk, path: str, number: int) -> int | None:
    """The salt with which most of the frames' checksums are right; None unless two agree."""
    votes: dict[int, int] = {}
    inverse = _inverse()
    file = disk.open(path, direct=True)
    try:
        window = Window(file)
        at = _next_magic(window, 0)
        while at >= 0 and sum(votes.values()) < _WITNESSES_MAX:
            salt = _salt_of(window.view(at, HEADER_BYTES), inverse)
            if salt is not None and _header_at(window, at, number, salt) is not None:
                votes[salt] = votes.get(salt, 0) + 1
            at = _next_magic(window, at + 1)
    finally:
        file.close()
    best = max(votes, key=lambda salt: votes[salt], default=None)
    return best if best is not None and votes[best] >= _WITNESSES_MIN else None


def _salt_of(head: bytes, inverse: list[tuple[int, int, int]]) -> int | None:
    """The only seed with which this header's checksum is right."""
    try:
        stored = int(head[_CRC_DIGITS], 16)
    except ValueError:
        return None
    if len(head) != HEADER_BYTES:
        return None
    # A checksum is linear in its seed: what the seed added, taken back through the inverse.
    wanted = stored ^ crc(head[:_TEXT_BYTES])
    salt = 0
    for lead, seed, added in inverse:
        if wanted & lead:
            wanted ^= added
            salt ^= seed
    return salt


def _inverse() -> list[tuple[int, int, int]]:
    """(leading bit, seed, what that seed adds to the checksum) in an order that takes any sum of them apart."""
    zeros = bytes(_TEXT_BYTES)
    plain = crc(zeros)
    rows = [(1 << bit, crc(zeros, 1 << bit) ^ plain) for bit in range(_CRC_BITS)]
    done: list[tuple[int, int, int]] = []
    for bit in reversed(range(_CRC_BITS)):
        lead = 1 << bit
        place = next(place for place, (_, added) in enumerate(rows) if added & lead)
        seed, added = rows.pop(place)
        rows = [(s ^ seed, a ^ added) if a & lead else (s, a) for s, a in rows]
        done.append((lead, seed, added))
    return done
