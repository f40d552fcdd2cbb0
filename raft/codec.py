"""Messages as bytes: one table from tag to (class, encode, decode).

Rule: decode() is total; whatever the bytes, it returns a message or raises DecodeError, never allocating more than
the input. All numbers little-endian. Framing, checksums and versions of the connection belong to the transport.

Layout: tag u8, group u64, from u64, to u64, term u64, then the fields below in order. An entry is index u64, term
u64, subterm u64, kind u8, length u32, data.
"""

import struct
from collections.abc import Callable
from typing import Final

from raft.messages import (
    Append,
    AppendResp,
    Heartbeat,
    HeartbeatResp,
    Message,
    PreVote,
    PreVoteResp,
    ReadIndexReq,
    ReadIndexResp,
    Snapshot,
    SnapshotResp,
    TimeoutNow,
    Vote,
    VoteResp,
    WitnessAppend,
    WitnessAppendResp,
    WitnessVote,
    WitnessVoteResp,
)
from raft.types import DecodeError, Entry, EntryKind, Membership, SnapshotMeta

_HEAD: Final = "<BQQQQ"
_VOTE: Final = struct.Struct(_HEAD + "QQ?Q")
_FLAG: Final = struct.Struct(_HEAD + "?")
_TWO: Final = struct.Struct(_HEAD + "QQ")
_THREE: Final = struct.Struct(_HEAD + "QQQ")
_ONE: Final = struct.Struct(_HEAD + "Q")
_APPEND: Final = struct.Struct(_HEAD + "QQQQQI")
_APPEND_RESP: Final = struct.Struct(_HEAD + "?QQQQQ")
_READ_RESP: Final = struct.Struct(_HEAD + "Q?Q")
# meta index, term, subterm, id, membership length; offset, done, crc, crc_total, data length
_SNAPSHOT: Final = struct.Struct(_HEAD + "QQQQIQ?III")
_ENTRY: Final = struct.Struct("<QQQBI")
# last log term, last log subterm, index, members; then their ids
_WITNESS_APPEND: Final = struct.Struct(_HEAD + "QQQH")
_WITNESS_APPEND_RESP: Final = struct.Struct(_HEAD + "?QQ")
# last log term, last log subterm, pre, voters; then their ids
_WITNESS_VOTE: Final = struct.Struct(_HEAD + "QQ?H")
_TWO_FLAGS: Final = struct.Struct(_HEAD + "??")

APPEND: Final = 1
APPEND_RESP: Final = 2
HEARTBEAT: Final = 3
HEARTBEAT_RESP: Final = 4
VOTE: Final = 5
VOTE_RESP: Final = 6
PRE_VOTE: Final = 7
PRE_VOTE_RESP: Final = 8
SNAPSHOT: Final = 9
SNAPSHOT_RESP: Final = 10
TIMEOUT_NOW: Final = 11
READ_INDEX_REQ: Final = 12
READ_INDEX_RESP: Final = 13
WITNESS_APPEND: Final = 14
WITNESS_APPEND_RESP: Final = 15
WITNESS_VOTE: Final = 16
WITNESS_VOTE_RESP: Final = 17


def _encode_append(m: Message) -> list[bytes]:
    assert isinstance(m, Append)
    entries = m.entries
    parts = [
        _APPEND.pack(
            APPEND, m.group, m.from_, m.to, m.term, m.prev_index, m.prev_term, m.commit, m.round, m.t_sent_ns,
            len(entries),
        )
    ]  # fmt: skip
    pack = _ENTRY.pack
    for e in entries:
        data = e.data
        parts.append(pack(e.index, e.term, e.subterm, e.kind, len(data)))
        parts.append(data)
    return parts


def _decode_append(data: bytes) -> Message:
    _, group, from_, to, term, prev_index, prev_term, commit, round_, t_sent_ns, count = _APPEND.unpack_from(data)
    at = _APPEND.size
    size = len(data)
    # Checked before the loop, so that a lying count cannot cost more than the bytes it came with.
    if count * _ENTRY.size > size - at:
        raise DecodeError(f"append of {count} entries does not fit in {size} bytes")
    entries: list[Entry] = []
    index = prev_index
    for _ in range(count):
        e_index, e_term, e_subterm, e_kind, length = _ENTRY.unpack_from(data, at)
        at += _ENTRY.size
        end = at + length
        index += 1
        if end > size or e_index != index or e_kind > EntryKind.CONFIG:
            raise DecodeError(f"entry {e_index} of kind {e_kind} is out of order, unknown or cut short")
        body = data[at:end]
        if e_kind == EntryKind.CONFIG:
            Membership.decode(body)
        entries.append(Entry(e_index, e_term, e_subterm, e_kind, body))
        at = end
    if at != size:
        raise DecodeError(f"{size - at} bytes follow the last entry")
    return Append(group, from_, to, term, prev_index, prev_term, commit, round_, t_sent_ns, entries)


