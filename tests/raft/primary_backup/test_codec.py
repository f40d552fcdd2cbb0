"""Every message, call and answer survives the wire; no bytes whatever make a decoder do more than say DecodeError."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft import DecodeError, Entry, Membership, SnapshotMeta
from raft.messages import Snapshot, SnapshotResp
from raft.primary_backup import HolderAnswer, RequestId, ShardConfig, codec
from raft.primary_backup.messages import (
    Beacon,
    BeaconOk,
    CasCall,
    CreateCall,
    ForceCall,
    Prepare,
    PrepareOk,
    ReadCall,
    Relinquish,
    RenewCall,
)
from raft.primary_backup.types import MEMBERS_MAX
from tests.raft.cluster import Dice

U64 = st.integers(0, 2**64 - 1)
HEAD = (U64, U64, U64, U64)
REQUEST = st.builds(RequestId, U64, U64, U64)


@st.composite
def configs(draw, shard=U64, request=REQUEST):
    ids = sorted(draw(st.sets(st.integers(1, 2**64 - 1), min_size=1, max_size=7)))
    cut = draw(st.integers(1, len(ids)))
    primary = ids[draw(st.integers(0, cut - 1))]
    return ShardConfig(
        draw(shard), draw(st.integers(1, 2**64 - 1)), primary, ids[:cut], ids[cut:], draw(st.integers(1, 9)), draw(U64),
        draw(request), draw(st.binary(max_size=40)),
    )  # fmt: skip


@st.composite
def prepares(draw):
    prev = draw(st.integers(0, 2**40))
    terms = sorted(draw(st.lists(U64, min_size=2, max_size=7)))
    entries = []
    for i, term in enumerate(terms[1:-1]):
        kind = draw(st.integers(0, 2))
        data = Membership((1, 2)).encode() if kind == 2 else draw(st.binary(max_size=50))
        entries.append(Entry(prev + 1 + i, term, draw(U64), kind, data))
    head = [draw(s) for s in HEAD[:3]]
    return Prepare(*head, terms[-1], prev, terms[0], *[draw(U64) for _ in range(4)], entries)


ANSWERS_TO_PREPARE = st.builds(PrepareOk, *HEAD, st.booleans(), st.booleans(), U64, U64, U64, U64, U64).filter(
    lambda m: not (m.ok and m.rebuild)
)
META = st.builds(SnapshotMeta, U64, U64, U64, st.just(Membership((1, 2), learners=(3,))), U64)
MESSAGES = st.one_of(
    prepares(),
    ANSWERS_TO_PREPARE,
    st.builds(Beacon, *HEAD, U64, U64, U64),
    st.builds(BeaconOk, *HEAD, U64, U64),
    st.builds(Relinquish, *HEAD),
    st.builds(Snapshot, *HEAD, META, U64, st.booleans(), st.just(1), st.just(2), st.binary(max_size=60)),
    st.builds(SnapshotResp, *HEAD, U64, U64),
)


@st.composite
def calls(draw):
    call_id, shard, request = draw(U64), draw(U64), draw(REQUEST)
    kind = draw(st.integers(0, 4))
    if kind <= 1:
        config = draw(configs(st.just(shard), st.just(request)))
        return (CreateCall, CasCall)[kind](call_id, shard, request, config)
    if kind == 2:
        return ReadCall(call_id, shard, request)
    if kind == 3:
        return RenewCall(call_id, shard, request, draw(U64), draw(U64))
    given = tuple(draw(st.lists(U64, max_size=5)))
    return ForceCall(call_id, shard, request, draw(U64), draw(U64), given, draw(U64), draw(U64))


def fields(m):
    out = [type(m)]
    for cls in type(m).__mro__:
        out.extend(getattr(m, name) for name in getattr(cls, "__slots__", ()))
    return out


@given(MESSAGES)
@settings(max_examples=60, deadline=None)
def test_messages_round_trip(m):
    data = codec.encode(m)
    assert b"".join(codec.encode_parts(m)) == data
    assert fields(codec.decode(data)) == fields(m)


@given(calls())
@settings(max_examples=50, deadline=None)
def test_calls_round_trip(call):
    assert fields(codec.decode_call(codec.encode_call(call))) == fields(call)


@given(st.builds(HolderAnswer, U64, st.integers(0, 2), st.integers(0, 5), st.one_of(st.none(), configs())))
@settings(max_examples=40, deadline=None)
def test_answers_round_trip(answer):
    assert fields(codec.decode_answer(codec.encode_answer(answer))) == fields(answer)


DECODERS = (codec.decode, codec.decode_call, codec.decode_answer, ShardConfig.decode)


@given(st.one_of(MESSAGES.map(codec.encode), calls().map(codec.encode_call), st.binary(max_size=200)), U64)
@settings(max_examples=100, deadline=None)
def test_damaged_bytes_are_refused_or_mean_something(data, seed):
    dice = Dice(seed)
    damaged = bytearray(data)
    for _ in range(dice.below(4)):
        if damaged:
            damaged[dice.below(len(damaged))] = dice.below(256)
    damaged = damaged[: dice.below(len(damaged) + 1)] if dice.chance(40) else damaged
    for decode in DECODERS:
        try:
            out = decode(bytes(damaged))
        except DecodeError:
            continue
        assert out is not None


@given(MESSAGES)
@settings(max_examples=60, deadline=None)
def test_every_cut_and_every_extension_is_refused(m):
    data = codec.encode(m)
    with pytest.raises(DecodeError):
        codec.decode(data[: len(data) // 2])
    with pytest.raises(DecodeError):
        codec.decode(data + b"\x00")


def test_a_lying_count_costs_nothing():
    m = Prepare(1, 2, 3, 9, 0, 0, 0, 0, 0, 0, [])
    data = bytearray(codec.encode(m))
    data[-4:] = struct.pack("<I", 2**32 - 1)
    with pytest.raises(DecodeError, match="does not fit"):
        codec.decode(bytes(data))


def test_entries_above_the_epoch_or_out_of_order_are_refused():
    for terms in ((10,), (5, 4)):
        entries = [Entry(i + 1, term, 0, 0, b"x") for i, term in enumerate(terms)]
        with pytest.raises(DecodeError, match="out of order"):
            codec.decode(codec.encode(Prepare(1, 2, 3, 9, 0, 0, 0, 0, 0, 0, entries)))


def test_tags_do_not_meet_those_of_raft():
    from raft import codec as raft_codec

    assert not set(codec.TABLE) & set(raft_codec.TABLE)
    vote = b"\x05" + b"\x00" * 57
    with pytest.raises(DecodeError, match="another replication mode"):
        codec.decode(vote)


def test_a_configuration_says_what_is_wrong_with_it():
    for text, arguments in (
        ("not one of the in-sync", (1, 1, 3, (1, 2))),
        ("listed twice", (1, 1, 1, (1, 1))),
        ("both in sync and a learner", (1, 1, 1, (1, 2), (2,))),
        ("min_isr", (1, 1, 1, (1,), (), 0)),
        ("epochs start at 1", (1, 0, 1, (1,))),
        ("positive", (1, 1, 1, (0, 1))),
        ("at most", (1, 1, 1, tuple(range(1, MEMBERS_MAX + 2)))),
    ):
        with pytest.raises(ValueError, match=text):
            ShardConfig(*arguments)
    with pytest.raises(ValueError, match="context"):
        ShardConfig(1, 1, 1, (1,), context=b"x" * 70_000)
