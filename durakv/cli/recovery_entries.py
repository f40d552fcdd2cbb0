"""The entries of scanned segments, one after another, as they lie on disk.

Rule: reads only frames that a scan has accepted, and checks header and body again while reading, for time passes
between the two. It must not know what an entry means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from durakv.storage.entries import entry_of_frame
from durakv.storage.errors import CorruptionError
from durakv.storage.record import CONFIG, HEADER_BYTES, crc, parse_header
from durakv.storage.scan import SegmentScan, Window
from durakv.world.ports import Disk, File

_PROGRESS_EVERY = 2048


class StoredEntry:
    """One entry. ``ts_ms`` and ``ncmd`` are the frame's; ``kind`` is 0 normal, 1 no-op, 2 configuration; ``offset`` is
    that of the frame in ``path``.
    """

    __slots__ = ("chain", "data", "index", "kind", "ncmd", "offset", "path", "subterm", "term", "ts_ms")

    def __init__(
        self, index: int, term: int, subterm: int, kind: int, data: bytes, ts_ms: int, ncmd: int, chain: int, path: str,
        offset: int,
    ) -> None:  # fmt: skip
        self.index = index
        self.term = term
        self.subterm = subterm
        self.kind = kind
        self.data = data
        self.ts_ms = ts_ms
        self.ncmd = ncmd
        self.chain = chain
        self.path = path
        self.offset = offset


def stored_entries(
    disk: Disk, scans: Sequence[SegmentScan], first: int, last: int,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[StoredEntry]:  # fmt: skip
    """Entries ``first`` to ``last`` of those in ``scans``. Raises CorruptionError, OSError."""
    chosen = [scan for scan in scans if scan.header.base <= last and scan.last_index >= first]
    total = sum(scan.end for scan in chosen)
    before = 0
    for scan in chosen:
        file = disk.open(scan.path)
        try:
            window = Window(file)
            for index in range(max(first, scan.header.base), min(last, scan.last_index) + 1):
                entry = _entry(window, scan, index)
                yield entry
                if progress is not None and index % _PROGRESS_EVERY == 0:
                    progress(before + entry.offset, total)
        finally:
            file.close()
        before += scan.end


def entry_at(disk: Disk, scans: Sequence[SegmentScan], index: int) -> StoredEntry:
    """One entry, which must be held."""
    return next(stored_entries(disk, scans, index, index))


def last_configuration(disk: Disk, scans: Sequence[SegmentScan], last: int) -> tuple[int, bytes] | None:
    """Index and content of the newest configuration up to ``last``; None when there is none."""
    for scan in reversed(scans):
        if scan.header.base > last:
            continue
        file = disk.open(scan.path)
        try:
            found = _last_configuration(file, scan, last)
        finally:
            file.close()
        if found:
            entry = entry_at(disk, scans, found)
            return entry.index, entry.data
    return None


def _last_configuration(file: File, scan: SegmentScan, last: int) -> int:
    """Searched by its magic, which is much faster than parsing every header; the scan's offsets tell data from
    frames.
    """
    places = {offset: scan.header.base + n for n, offset in enumerate(scan.offsets)}
    magic = b"#DK1 %c " % CONFIG
    newest = 0
    window = Window(file)
    offset = 0
    while offset < scan.end:
        piece = window.view(offset, min(1 << 20, scan.end - offset))
        if not piece:
            break
        at = piece.find(magic)
        while at >= 0:
            index = places.get(offset + at, 0)
            if newest < index <= last:
                newest = index
            at = piece.find(magic, at + 1)
        # Pieces overlap, so that no magic hides in a seam.
        offset += max(len(piece) - len(magic) + 1, 1)
    return newest


def _entry(window: Window, scan: SegmentScan, index: int) -> StoredEntry:
    offset = scan.offsets[index - scan.header.base]
    header = parse_header(window.view(offset, HEADER_BYTES), scan.header.salt)
    if header is None or header.index != index:
        raise CorruptionError(scan.path, offset, f"the frame of index {index} changed while it was read")
    body = window.view(offset + HEADER_BYTES, header.body_len)
    content = entry_of_frame(header.kind, body)
    if content is None or crc(body) != header.body_crc:
        raise CorruptionError(scan.path, offset, f"the frame of index {index} changed while it was read")
    return StoredEntry(
        index, header.term, header.subterm, content[0], content[1], header.ts_ms, header.ncmd, header.chain, scan.path,
        offset,
    )  # fmt: skip
