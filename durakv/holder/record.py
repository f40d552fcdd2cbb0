"""The bytes of a holder member's file: batches of records, each batch written at once and then synced.

Rule: the only place that knows them. Little-endian. A batch is u32 payload length, u32 crc32c of the number and the
payload, u64 number, payload, then zeros up to a multiple of 64 bytes; numbers count up by one from 1. A payload is a
sequence of records: kind u8 and the fields below. The first batch of a file holds everything there was when the file
was made, beginning with BASE. After a later batch is synced, a SEAL is written behind it, with the next number; so
batches have even numbers and seals odd ones. Who finds a sound seal behind an unsound batch knows that this is no torn
write. It must not know files.
"""

from __future__ import annotations

from struct import Struct
from struct import error as StructError
from typing import Final

from durakv.storage.record import crc
from raft.types import DecodeError, Entry, EntryKind, HardState, Membership, SnapshotMeta

ALIGN: Final = 64
CLUSTER_ID_BYTES: Final = 16

_VERSION: Final = 1
_BASE: Final = 1
_HARD: Final = 2
_ENTRY: Final = 3
_SEAL: Final = 4

# payload length, checksum, number
_HEAD: Final = Struct("<IIQ")
_NUMBER: Final = Struct("<Q")
# kind, version, cluster id, member, snapshot index, term, subterm, id, length of its membership, length of its data
_BASE_HEAD: Final = Struct("<BB16sQQQQQII")
_HARD_ROW: Final = Struct("<BQQQ")
_ENTRY_HEAD: Final = Struct("<BQQQBI")


class Image:
    """What a member must not forget. ``meta`` and ``data`` are the last snapshot; ``entries`` continue it."""

    __slots__ = ("cluster_id", "data", "entries", "hard_state", "member_id", "meta")

    def __init__(
        self, cluster_id: bytes, member_id: int, hard_state: HardState, meta: SnapshotMeta | None, data: bytes,
        entries: list[Entry],
    ) -> None:  # fmt: skip
        self.cluster_id = cluster_id
        self.member_id = member_id
        self.hard_state = hard_state
        self.meta = meta
        self.data = data
        self.entries = entries

    def encode(self) -> bytes:
        """The payload of a file's first batch."""
        meta = self.meta
        members = b"" if meta is None else meta.membership.encode()
        index, term, subterm, number = (0, 0, 0, 0) if meta is None else (meta.index, meta.term, meta.subterm, meta.id)
        head = _BASE_HEAD.pack(
            _BASE, _VERSION, self.cluster_id, self.member_id, index, term, subterm, number, len(members),
            len(self.data),
        )  # fmt: skip
        return head + members + self.data + records(self.hard_state, self.entries)


def records(hard_state: HardState, entries: list[Entry]) -> bytes:
    """The payload of a later batch: the state now, then entries, which replace whatever was at or behind the first."""
    parts = [_HARD_ROW.pack(_HARD, hard_state.term, hard_state.vote, hard_state.commit)]
    for e in entries:
        parts.append(_ENTRY_HEAD.pack(_ENTRY, e.index, e.term, e.subterm, e.kind, len(e.data)))
        parts.append(e.data)
    return b"".join(parts)


def batch(number: int, payload: bytes) -> bytes:
    """One batch as it is written."""
    check = crc(payload, crc(_NUMBER.pack(number)))
    return padded(_HEAD.pack(len(payload), check, number) + payload)


def padded(data: bytes) -> bytes:
    """With zeros up to the place where the next batch begins."""
    return data + b"\x00" * (-len(data) % ALIGN)


def seal(number: int) -> bytes:
    """What is written behind a batch that was synced, as a batch of its own."""
    return batch(number, bytes((_SEAL,)))


class Batches:
    """What a file's bytes hold: the payloads of all sound batches, and where the first place is that holds none."""

    __slots__ = ("damaged", "end", "next_number", "payloads")

    def __init__(self, data: bytes, start: int) -> None:
        self.payloads: list[bytes] = []
        at = start
        number = 1
        while True:
            payload = _read(data, at, number, number)
            if payload is None:
                break
            self.payloads.append(payload)
            at += len(padded(_HEAD.pack(0, 0, 0) + payload))
            number += 1
        self.end = at
        self.next_number = number
        self.damaged = _goes_on(data, at, number)


def _read(data: bytes, at: int, low: int, high: int) -> bytes | None:
    """The payload of the batch there if it is sound and its number is low .. high."""
    begin = at + _HEAD.size
    if begin > len(data):
        return None
    length, check, number = _HEAD.unpack_from(data, at)
    if not low <= number <= high or begin + length > len(data):
        return None
    payload = data[begin : begin + length]
    return payload if crc(payload, crc(_NUMBER.pack(number))) == check else None


def _goes_on(data: bytes, at: int, number: int) -> bool:
    """Whether something sound was written behind number ``number``, which is not, after that one was synced.

    A seal is synced with the batch behind it, so it may be missing before that one, but not before the next seal.
    """
    low = number + 2 if number > 1 and number % 2 else number + 1
    return any(_read(data, later, low, number + len(data)) is not None for later in range(at, len(data), ALIGN))


def decode(payloads: list[bytes]) -> Image:
    """What the batches of a file amount to. Raises DecodeError: they have their checksums, but make no sense."""
    if not payloads:
        raise DecodeError("no complete batch")
    try:
        image, at = _decode_base(payloads[0])
        _replay(image, payloads[0], at)
        for payload in payloads[1:]:
            _replay(image, payload, 0)
    except StructError as error:
        raise DecodeError(f"a record is cut short: {error}") from None
    return image


def _decode_base(payload: bytes) -> tuple[Image, int]:
    kind, version, cluster_id, member, index, term, subterm, number, n_members, n_data = _BASE_HEAD.unpack_from(payload)
    if kind != _BASE or version != _VERSION:
        raise DecodeError(f"record {kind}, version {version} is unknown; run a newer release")
    at = _BASE_HEAD.size
    end = at + n_members + n_data
    if end > len(payload):
        raise DecodeError("a snapshot is cut short")
    meta = None
    if index:
        meta = SnapshotMeta(index, term, subterm, Membership.decode(payload[at : at + n_members]), number)
    return Image(cluster_id, member, HardState(), meta, payload[at + n_members : end], []), end


def _replay(image: Image, payload: bytes, at: int) -> None:
    while at < len(payload):
        kind = payload[at]
        if kind == _SEAL:
            at += 1
        elif kind == _HARD:
            _, term, vote, commit = _HARD_ROW.unpack_from(payload, at)
            image.hard_state = HardState(term, vote, commit)
            at += _HARD_ROW.size
        elif kind == _ENTRY:
            at = _replay_entry(image, payload, at)
        else:
            raise DecodeError(f"record {kind} is unknown; run a newer release")


def _replay_entry(image: Image, payload: bytes, at: int) -> int:
    index: int
    length: int
    _, index, term, subterm, kind, length = _ENTRY_HEAD.unpack_from(payload, at)
    at += _ENTRY_HEAD.size
    base = 0 if image.meta is None else image.meta.index
    first = image.entries[0].index if image.entries else base + 1
    if at + length > len(payload) or kind > EntryKind.CONFIG or not first <= index <= first + len(image.entries):
        raise DecodeError(f"entry {index} of kind {kind} is out of order, unknown or cut short")
    del image.entries[index - first :]
    image.entries.append(Entry(index, term, subterm, kind, payload[at : at + length]))
    return at + length
