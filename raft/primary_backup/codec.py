"""Messages of the lease protocol as bytes, calls to the config holder and its answers among them.

Rule: every decode is total; whatever the bytes, it returns a message or raises DecodeError, never allocating more than
the input. All numbers little-endian. Tags continue raft's, so both kinds may share a stream; raft's own codec reads the
snapshots.

Layout of a message between members: as raft.codec. Of a call: tag u8, call_id u64, shard u64, request node u64, nonce
u64, number u64, then the fields below. Of an answer: tag u8, call_id u64, outcome u8, reason u8, then a configuration
or nothing.
"""

import struct
from collections.abc import Callable
from typing import Final

from raft import codec as raft_codec
from raft.messages import Snapshot, SnapshotResp
from raft.primary_backup.messages import (
    REASON_TEXTS,
    Beacon,
    BeaconOk,
    CasCall,
    CreateCall,
    ForceCall,
    HolderAnswer,
    HolderCall,
    Message,
    Outcome,
    PeerMessage,
    Prepare,
    PrepareOk,
    ReadCall,
    Relinquish,
    RenewCall,
)
from raft.primary_backup.types import MEMBERS_MAX, RequestId, ShardConfig
from raft.types import DecodeError, Entry, EntryKind, Membership

_HEAD: Final = "<BQQQQ"
_PREPARE: Final = struct.Struct(_HEAD + "QQQQQQI")
_PREPARE_OK: Final = struct.Struct(_HEAD + "BQQQQQ")
_BEACON: Final = struct.Struct(_HEAD + "QQQ")
_BEACON_OK: Final = struct.Struct(_HEAD + "QQ")
_BARE: Final = struct.Struct(_HEAD)
_ENTRY: Final = struct.Struct("<QQQBI")
_CALL: Final = struct.Struct("<BQQQQQ")
_TWO: Final = struct.Struct("<QQ")
_FORCE: Final = struct.Struct("<QQQQH")
_ANSWER: Final = struct.Struct("<BQBB")

PREPARE: Final = 32
PREPARE_OK: Final = 33
BEACON: Final = 34
BEACON_OK: Final = 35
RELINQUISH: Final = 36
CREATE: Final = 48
READ: Final = 49
CAS: Final = 50
RENEW: Final = 51
FORCE: Final = 52
ANSWER: Final = 53

_OK: Final = 1
_REBUILD: Final = 2


def _encode_prepare(m: Message) -> list[bytes]:
    assert isinstance(m, Prepare)
    parts = [
        _PREPARE.pack(
            PREPARE, m.group, m.from_, m.to, m.term, m.prev_index, m.prev_term, m.commit, m.round, m.t_sent_ns,
            m.forced_epoch, len(m.entries),
        )
    ]  # fmt: skip
    pack = _ENTRY.pack
    for e in m.entries:
        data = e.data
        parts.append(pack(e.index, e.term, e.subterm, e.kind, len(data)))
        parts.append(data)
    return parts


def _decode_prepare(data: bytes) -> Message:
    _, group, from_, to, term, prev_index, prev_term, commit, round_, t_sent_ns, forced, count = _PREPARE.unpack_from(
        data
    )
    at = _PREPARE.size
    size = len(data)
    # Checked before the loop, so that a lying count cannot cost more than the bytes it came with.
    if count * _ENTRY.size > size - at:
        raise DecodeError(f"prepare of {count} entries does not fit in {size} bytes")
    entries: list[Entry] = []
    index = prev_index
    before = prev_term
    for _ in range(count):
        e_index, e_term, e_subterm, e_kind, length = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        end = at + length
        index += 1
        if end > size or e_index != index or e_kind > EntryKind.CONFIG or not before <= e_term <= term:
            raise DecodeError(f"entry {e_index} of kind {e_kind}, epoch {e_term} is out of order, unknown or cut short")
        body = data[at:end]
        if e_kind == EntryKind.CONFIG:
            Membership.decode(body)
        entries.append(Entry(e_index, e_term, e_subterm, e_kind, body))
        before = e_term
        at = end
    if at != size:
        raise DecodeError(f"{size - at} bytes follow the last entry")
    return Prepare(group, from_, to, term, prev_index, prev_term, commit, round_, t_sent_ns, forced, entries)