def _encode_append_resp(m: Message) -> list[bytes]:
    assert isinstance(m, AppendResp)
    return [
        _APPEND_RESP.pack(
            APPEND_RESP, m.group, m.from_, m.to, m.term, m.ok, m.match, m.hint_index, m.hint_term, m.round, m.t_sent_ns
        )
    ]


def _decode_append_resp(data: bytes) -> Message:
    _, group, from_, to, term, ok, match, hint_index, hint_term, round_, t_sent_ns = _APPEND_RESP.unpack(data)
    return AppendResp(group, from_, to, term, ok, match, hint_index, hint_term, round_, t_sent_ns)


def _encode_heartbeat(m: Message) -> list[bytes]:
    assert isinstance(m, Heartbeat)
    return [_THREE.pack(HEARTBEAT, m.group, m.from_, m.to, m.term, m.commit, m.round, m.t_sent_ns)]


def _decode_heartbeat(data: bytes) -> Message:
    _, group, from_, to, term, commit, round_, t_sent_ns = _THREE.unpack(data)
    return Heartbeat(group, from_, to, term, commit, round_, t_sent_ns)


def _encode_heartbeat_resp(m: Message) -> list[bytes]:
    assert isinstance(m, HeartbeatResp)
    return [_TWO.pack(HEARTBEAT_RESP, m.group, m.from_, m.to, m.term, m.round, m.t_sent_ns)]


def _decode_heartbeat_resp(data: bytes) -> Message:
    _, group, from_, to, term, round_, t_sent_ns = _TWO.unpack(data)
    return HeartbeatResp(group, from_, to, term, round_, t_sent_ns)


def _encode_vote(m: Message) -> list[bytes]:
    assert isinstance(m, Vote)
    return [_VOTE.pack(VOTE, m.group, m.from_, m.to, m.term, m.last_index, m.last_term, m.force, m.force_round)]


def _decode_vote(data: bytes) -> Message:
    _, group, from_, to, term, last_index, last_term, force, force_round = _VOTE.unpack(data)
    return Vote(group, from_, to, term, last_index, last_term, force, force_round)


def _encode_vote_resp(m: Message) -> list[bytes]:
    assert isinstance(m, VoteResp)
    return [_FLAG.pack(VOTE_RESP, m.group, m.from_, m.to, m.term, m.granted)]


def _decode_vote_resp(data: bytes) -> Message:
    _, group, from_, to, term, granted = _FLAG.unpack(data)
    return VoteResp(group, from_, to, term, granted)


def _encode_pre_vote(m: Message) -> list[bytes]:
    assert isinstance(m, PreVote)
    return [_TWO.pack(PRE_VOTE, m.group, m.from_, m.to, m.term, m.last_index, m.last_term)]


def _decode_pre_vote(data: bytes) -> Message:
    _, group, from_, to, term, last_index, last_term = _TWO.unpack(data)
    return PreVote(group, from_, to, term, last_index, last_term)


def _encode_pre_vote_resp(m: Message) -> list[bytes]:
    assert isinstance(m, PreVoteResp)
    return [_FLAG.pack(PRE_VOTE_RESP, m.group, m.from_, m.to, m.term, m.granted)]


def _decode_pre_vote_resp(data: bytes) -> Message:
    _, group, from_, to, term, granted = _FLAG.unpack(data)
    return PreVoteResp(group, from_, to, term, granted)


def _encode_snapshot(m: Message) -> list[bytes]:
    assert isinstance(m, Snapshot)
    meta = m.meta
    members = meta.membership.encode()
    head = _SNAPSHOT.pack(
        SNAPSHOT, m.group, m.from_, m.to, m.term, meta.index, meta.term, meta.subterm, meta.id, len(members),
        m.offset, m.done, m.crc, m.crc_total, len(m.data),
    )  # fmt: skip
    return [head, members, m.data]


