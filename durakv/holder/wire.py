"""The bytes between members of a config holder, and between a member and the data nodes that call it.

Rule: the only place that knows them. Frames are a witness's: u32 payload length, u32 crc32c of kind and payload, u8
kind, payload (little-endian). The dialling side's first frame is HELLO. A member that dialled another sends RAFT frames
and hears nothing back; a data node sends numbered requests, and each gets at most one answer with its number. It must
not know what calls and messages decide.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Final

from durakv.witness.wire import FrameReader, frame, shown

__all__ = ["FrameReader", "frame", "shown"]

HELLO: Final = 0
RAFT: Final = 1
CALL: Final = 2
STATUS: Final = 3
REPLACE: Final = 4
# The holder's answer to a call.
ANSWER: Final = 16
# The call was not taken, and never will be, by this member; with the id of the one that leads, or 0.
NOT_HERE: Final = 17
# A status report in JSON.
REPORT: Final = 18
# What came of REPLACE: a text, empty when it is under way or done.
REPLACED: Final = 19

AS_MEMBER: Final = 1
AS_CALLER: Final = 2
# May ask for the status alone; names no cluster.
AS_STRANGER: Final = 3
ANYBODY: Final = 0

FRAME_BYTES_MAX: Final = 1 << 20
_MAGIC: Final = b"DKHOLDP1"
# magic, cluster id, as what, who calls, whom
_HELLO: Final = Struct("<8s16sBQQ")
_NUMBER: Final = Struct("<Q")
_TWO: Final = Struct("<QQ")


class Hello:
    """Who calls whom. ``from_id`` is a member's or a data node's id; 0 for an operator's tool."""

    __slots__ = ("cluster_id", "from_id", "kind", "to_id")

    def __init__(self, cluster_id: bytes, kind: int, from_id: int, to_id: int) -> None:
        self.cluster_id = cluster_id
        self.kind = kind
        self.from_id = from_id
        self.to_id = to_id

    def frame(self) -> bytes:
        """The first frame of a connection."""
        return frame(HELLO, _HELLO.pack(_MAGIC, self.cluster_id, self.kind, self.from_id, self.to_id))

    @staticmethod
    def read(payload: bytes) -> Hello:
        """The inverse. Raises ValueError."""
        if len(payload) != _HELLO.size:
            raise ValueError("a HELLO of a wrong length")
        magic, cluster_id, kind, from_id, to_id = _HELLO.unpack(payload)
        if magic != _MAGIC or kind not in (AS_MEMBER, AS_CALLER, AS_STRANGER):
            raise ValueError("not a caller of a config holder of this version")
        return Hello(cluster_id, kind, from_id, to_id)


def request(kind: int, number: int, payload: bytes = b"") -> bytes:
    """CALL, STATUS or REPLACE, or an answer to one."""
    return frame(kind, _NUMBER.pack(number) + payload)


def numbered(payload: bytes) -> tuple[int, bytes]:
    """(number, the rest). Raises ValueError."""
    try:
        (number,) = _NUMBER.unpack_from(payload)
    except StructError:
        raise ValueError("a frame without a number") from None
    return number, payload[_NUMBER.size :]


def leader(member_id: int) -> bytes:
    """The payload of NOT_HERE."""
    return _NUMBER.pack(member_id)


def read_leader(payload: bytes) -> int:
    """The inverse. Raises ValueError."""
    if len(payload) != _NUMBER.size:
        raise ValueError("a NOT_HERE of a wrong length")
    return numbered(payload)[0]


def replacement(old_id: int, new_id: int) -> bytes:
    """The payload of REPLACE."""
    return _TWO.pack(old_id, new_id)


def read_replacement(payload: bytes) -> tuple[int, int]:
    """(old id, new id). Raises ValueError."""
    if len(payload) != _TWO.size:
        raise ValueError("a REPLACE of a wrong length")
    old_id, new_id = _TWO.unpack(payload)
    return old_id, new_id
