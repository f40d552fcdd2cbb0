"""The bytes of a witness's state at rest: a sealed state, and the marker that says one was created.

Rule: the only place that knows them; both stores and the process write the same. Every byte is covered by the checksum,
and what cannot be decoded is never replaced by anything older. A sealed state is under 512 bytes.

Sealed, little-endian: magic "DKWSEAL1", cluster id 16, incarnation 16, version u64, token 8, length u16, the state as
raft.witness encodes it, crc32c u32 of all before. Marker: magic "DKWMARK1", cluster id 16, group u64, witness id u64,
incarnation 16, token 8, crc32c u32. The token is the writer's own and makes every version's bytes unlike all others.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from durakv.storage.record import crc
from durakv.witness.parts import StateKey
from raft.types import DecodeError
from raft.witness import WitnessState

TOKEN_BYTES: Final = 8
INCARNATION_BYTES: Final = 16
# A state of so many members is 508 bytes when sealed.
MEMBERS_MAX: Final = 48
SEALED_BYTES_MAX: Final = 511

_SEAL_MAGIC: Final = b"DKWSEAL1"
_MARK_MAGIC: Final = b"DKWMARK1"
_SEAL: Final = Struct("<8s16s16sQ8sH")
_MARK: Final = Struct("<8s16sQQ16s8s")
_CRC: Final = Struct("<I")


class Sealed:
    """One version of a state. ``incarnation`` was drawn when the witness was created; ``version`` starts at 1."""

    __slots__ = ("incarnation", "key", "state", "token", "version")

    def __init__(self, key: StateKey, incarnation: bytes, version: int, token: bytes, state: WitnessState) -> None:
        self.key = key
        self.incarnation = incarnation
        self.version = version
        self.token = token
        self.state = state

    def encode(self) -> bytes:
        """The bytes."""
        assert len(self.incarnation) == INCARNATION_BYTES and len(self.token) == TOKEN_BYTES, "ids of fixed length"
        state = self.state.encode()
        body = _SEAL.pack(
            _SEAL_MAGIC, self.key.cluster_id, self.incarnation, self.version, self.token, len(state)
        ) + state  # fmt: skip
        assert len(body) + _CRC.size <= SEALED_BYTES_MAX, "questions of more members are refused before"
        return body + _CRC.pack(crc(body))

    @staticmethod
    def decode(data: bytes) -> Sealed:
        """The inverse; raises DecodeError for anything that encode() did not make."""
        body = _checked(data, _SEAL, _SEAL_MAGIC, "state")
        _, cluster_id, incarnation, version, token, length = _SEAL.unpack_from(body)
        if len(body) != _SEAL.size + length:
            raise DecodeError("state length does not match its header")
        state = WitnessState.decode(body[_SEAL.size :])
        if state.node_id == 0 or version == 0:
            raise DecodeError("state without a witness id or a version")
        return Sealed(StateKey(cluster_id, state.group, state.node_id), incarnation, version, token, state)


class Marker:
    """Says for ever that a witness of this id was created here."""

    __slots__ = ("incarnation", "key", "token")

    def __init__(self, key: StateKey, incarnation: bytes, token: bytes) -> None:
        self.key = key
        self.incarnation = incarnation
        self.token = token

    def encode(self) -> bytes:
        """The bytes."""
        key = self.key
        body = _MARK.pack(_MARK_MAGIC, key.cluster_id, key.group, key.witness_id, self.incarnation, self.token)
        return body + _CRC.pack(crc(body))

    @staticmethod
    def decode(data: bytes) -> Marker:
        """The inverse; raises DecodeError."""
        body = _checked(data, _MARK, _MARK_MAGIC, "marker")
        if len(body) != _MARK.size:
            raise DecodeError("marker of a wrong length")
        _, cluster_id, group, witness_id, incarnation, token = _MARK.unpack(body)
        if witness_id == 0:
            raise DecodeError("marker without a witness id")
        return Marker(StateKey(cluster_id, group, witness_id), incarnation, token)


def _checked(data: bytes, head: Struct, magic: bytes, what: str) -> bytes:
    """All but the checksum, which is right."""
    if len(data) < head.size + _CRC.size:
        raise DecodeError(f"{what} of {len(data)} bytes is cut short")
    if len(data) > SEALED_BYTES_MAX:
        raise DecodeError(f"{what} is longer than {SEALED_BYTES_MAX} bytes")
    if data[: len(magic)] != magic:
        raise DecodeError(f"not a witness's {what} of this version")
    body = data[: -_CRC.size]
    if data[len(body) :] != _CRC.pack(crc(body)):
        raise DecodeError(f"{what} checksum mismatch")
    return body
