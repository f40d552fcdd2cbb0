"""What a machine's medium holds right now, read incrementally: its log as digests, its term and vote.

Rule: reads the durable image only, never the live node, so that a node which believes its own promises is found out.
Only bytes that changed are parsed again. It must not know clusters or invariants.
"""

from __future__ import annotations

from typing import Final, Protocol

from durakv.storage.entries import entry_of_frame
from durakv.storage.errors import StorageError
from durakv.storage.hardstate import SLOT_BYTES, SLOT_OFFSETS, decode_slot
from durakv.storage.record import HEADER_BYTES, MARK, SEAL, crc, next_chain, parse_header
from durakv.storage.segment import SEGMENT_HEADER_BYTES, SegmentHeader, parse_segment_header

_LOG_PREFIX: Final = "/data/log/dk."
_LOG_SUFFIX: Final = ".log"
_HARDSTATE: Final = "/data/raft/hardstate"


class Image(Protocol):
    """What is read: jstyle.sim.disk.DurableImage."""

    @property
    def version(self) -> int: ...

    def names(self) -> list[str]: ...

    def file_version(self, path: str) -> int: ...

    def read(self, path: str, size: int, offset: int) -> bytes: ...


class OnEntry(Protocol):
    """Hears of every entry found on the medium, in order of index; may raise."""

    def __call__(
        self, index: int, term: int, subterm: int, kind: int, data: bytes, before: int, chain: int, /
    ) -> None: ...


class _Place:
    """A frame found earlier: where it is and the bytes of its header."""

    __slots__ = ("head", "index", "offset", "size")

    def __init__(self, offset: int, size: int, head: bytes, index: int) -> None:
        self.offset = offset
        self.size = size
        self.head = head
        # 0 for a mark or a seal.
        self.index = index


class _Segment:
    """One segment as read so far."""

    def __init__(self, path: str, header: SegmentHeader) -> None:
        self.path = path
        self.header = header
        self.version = -1
        self.places: list[_Place] = []

    def end(self) -> int:
        """Where the next frame is expected."""
        return self.places[-1].offset + self.places[-1].size if self.places else SEGMENT_HEADER_BYTES


class DurableState:
    """``terms[i]`` and ``chains[i]`` belong to index ``i`` (0: before the first); ``last`` is the highest index held
    without a gap. ``hard`` is the newest durable (term, vote), (0, 0) before there is one.

    ``covered`` is the last index of a durable checkpoint, which holds what was committed up to there: ``committed``
    says which terms those entries have.
    """

    def __init__(self, on_entry: OnEntry, committed: list[int]) -> None:
        self._on_entry = on_entry
        self._committed = committed
        self.covered = 0
        self._segments: dict[str, _Segment] = {}
        self._version = -1
        self._hard_version = -1
        self.terms = [0]
        self.chains = [0]
        self.hard = (0, 0)

    @property
    def last(self) -> int:
        """Highest index held."""
        return max(len(self.terms) - 1, self.covered)

    @property
    def last_term(self) -> int:
        """Term of that entry."""
        return self.terms[-1] if len(self.terms) > self.covered else self._committed[self.covered]

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry, or what it did, is on the medium."""
        if index <= self.covered:
            return self._committed[index] == term
        return index < len(self.terms) and self.terms[index] == term

    def refresh(self, image: Image, covered: int = 0) -> bool:
        """Read what changed; False when nothing did."""
        if image.version == self._version and covered == self.covered:
            return False
        self._version = image.version
        self.covered = covered
        paths = [name for name in image.names() if name.startswith(_LOG_PREFIX) and name.endswith(_LOG_SUFFIX)]
        paths = self._from_checkpoint(image, paths)
        gone = [path for path in self._segments if path not in paths]
        cut = [path for path in gone if not paths or path > paths[0]]
        for path in gone:
            del self._segments[path]
        if cut:
            self._trim(self._last_of(paths))
        for path in paths:
            self._refresh_segment(image, path)
        self._refresh_hard(image)
        return True

    def _from_checkpoint(self, image: Image, paths: list[str]) -> list[str]:
        """The segments a start would read: from the last one that begins no later than behind the checkpoint."""
        if not self.covered:
            return paths
        for at in range(len(paths) - 1, -1, -1):
            header = _header(image, paths[at])
            if header is None or header.base > self.covered + 1:
                continue
            if header.base > len(self.terms):
                # A snapshot has taken the place of what was before.
                self.terms = self._committed[: header.base]
                self.chains = [0] * (header.base - 1) + [header.prev_chain]
                self._segments.clear()
            return paths[at:]
        return []

    def _last_of(self, paths: list[str]) -> int:
        for path in reversed(paths):
            segment = self._segments.get(path)
            if segment is not None:
                return max((p.index for p in segment.places), default=segment.header.base - 1)
        return 0

    def _trim(self, last: int) -> None:
        del self.terms[last + 1 :]
        del self.chains[last + 1 :]

    def _refresh_segment(self, image: Image, path: str) -> None:
        version = image.file_version(path)
        segment = self._segments.get(path)
        if segment is not None and segment.version == version:
            return
        if segment is None:
            header = _header(image, path)
            if header is None:
                return
            if header.base > len(self.terms):
                # A hole before it: nothing in it counts.
                return
            segment = self._segments[path] = _Segment(path, header)
            self._trim(header.base - 1)
        segment.version = version
        places = segment.places
        cut = False
        while places and image.read(path, HEADER_BYTES, places[-1].offset) != places[-1].head:
            places.pop()
            cut = True
        if cut:
            self._trim(max((p.index for p in places), default=segment.header.base - 1))
        self._read_on(image, segment)

    def _read_on(self, image: Image, segment: _Segment) -> None:
        salt = segment.header.salt
        while True:
            at = segment.end()
            head = image.read(segment.path, HEADER_BYTES, at)
            frame = parse_header(head, salt) if len(head) == HEADER_BYTES else None
            if frame is None or frame.offset != at:
                return
            body = image.read(segment.path, frame.body_len, at + HEADER_BYTES) if frame.body_len else b""
            if len(body) != frame.body_len or crc(body) != frame.body_crc:
                return
            index = 0
            if frame.kind not in (MARK, SEAL):
                index = frame.index
                chain = next_chain(self.chains[-1], index, frame.term, frame.body_crc)
                entry = entry_of_frame(frame.kind, body)
                if index != len(self.terms) or chain != frame.chain or entry is None:
                    return
                self._on_entry(index, frame.term, frame.subterm, entry[0], entry[1], self.terms[-1], chain)
                self.terms.append(frame.term)
                self.chains.append(chain)
            segment.places.append(_Place(at, HEADER_BYTES + frame.body_len, head, index))

    def _refresh_hard(self, image: Image) -> None:
        version = image.file_version(_HARDSTATE)
        if version == self._hard_version or version < 0:
            return
        self._hard_version = version
        slots = [decode_slot(image.read(_HARDSTATE, SLOT_BYTES, offset)) for offset in SLOT_OFFSETS]
        newest = max((slot for slot in slots if slot is not None), key=lambda slot: slot[0], default=None)
        if newest is not None:
            self.hard = (newest[1].term, newest[1].voted_for)


def _header(image: Image, path: str) -> SegmentHeader | None:
    try:
        return parse_segment_header(image.read(path, SEGMENT_HEADER_BYTES, 0), path)
    except (StorageError, ValueError):
        return None