def _decode_snapshot(data: bytes) -> Message:
    (
        _, group, from_, to, term, index, meta_term, subterm, id_, members_len, offset, done, crc, crc_total, length,
    ) = _SNAPSHOT.unpack_from(data)  # fmt: skip
    at = _SNAPSHOT.size
    if len(data) != at + members_len + length:
        raise DecodeError("snapshot chunk length does not match its header")
    meta = SnapshotMeta(index, meta_term, subterm, Membership.decode(data[at : at + members_len]), id_)
    return Snapshot(group, from_, to, term, meta, offset, done, crc, crc_total, data[at + members_len :])


def _encode_snapshot_resp(m: Message) -> list[bytes]:
    assert isinstance(m, SnapshotResp)
    return [_TWO.pack(SNAPSHOT_RESP, m.group, m.from_, m.to, m.term, m.index, m.next_offset)]


def _decode_snapshot_resp(data: bytes) -> Message:
    _, group, from_, to, term, index, next_offset = _TWO.unpack(data)
    return SnapshotResp(group, from_, to, term, index, next_offset)


def _encode_timeout_now(m: Message) -> list[bytes]:
    assert isinstance(m, TimeoutNow)
    return [_ONE.pack(TIMEOUT_NOW, m.group, m.from_, m.to, m.term, m.round)]


def _decode_timeout_now(data: bytes) -> Message:
    _, group, from_, to, term, round_ = _ONE.unpack(data)
    return TimeoutNow(group, from_, to, term, round_)


def _encode_read_index_req(m: Message) -> list[bytes]:
    assert isinstance(m, ReadIndexReq)
    return [_ONE.pack(READ_INDEX_REQ, m.group, m.from_, m.to, m.term, m.read_id)]


def _decode_read_index_req(data: bytes) -> Message:
    _, group, from_, to, term, read_id = _ONE.unpack(data)
    return ReadIndexReq(group, from_, to, term, read_id)


def _encode_read_index_resp(m: Message) -> list[bytes]:
    assert isinstance(m, ReadIndexResp)
    return [_READ_RESP.pack(READ_INDEX_RESP, m.group, m.from_, m.to, m.term, m.read_id, m.ok, m.index)]


def _decode_read_index_resp(data: bytes) -> Message:
    _, group, from_, to, term, read_id, ok, index = _READ_RESP.unpack(data)
    return ReadIndexResp(group, from_, to, term, read_id, ok, index)


def _pack_ids(ids: tuple[int, ...]) -> bytes:
    return struct.pack(f"<{len(ids)}Q", *ids)


def _unpack_ids(data: bytes, at: int, count: int) -> tuple[int, ...]:
    if len(data) != at + 8 * count:
        raise DecodeError(f"{len(data) - at} bytes are not {count} ids")
    ids: tuple[int, ...] = struct.unpack_from(f"<{count}Q", data, at)
    for i in range(1, count):
        if ids[i] <= ids[i - 1]:
            raise DecodeError("ids are not sorted")
    return ids


def _encode_witness_append(m: Message) -> list[bytes]:
    assert isinstance(m, WitnessAppend)
    head = _WITNESS_APPEND.pack(
        WITNESS_APPEND, m.group, m.from_, m.to, m.term, m.last_log_term, m.last_log_subterm, m.index,
        len(m.replication_set),
    )  # fmt: skip
    return [head, _pack_ids(m.replication_set)]


def _decode_witness_append(data: bytes) -> Message:
    _, group, from_, to, term, last_term, last_subterm, index, count = _WITNESS_APPEND.unpack_from(data)
    ids = _unpack_ids(data, _WITNESS_APPEND.size, count)
    return WitnessAppend(group, from_, to, term, last_term, last_subterm, index, ids)


def _encode_witness_append_resp(m: Message) -> list[bytes]:
    assert isinstance(m, WitnessAppendResp)
    return [_WITNESS_APPEND_RESP.pack(WITNESS_APPEND_RESP, m.group, m.from_, m.to, m.term, m.ok, m.subterm, m.index)]


def _decode_witness_append_resp(data: bytes) -> Message:
    _, group, from_, to, term, ok, subterm, index = _WITNESS_APPEND_RESP.unpack(data)
    return WitnessAppendResp(group, from_, to, term, ok, subterm, index)


