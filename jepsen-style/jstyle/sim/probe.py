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
    """

    def __init__(self, on_entry: OnEntry) -> None:
        self._on_entry = on_entry
        self._segments: dict[str, _Segment] = {}
        self._version = -1
        self._hard_version = -1
        self.terms = [0]
        self.chains = [0]
        self.hard = (0, 0)

    @property
    def last(self) -> int:
        """Highest index held."""
        return len(self.terms) - 1

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is on the medium."""
        return index < len(self.terms) and self.terms[index] == term

    def refresh(self, image: Image) -> bool:
        """Read what changed; False when nothing did."""
        if image.version == self._version:
            return False
        self._version = image.version
        paths = [name for name in image.names() if name.startswith(_LOG_PREFIX) and name.endswith(_LOG_SUFFIX)]
        gone = [path for path in self._segments if path not in paths]
        for path in gone:
            del self._segments[path]
        if gone:
            self._trim(self._last_of(paths))
        for path in paths:
            self._refresh_segment(image, path)
        self._refresh_hard(image)
        return True

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
            try:
                header = parse_segment_header(image.read(path, SEGMENT_HEADER_BYTES, 0), path)
            except (StorageError, ValueError):
                return
            if header.base > self.last + 1:
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
                if index != self.last + 1 or chain != frame.chain or entry is None:
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
