"""The fault atlas: which log records may go bad on which machine, decided before anything does.

Rule: within the budget every record keeps good copies on a quorum. "minority" damages the same few machines all run
long, so that the rest can serve; "helix" may damage every machine, each in other records, so that no record is lost
although no machine is whole. Beyond the budget anything may go bad, and the expected answer is a safe halt.
"""

from __future__ import annotations

from typing import Final

from durakv.storage.errors import StorageError
from durakv.storage.record import HEADER_BYTES, MARK, SEAL, parse_header
from durakv.storage.segment import SEGMENT_HEADER_BYTES, parse_segment_header
from jstyle.sim.streams import stream

MINORITY: Final = "minority"
HELIX: Final = "helix"
BEYOND_BUDGET: Final = "beyond-budget"
MODES: Final = (MINORITY, HELIX, BEYOND_BUDGET)

_BLOCK_ENTRIES: Final = 16


class Frame:
    """A record's place in a segment: bytes ``offset`` .. ``offset + size``; marks and seals carry no entry.

    ``evidence``: the highest index of which the record says that it was synced before.
    """

    __slots__ = ("evidence", "index", "is_entry", "offset", "size")

    def __init__(self, offset: int, size: int, index: int, evidence: int, *, is_entry: bool) -> None:
        self.offset = offset
        self.size = size
        self.index = index
        self.evidence = evidence
        self.is_entry = is_entry


def frames(image: bytes | bytearray) -> list[Frame]:
    """All good frames from the beginning of a segment's bytes; none when its first line is damaged."""
    if len(image) < SEGMENT_HEADER_BYTES or not image.startswith(b"#DKSEG1 "):
        return []
    try:
        salt = parse_segment_header(bytes(image[:SEGMENT_HEADER_BYTES]), "segment").salt
    except StorageError:
        return []
    return frames_from(image, SEGMENT_HEADER_BYTES, salt)


def frames_from(data: bytes | bytearray, at: int, salt: int) -> list[Frame]:
    """Consecutive good frames of ``data`` from byte ``at`` on; their offsets count within ``data``."""
    found = []
    while (header := parse_header(bytes(data[at : at + HEADER_BYTES]), salt)) is not None:
        size = HEADER_BYTES + header.body_len
        entry = header.kind not in (MARK, SEAL)
        found.append(Frame(at, size, header.index, header.synced_evidence(), is_entry=entry))
        at += size
    return found


class Atlas:
    """Answers whether a record of a machine may be damaged. ``nodes`` are the numbers of machines that hold data."""

    def __init__(self, seed: int, nodes: list[int], mode: str) -> None:
        assert mode in MODES, f"atlas mode {mode!r}; choose one of {', '.join(MODES)}"
        self.mode = mode
        self._nodes = list(nodes)
        # How many copies of one record may be lost with a quorum of good ones left.
        self.spare_copies = (len(nodes) - 1) // 2
        self._seed = seed
        self._blocks: dict[int, list[int]] = {}

    def may_damage(self, number: int, index: int) -> bool:
        """Whether the record of log index ``index`` may go bad on that machine."""
        if self.mode == BEYOND_BUDGET:
            return True
        block = 0 if self.mode == MINORITY else index // _BLOCK_ENTRIES
        victims = self._blocks.get(block)
        if victims is None:
            order = list(self._nodes)
            stream(self._seed, "atlas", self.mode, block).shuffle(order)
            victims = self._blocks[block] = order[: self.spare_copies]
        return number in victims