def _encode_witness_vote(m: Message) -> list[bytes]:
    assert isinstance(m, WitnessVote)
    head = _WITNESS_VOTE.pack(
        WITNESS_VOTE, m.group, m.from_, m.to, m.term, m.last_log_term, m.last_log_subterm, m.pre,
        len(m.votes_granted),
    )  # fmt: skip
    return [head, _pack_ids(m.votes_granted)]


def _decode_witness_vote(data: bytes) -> Message:
    _, group, from_, to, term, last_term, last_subterm, pre, count = _WITNESS_VOTE.unpack_from(data)
    ids = _unpack_ids(data, _WITNESS_VOTE.size, count)
    return WitnessVote(group, from_, to, term, last_term, last_subterm, pre, ids)


def _encode_witness_vote_resp(m: Message) -> list[bytes]:
    assert isinstance(m, WitnessVoteResp)
    return [_TWO_FLAGS.pack(WITNESS_VOTE_RESP, m.group, m.from_, m.to, m.term, m.granted, m.pre)]


def _decode_witness_vote_resp(data: bytes) -> Message:
    _, group, from_, to, term, granted, pre = _TWO_FLAGS.unpack(data)
    return WitnessVoteResp(group, from_, to, term, granted, pre)


_Encode = Callable[[Message], list[bytes]]
_Decode = Callable[[bytes], Message]

# StorageAppendDone is missing on purpose: it never leaves its node.
TABLE: Final[dict[int, tuple[type[Message], _Encode, _Decode]]] = {
    APPEND: (Append, _encode_append, _decode_append),
    APPEND_RESP: (AppendResp, _encode_append_resp, _decode_append_resp),
    HEARTBEAT: (Heartbeat, _encode_heartbeat, _decode_heartbeat),
    HEARTBEAT_RESP: (HeartbeatResp, _encode_heartbeat_resp, _decode_heartbeat_resp),
    VOTE: (Vote, _encode_vote, _decode_vote),
    VOTE_RESP: (VoteResp, _encode_vote_resp, _decode_vote_resp),
    PRE_VOTE: (PreVote, _encode_pre_vote, _decode_pre_vote),
    PRE_VOTE_RESP: (PreVoteResp, _encode_pre_vote_resp, _decode_pre_vote_resp),
    SNAPSHOT: (Snapshot, _encode_snapshot, _decode_snapshot),
    SNAPSHOT_RESP: (SnapshotResp, _encode_snapshot_resp, _decode_snapshot_resp),
    TIMEOUT_NOW: (TimeoutNow, _encode_timeout_now, _decode_timeout_now),
    READ_INDEX_REQ: (ReadIndexReq, _encode_read_index_req, _decode_read_index_req),
    READ_INDEX_RESP: (ReadIndexResp, _encode_read_index_resp, _decode_read_index_resp),
    WITNESS_APPEND: (WitnessAppend, _encode_witness_append, _decode_witness_append),
    WITNESS_APPEND_RESP: (WitnessAppendResp, _encode_witness_append_resp, _decode_witness_append_resp),
    WITNESS_VOTE: (WitnessVote, _encode_witness_vote, _decode_witness_vote),
    WITNESS_VOTE_RESP: (WitnessVoteResp, _encode_witness_vote_resp, _decode_witness_vote_resp),
}

_ENCODERS: Final[dict[type[Message], _Encode]] = {row[0]: row[1] for row in TABLE.values()}


def encode_parts(msg: Message) -> list[bytes]:
    """The message as pieces to be written one after the other; big entries are not copied. KeyError if local."""
    return _ENCODERS[type(msg)](msg)


def encode(msg: Message) -> bytes:
    """The message as one piece."""
    parts = _ENCODERS[type(msg)](msg)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def decode(data: bytes) -> Message:
    """The inverse of encode(). Raises DecodeError if a field is missing, left over or out of place."""
    if not data:
        raise DecodeError("an empty message")
    row = TABLE.get(data[0])
    if row is None:
        raise DecodeError(f"unknown message tag {data[0]}; the peer may run a newer release")
    try:
        return row[2](data)
    except struct.error as error:
        raise DecodeError(f"malformed {row[0].__name__}: {error}") from None