def _encode_prepare_ok(m: Message) -> list[bytes]:
    assert isinstance(m, PrepareOk)
    flags = (_OK if m.ok else 0) | (_REBUILD if m.rebuild else 0)
    return [
        _PREPARE_OK.pack(
            PREPARE_OK, m.group, m.from_, m.to, m.term, flags, m.match, m.hint_index, m.hint_term, m.round, m.t_sent_ns
        )
    ]


def _decode_prepare_ok(data: bytes) -> Message:
    _, group, from_, to, term, flags, match, hint_index, hint_term, round_, t_sent_ns = _PREPARE_OK.unpack(data)
    if flags not in (0, _OK, _REBUILD):
        raise DecodeError(f"flags {flags} of an answer are unknown; the peer may run a newer release")
    return PrepareOk(
        group, from_, to, term, flags == _OK, flags == _REBUILD, match, hint_index, hint_term, round_, t_sent_ns
    )


def _encode_beacon(m: Message) -> list[bytes]:
    assert isinstance(m, Beacon)
    return [_BEACON.pack(BEACON, m.group, m.from_, m.to, m.term, m.commit, m.round, m.t_sent_ns)]


def _decode_beacon(data: bytes) -> Message:
    _, group, from_, to, term, commit, round_, t_sent_ns = _BEACON.unpack(data)
    return Beacon(group, from_, to, term, commit, round_, t_sent_ns)


def _encode_beacon_ok(m: Message) -> list[bytes]:
    assert isinstance(m, BeaconOk)
    return [_BEACON_OK.pack(BEACON_OK, m.group, m.from_, m.to, m.term, m.round, m.t_sent_ns)]


def _decode_beacon_ok(data: bytes) -> Message:
    _, group, from_, to, term, round_, t_sent_ns = _BEACON_OK.unpack(data)
    return BeaconOk(group, from_, to, term, round_, t_sent_ns)


def _encode_relinquish(m: Message) -> list[bytes]:
    assert isinstance(m, Relinquish)
    return [_BARE.pack(RELINQUISH, m.group, m.from_, m.to, m.term)]


def _decode_relinquish(data: bytes) -> Message:
    _, group, from_, to, term = _BARE.unpack(data)
    return Relinquish(group, from_, to, term)


_Encode = Callable[[Message], list[bytes]]
_Decode = Callable[[bytes], Message]

TABLE: Final[dict[int, tuple[type[Message], _Encode, _Decode]]] = {
    PREPARE: (Prepare, _encode_prepare, _decode_prepare),
    PREPARE_OK: (PrepareOk, _encode_prepare_ok, _decode_prepare_ok),
    BEACON: (Beacon, _encode_beacon, _decode_beacon),
    BEACON_OK: (BeaconOk, _encode_beacon_ok, _decode_beacon_ok),
    RELINQUISH: (Relinquish, _encode_relinquish, _decode_relinquish),
}

_ENCODERS: Final[dict[type[Message], _Encode]] = {row[0]: row[1] for row in TABLE.values()}
_SNAPSHOT_TAGS: Final = (raft_codec.SNAPSHOT, raft_codec.SNAPSHOT_RESP)


def encode_parts(m: PeerMessage) -> list[bytes]:
    """The message as pieces to be written one after the other; big entries are not copied. KeyError if local."""
    if isinstance(m, Message):
        return _ENCODERS[type(m)](m)
    return raft_codec.encode_parts(m)


