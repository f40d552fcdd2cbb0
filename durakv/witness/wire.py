"""The bytes between a witness process and its callers.

Rule: the only place that knows them. Frame: u32 payload length, u32 crc32c of kind and payload, u8 kind, payload
(little-endian), as between nodes, but of a bounded length in both directions. The caller's first frame is HELLO (who
calls which witness of which group and cluster) or STATUS. Every request carries a number and gets one answer with it,
in order; a witness never speaks first. It must not know what the messages decide.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Final

from durakv.storage.record import crc
from durakv.witness.parts import StateKey
from durakv.witness.store import Trace

HELLO: Final = 0
QUESTION: Final = 1
CREATE: Final = 2
STATUS: Final = 3
ANSWER: Final = 16
CREATED: Final = 17
# The state is lost; the text says how.
LOST: Final = 18
# Not now, or not at all: the text says why.
REFUSED: Final = 19
REPORT: Final = 20
# A witness of this id was created before.
EXISTS: Final = 21

STATUS_MAGIC: Final = b"DKWSTAT1"

_FRAME: Final = Struct("<IIB")
_HELLO: Final = Struct("<8s16sQQQ")
_NUMBER: Final = Struct("<Q")
# number; incarnation, version and token before, version and token after, bytes of the state; then the message
_ANSWER: Final = Struct("<Q16sQ8sQ8sI")
_MAGIC: Final = b"DKWITP1\x00"
# A question of 48 members and its number.
REQUEST_BYTES_MAX: Final = 512
REPLY_BYTES_MAX: Final = 1 << 20
TEXT_BYTES_MAX: Final = 2048


# For classes in which ``bytes`` is a counter's name.
Payload = bytes


def frame(kind: int, payload: bytes) -> bytes:
    """One frame's bytes."""
    return _FRAME.pack(len(payload), crc(payload, kind), kind) + payload


class FrameReader:
    """Cuts a byte stream into frames; keeps at most one frame of ``bytes_max``. Raises ValueError on a bad one."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """All frames completed by ``data``, in order."""
        buffer = self._buffer
        buffer += data
        out: list[tuple[int, bytes]] = []
        at = 0
        while len(buffer) - at >= _FRAME.size:
            size, check, kind = _FRAME.unpack_from(buffer, at)
            if size > self._bytes_max:
                raise ValueError(f"a frame of {size} bytes; at most {self._bytes_max} are taken")
            end = at + _FRAME.size + size
            if end > len(buffer):
                break
            payload = bytes(buffer[at + _FRAME.size : end])
            if crc(payload, kind) != check:
                raise ValueError("a frame's checksum is wrong")
            out.append((kind, payload))
            at = end
        del buffer[:at]
        return out


def hello(key: StateKey, node_id: int) -> bytes:
    """HELLO. ``node_id`` is 0 for one who only creates."""
    return frame(HELLO, _HELLO.pack(_MAGIC, key.cluster_id, key.group, key.witness_id, node_id))


def read_hello(payload: bytes) -> tuple[StateKey, int]:
    """(key, node id); raises ValueError."""
    if len(payload) != _HELLO.size:
        raise ValueError("a HELLO of a wrong length")
    magic, cluster_id, group, witness_id, node_id = _HELLO.unpack(payload)
    if magic != _MAGIC:
        raise ValueError("not a caller of a durakv witness of this version")
    if witness_id == 0:
        raise ValueError("a HELLO to witness 0")
    return StateKey(cluster_id, group, witness_id), node_id


def request(kind: int, number: int, payload: bytes = b"") -> bytes:
    """QUESTION, CREATE or STATUS."""
    return frame(kind, _NUMBER.pack(number) + payload)


def numbered(payload: bytes) -> tuple[int, bytes]:
    """(number, the rest) of any frame but HELLO; raises ValueError."""
    try:
        (number,) = _NUMBER.unpack_from(payload)
    except StructError:
        raise ValueError("a frame without a number") from None
    return number, payload[_NUMBER.size :]


def text_reply(kind: int, number: int, text: str) -> bytes:
    """LOST or REFUSED."""
    return frame(kind, _NUMBER.pack(number) + text.encode("utf-8", "replace")[:TEXT_BYTES_MAX])


def shown(text: bytes) -> str:
    """A text that came over the wire, fit for a log: one line of printable characters."""
    decoded = text[:TEXT_BYTES_MAX].decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "?" for c in decoded)


def answer_reply(number: int, trace: Trace, message: bytes) -> bytes:
    """ANSWER."""
    t = trace
    head = _ANSWER.pack(number, t.incarnation, t.version, t.token, t.new_version, t.new_token, t.state_bytes)
    return frame(ANSWER, head + message)


def read_answer(payload: bytes) -> tuple[int, Trace, bytes]:
    """(number, trace, message); raises ValueError."""
    try:
        number, incarnation, version, token, new_version, new_token, state_bytes = _ANSWER.unpack_from(payload)
    except StructError:
        raise ValueError("an ANSWER that is cut short") from None
    trace = Trace(incarnation, version, token, new_version, new_token, state_bytes)
    return number, trace, payload[_ANSWER.size :]
