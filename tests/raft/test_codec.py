"""Every message survives the wire; no bytes whatever make decode() do anything but return a message or DecodeError."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft import DecodeError, Entry, Membership, SnapshotMeta, codec
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
    StorageAppendDone,
    TimeoutNow,
    Vote,
    VoteResp,
    WitnessAppend,
    WitnessAppendResp,
    WitnessVote,
    WitnessVoteResp,
)
from tests.raft.cluster import Dice

U64 = st.integers(0, 2**64 - 1)
U32 = st.integers(0, 2**32 - 1)
HEAD = (U64, U64, U64, U64)
IDS = st.lists(st.integers(1, 2**64 - 1), unique=True, max_size=5)


@st.composite
def memberships(draw):
    parts = [draw(IDS) for _ in range(4)]
    witness = draw(U64.filter(lambda w: all(w not in part for part in parts)))
    outgoing = witness if parts[1] and draw(st.booleans()) else 0
    incoming = 0 if outgoing and draw(st.booleans()) else witness
    return Membership(*parts, incoming, draw(st.booleans()), draw(st.binary(max_size=30)), outgoing)


MEMBERSHIP = memberships()
SORTED_IDS = IDS.map(lambda ids: tuple(sorted(ids)))
META = st.builds(SnapshotMeta, U64, U64, U64, MEMBERSHIP, U64)


@st.composite
def appends(draw):
    prev = draw(st.integers(0, 2**40))
    entries = []
    for i in range(draw(st.integers(0, 5))):
        kind = draw(st.integers(0, 2))
        data = draw(MEMBERSHIP).encode() if kind == 2 else draw(st.binary(max_size=50))
        entries.append(Entry(prev + 1 + i, draw(U64), draw(U64), kind, data))
    return Append(*[draw(s) for s in HEAD], prev, *[draw(U64) for _ in range(4)], entries)


MESSAGES = st.one_of(
    appends(),
    st.builds(AppendResp, *HEAD, st.booleans(), U64, U64, U64, U64, U64),
    st.builds(Heartbeat, *HEAD, U64, U64, U64),
    st.builds(HeartbeatResp, *HEAD, U64, U64),
    st.builds(Vote, *HEAD, U64, U64, st.booleans(), U64),
    st.builds(VoteResp, *HEAD, st.booleans()),
    st.builds(PreVote, *HEAD, U64, U64),
    st.builds(PreVoteResp, *HEAD, st.booleans()),
    st.builds(Snapshot, *HEAD, META, U64, st.booleans(), U32, U32, st.binary(max_size=100)),
    st.builds(SnapshotResp, *HEAD, U64, U64),
    st.builds(TimeoutNow, *HEAD, U64),
    st.builds(ReadIndexReq, *HEAD, U64),
    st.builds(ReadIndexResp, *HEAD, U64, st.booleans(), U64),
    st.builds(WitnessAppend, *HEAD, U64, U64, U64, SORTED_IDS),
    st.builds(WitnessAppendResp, *HEAD, st.booleans(), U64, U64),
    st.builds(WitnessVote, *HEAD, U64, U64, st.booleans(), SORTED_IDS),
    st.builds(WitnessVoteResp, *HEAD, st.booleans(), st.booleans()),
)


def fields(m):
    return {k: getattr(m, k) for cls in type(m).__mro__ for k in getattr(cls, "__slots__", ())}


@settings(max_examples=400, deadline=None)
@given(MESSAGES)
def test_round_trip(m):
    data = codec.encode(m)
    back = codec.decode(data)
    assert type(back) is type(m)
    assert fields(back) == fields(m)
    assert b"".join(codec.encode_parts(m)) == data


@settings(max_examples=200, deadline=None)
@given(MEMBERSHIP)
def test_membership_round_trip(m):
    assert Membership.decode(m.encode()) == m


def try_decode(data):
    try:
        m = codec.decode(data)
    except DecodeError:
        return False
    assert isinstance(m, Message)
    return True


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data):
    try_decode(data)
    for tag in codec.TABLE:
        try_decode(bytes([tag]) + data)


@settings(max_examples=200, deadline=None)
@given(MESSAGES, st.integers(0, 2**32))
def test_damaged_messages(m, seed):
    data = codec.encode(m)
    dice = Dice(seed)
    for cut in range(len(data)):
        assert not try_decode(data[:cut]), "a truncated message was taken for a whole one"
    assert not try_decode(data + b"\0")
    for _ in range(30):
        spoiled = bytearray(data)
        spoiled[dice.below(len(data))] ^= 1 << dice.below(8)
        try_decode(bytes(spoiled))


def test_every_message_on_the_wire_has_a_tag_and_the_local_one_has_none():
    on_wire = {row[0] for row in codec.TABLE.values()}
    assert on_wire == set(Message.__subclasses__()) - {StorageAppendDone}
    with pytest.raises(KeyError):
        codec.encode(StorageAppendDone(1, 1, 1, 1, 1, 1, 1))


def test_a_lying_entry_count_costs_nothing():
    data = bytearray(codec.encode(Append(1, 2, 3, 4, 5, 6, 7, 8, 9, [])))
    data[-4:] = struct.pack("<I", 2**32 - 1)
    with pytest.raises(DecodeError, match="does not fit"):
        codec.decode(bytes(data))


def test_big_data_is_not_copied_into_the_parts():
    big = bytes(1 << 20)
    parts = codec.encode_parts(Append(1, 2, 3, 4, 5, 6, 7, 8, 9, [Entry(6, 6, 0, 0, big)]))
    assert any(part is big for part in parts)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02" + bytes(21),
        Membership((1, 2)).encode() + b"x",
        Membership((1, 2)).encode()[:-1],
        Membership((1, 2)).encode()[:22] + struct.pack("<QQ", 2, 1),
        Membership((1, 2)).encode()[:22] + struct.pack("<QQ", 2, 2),
        Membership((1, 2)).encode()[:22] + struct.pack("<QQ", 0, 2),
        # Flags: unknown; a half's witness without a name; an outgoing witness without an outgoing half.
        b"\x01\x08" + Membership((1, 2)).encode()[2:],
        b"\x01\x04" + Membership((1, 2), (1, 3), witness=9).encode()[2:],
        b"\x01\x02" + Membership((1, 2), (1, 3)).encode()[2:],
        b"\x01\x02" + Membership((1, 2), witness=9).encode()[2:],
        # The witness is a voter.
        Membership((1, 2), witness=9).encode()[:22] + struct.pack("<QQ", 1, 9),
    ],
)
def test_malformed_memberships(data):
    with pytest.raises(DecodeError):
        Membership.decode(data)


def test_a_membership_without_a_witness_in_either_half_has_the_bytes_it_always_had():
    assert Membership((2, 1), (3,), (4,), (3,), 0, True, b"x").encode() == (
        struct.pack("<BBHHHHQI5Q", 1, 1, 2, 1, 1, 1, 0, 1, 1, 2, 3, 4, 3) + b"x"
    )
    assert Membership((1, 2), witness=9).encode()[:2] == b"\x01\x00"


@pytest.mark.parametrize(("ids", "complaint"), [((2, 1), "not sorted"), ((1, 1), "not sorted"), ((1,), "are not 2")])
def test_witness_messages_name_sorted_sets(ids, complaint):
    data = codec.encode(WitnessAppend(1, 2, 9, 4, 4, 0, 5, (1, 2)))
    with pytest.raises(DecodeError, match=complaint):
        codec.decode(data[:-16] + struct.pack(f"<{len(ids)}Q", *ids))


def test_entries_out_of_order_are_refused():
    data = codec.encode(Append(1, 2, 3, 4, 5, 6, 7, 8, 9, [Entry(8, 6, 0, 0, b"x")]))
    with pytest.raises(DecodeError, match="out of order"):
        codec.decode(data)