def encode(m: PeerMessage) -> bytes:
    """The message as one piece."""
    parts = encode_parts(m)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decode(data: bytes) -> PeerMessage:
    """The inverse of encode(). Raises DecodeError if a field is missing, left over or out of place."""
    if not data:
        raise DecodeError("an empty message")
    tag = data[0]
    if tag in _SNAPSHOT_TAGS:
        m = raft_codec.decode(data)
        assert isinstance(m, (Snapshot, SnapshotResp))
        return m
    row = TABLE.get(tag)
    if row is None:
        raise DecodeError(f"unknown message tag {tag}; the peer may run another replication mode or a newer release")
    try:
        return row[2](data)
    except struct.error as error:
        raise DecodeError(f"malformed {row[0].__name__}: {error}") from None


# Calls to the config holder


def encode_call(c: HolderCall) -> bytes:
    """A call as the bytes the register applies."""
    if isinstance(c, CreateCall):
        tag, body = CREATE, c.config.encode()
    elif isinstance(c, CasCall):
        tag, body = CAS, c.config.encode()
    elif isinstance(c, RenewCall):
        tag, body = RENEW, _TWO.pack(c.epoch, c.grace_ns)
    elif isinstance(c, ForceCall):
        count = len(c.given_up)
        tag = FORCE
        body = _FORCE.pack(c.epoch, c.node, c.certain_through, c.kept_through, count)
        body += struct.pack(f"<{count}Q", *c.given_up)
    else:
        assert isinstance(c, ReadCall)
        tag, body = READ, b""
    return _CALL.pack(tag, c.call_id, c.shard, c.request.node, c.request.nonce, c.request.number) + body


def decode_call(data: bytes) -> HolderCall:
    """The inverse of encode_call(). Raises DecodeError."""
    try:
        tag, call_id, shard, node, nonce, number = _CALL.unpack_from(data)
        body = data[_CALL.size :]
        request = RequestId(node, nonce, number)
        if tag in (CREATE, CAS):
            config = ShardConfig.decode(body)
            if config.shard != shard or config.request != request:
                raise DecodeError("a configuration of another shard or request than the call's")
            kind = CreateCall if tag == CREATE else CasCall
            return kind(call_id, shard, request, config)
        if tag == READ:
            if body:
                raise DecodeError(f"{len(body)} bytes follow a read")
            return ReadCall(call_id, shard, request)
        if tag == RENEW:
            epoch, grace_ns = _TWO.unpack(body)
            return RenewCall(call_id, shard, request, epoch, grace_ns)
        if tag == FORCE:
            return _decode_force(call_id, shard, request, body)
    except struct.error as error:
        raise DecodeError(f"malformed call: {error}") from None
    raise DecodeError(f"unknown call tag {tag}; the caller may run a newer release")


def _decode_force(call_id: int, shard: int, request: RequestId, body: bytes) -> HolderCall:
    epoch, node, certain, kept, count = _FORCE.unpack_from(body)
    if count > MEMBERS_MAX or len(body) != _FORCE.size + 8 * count:
        raise DecodeError(f"{len(body)} bytes do not name {count} members")
    given_up: tuple[int, ...] = struct.unpack_from(f"<{count}Q", body, _FORCE.size)
    return ForceCall(call_id, shard, request, epoch, node, given_up, certain, kept)


def encode_answer(a: HolderAnswer) -> bytes:
    """An answer as bytes."""
    head = _ANSWER.pack(ANSWER, a.call_id, a.outcome, a.reason)
    return head if a.config is None else head + a.config.encode()


def decode_answer(data: bytes) -> HolderAnswer:
    """The inverse of encode_answer(). Raises DecodeError."""
    if len(data) < _ANSWER.size or data[0] != ANSWER:
        raise DecodeError("not an answer of the config holder")
    _, call_id, outcome, reason = _ANSWER.unpack_from(data)
    if outcome > Outcome.UNKNOWN or reason >= len(REASON_TEXTS):
        raise DecodeError(f"outcome {outcome} for reason {reason} is unknown; the holder may run a newer release")
    body = data[_ANSWER.size :]
    return HolderAnswer(call_id, outcome, reason, ShardConfig.decode(body) if body else None)
