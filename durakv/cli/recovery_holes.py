"""Frames behind damage: what of a segment can be read from where a checkpoint ends, although not what precedes it.

Rule: takes nothing on trust. A frame counts when its header, place and body are right and its running digest goes on
from the checkpoint's; so an entry that is missing or was replaced is noticed. It must not know what is done with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from durakv.storage.entries import entry_of_frame
from durakv.storage.errors import CorruptionError
from durakv.storage.record import HEADER_BYTES, MAGIC, MARK, SEAL, FrameBuilder, crc, next_chain, parse_header
from durakv.storage.scan import SegmentScan, Window
from durakv.storage.segment import SEGMENT_HEADER_BYTES, Covered, SegmentHeader, seal_body
from durakv.world.ports import Disk

_PIECE_BYTES: Final = 1 << 20


def scan_behind(disk: Disk, scan: SegmentScan, covered: Covered) -> SegmentScan | None:
    """The frames from entry ``covered.index + 1`` on to the segment's end, as a scan whose first entry that is; None
    when any of them is damaged, or there is none, or the checkpoint does not say how to prove them. Raises OSError.
    """
    if not covered.chain:
        return None
    old = scan.header
    header = SegmentHeader(
        old.cluster_id, old.node_id, old.number, covered.index + 1, covered.term, covered.chain, old.created_ms,
        old.salt,
    )  # fmt: skip
    rest = SegmentScan(scan.path, header, scan.file_bytes, covered.index, covered.term, covered.chain)
    file = disk.open(scan.path, direct=True)
    try:
        window = Window(file)
        rest.end = _first(window, scan, covered)
        if not rest.end:
            return None
        while not rest.sealed and _take(rest, window, old.base):
            pass
        ends_well = _zero_from(window, rest.end)
        return rest if ends_well and rest.last_index > covered.index else None
    finally:
        file.close()


def _first(window: Window, scan: SegmentScan, covered: Covered) -> int:
    """The offset of the first entry behind the checkpoint; 0 for none."""
    offset = scan.end + 1
    while len(piece := window.view(offset, _PIECE_BYTES)) >= HEADER_BYTES:
        at = piece.find(MAGIC)
        while at >= 0:
            frame = parse_header(piece[at : at + HEADER_BYTES], scan.header.salt)
            if (
                frame is not None
                and frame.offset == offset + at
                and frame.seg == scan.header.number & 0xFFFF
                and frame.kind not in (MARK, SEAL)
                and frame.index == covered.index + 1
            ):
                return offset + at
            at = piece.find(MAGIC, at + 1)
        # Pieces overlap by one header, so that none is missed at a seam.
        offset += len(piece) - HEADER_BYTES + 1
    return 0


def _take(rest: SegmentScan, window: Window, base: int) -> bool:
    """Take in the frame at ``rest.end``; False when it is not a good one. ``base``: the first index of the segment."""
    head = window.view(rest.end, HEADER_BYTES)
    frame = parse_header(head, rest.header.salt) if len(head) == HEADER_BYTES else None
    if frame is None or frame.offset != rest.end or frame.seg != rest.header.number & 0xFFFF:
        return False
    body = window.view(rest.end + HEADER_BYTES, frame.body_len) if frame.body_len else b""
    if len(body) != frame.body_len or crc(body) != frame.body_crc:
        return False
    if frame.kind in (MARK, SEAL):
        if (frame.index, frame.chain) != (rest.last_index, rest.last_chain):
            return False
        rest.sealed = frame.kind == SEAL and body == seal_body(base, rest.last_index)
        if frame.kind == SEAL and not rest.sealed:
            return False
    else:
        chain = next_chain(rest.last_chain, frame.index, frame.term, frame.body_crc)
        if (frame.index, frame.chain) != (rest.last_index + 1, chain) or entry_of_frame(frame.kind, body) is None:
            return False
        rest.offsets.append(frame.offset)
        rest.chains.append(chain)
        rest.last_index, rest.last_term, rest.last_chain = frame.index, frame.term, chain
    rest.evidence = max(rest.evidence, frame.synced_evidence())
    rest.end += HEADER_BYTES + frame.body_len
    return True


def _zero_from(window: Window, offset: int) -> bool:
    while piece := window.view(offset, _PIECE_BYTES):
        if piece.count(0) != len(piece):
            return False
        offset += len(piece)
    return True


def rewritten(disk: Disk, rest: SegmentScan, salt: int, created_ms: int) -> Iterator[bytes]:
    """A segment of the same number that begins with the first entry of ``rest``, piece by piece; it ends as that one
    did or, where there was no seal, with the proof that all of it is synced. Raises CorruptionError, OSError.
    """
    old = rest.header
    header = SegmentHeader(
        old.cluster_id, old.node_id, old.number, old.base, old.prev_term, old.prev_chain, created_ms, salt
    )
    yield header.encode()
    builder = FrameBuilder(old.number, salt, SEGMENT_HEADER_BYTES, old.prev_chain)
    file = disk.open(rest.path, direct=True)
    try:
        window = Window(file)
        for index, offset in enumerate(rest.offsets, old.base):
            frame = parse_header(window.view(offset, HEADER_BYTES), old.salt)
            body = b"" if frame is None else window.view(offset + HEADER_BYTES, frame.body_len)
            if frame is None or frame.index != index or crc(body) != frame.body_crc:
                raise CorruptionError(rest.path, offset, f"the frame of index {index} changed while it was read")
            builder.add_entry(
                frame.kind, index, frame.term, frame.subterm, bytes(body), old.base - 1, frame.ts_ms, frame.ncmd,
                frame.flags,
            )  # fmt: skip
            yield builder.take()
        last, term = rest.last_index, rest.last_term
        if rest.sealed:
            builder.add_note(SEAL, last, term, last, seal_body(old.base, last))
        else:
            builder.add_note(MARK, last, term, last, b"")
        yield builder.take()
    finally:
        file.close()
