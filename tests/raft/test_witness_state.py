"""The witness's own rules: what it answers, what it remembers, and that its state survives as bytes or not at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raft import DecodeError
from raft.messages import Vote, WitnessAppend, WitnessVote
from raft.witness import WitnessState, answer
from tests.raft.cluster import Dice

PINNED = WitnessState(1, 9, term=5, vote=1, last_log_term=5, last_log_subterm=2, replication_set=(1, 9))


def append(term=5, pair=(5, 3), members=(1, 9), index=7, from_=1):
    return WitnessAppend(1, from_, 9, term, pair[0], pair[1], index, members)


def vote(term, pair, granted, pre=False, from_=2):
    return WitnessVote(1, from_, 9, term, pair[0], pair[1], pre, granted)


def test_a_larger_pair_is_recorded():
    state, reply = answer(PINNED, append())
    assert state == WitnessState(1, 9, 5, 1, 5, 3, (1, 9))
    assert (reply.ok, reply.term, reply.subterm, reply.index, reply.to) == (True, 5, 3, 7, 1)


def test_the_same_question_again_is_acknowledged_without_a_write():
    state, _ = answer(PINNED, append())
    again, reply = answer(state, append(index=12))
    assert again is state
    assert (reply.ok, reply.index) == (True, 12)


@pytest.mark.parametrize(
    "question",
    [append(pair=(5, 2), members=(1, 2)), append(pair=(5, 1)), append(pair=(4, 9))],
    ids=["another set in one subterm", "an older subterm", "an older term's entry"],
)
def test_what_contradicts_the_record_is_refused(question):
    state, reply = answer(PINNED, question)
    assert state is PINNED
    assert (reply.ok, reply.term) == (False, 5)


def test_an_older_term_is_refused_and_told_the_newer():
    state, reply = answer(PINNED, append(term=4, pair=(4, 9)))
    assert state is PINNED
    assert (reply.ok, reply.term) == (False, 5)


def test_a_newer_term_is_adopted_and_ends_the_vote():
    state, _ = answer(PINNED, append(term=6, pair=(6, 0), members=(2, 9), from_=2))
    assert state == WitnessState(1, 9, 6, 0, 6, 0, (2, 9))


@pytest.mark.parametrize(
    ("pair", "granted", "want"),
    [
        ((6, 0), (2,), True),
        ((5, 3), (2,), True),
        ((5, 2), (1,), True),
        ((5, 2), (2,), False),
        ((5, 2), (1, 2), False),
        ((5, 1), (1,), False),
        ((4, 9), (1,), False),
    ],
)
def test_a_vote_needs_a_later_pair_or_voters_of_the_set(pair, granted, want):
    for pre in (False, True):
        _, reply = answer(PINNED, vote(8, pair, granted, pre))
        assert (reply.granted, reply.pre) == (want, pre)


def test_a_pre_vote_changes_nothing_and_echoes_the_term_it_grants():
    state, reply = answer(PINNED, vote(8, (6, 0), (2,), pre=True))
    assert state is PINNED
    assert (reply.granted, reply.term) == (True, 8)
    state, reply = answer(PINNED, vote(8, (5, 2), (2,), pre=True))
    assert state is PINNED
    assert (reply.granted, reply.term) == (False, 5)
    _, reply = answer(PINNED, vote(5, (6, 0), (2,), pre=True))
    assert not reply.granted


def test_a_refused_vote_raises_the_term():
    state, reply = answer(PINNED, vote(8, (5, 2), (2,)))
    assert (state.term, state.vote, reply.granted, reply.term) == (8, 0, False, 8)
    state, reply = answer(state, append(term=5))
    assert (reply.ok, reply.term) == (False, 8)


def test_one_vote_per_term_which_may_be_repeated():
    state, reply = answer(PINNED, vote(8, (6, 0), (2,)))
    assert reply.granted
    again, reply = answer(state, vote(8, (6, 0), (2,)))
    assert reply.granted
    assert again is state
    again, reply = answer(state, vote(8, (7, 0), (1,), from_=1))
    assert not reply.granted
    assert again is state


def test_a_witness_that_knows_nothing_grants_a_founding_log():
    _, reply = answer(WitnessState(1, 9), vote(2, (1, 0), (1,), from_=1))
    assert reply.granted


def test_messages_for_others_get_no_answer():
    for m in (
        WitnessAppend(2, 1, 9, 9, 9, 0, 1, (1, 9)),
        WitnessAppend(1, 1, 8, 9, 9, 0, 1, (1, 8)),
        Vote(1, 1, 9, 9, 9, 9, False, 0),
    ):
        assert answer(PINNED, m) == (PINNED, None)


U64 = st.integers(0, 2**64 - 1)
STATES = st.builds(
    WitnessState, U64, U64, U64, U64, U64, U64, st.lists(U64, unique=True, max_size=9).map(lambda x: tuple(sorted(x)))
)


@settings(max_examples=100, deadline=None)
@given(STATES)
def test_the_state_survives_as_bytes(state):
    assert WitnessState.decode(state.encode()) == state


def test_the_state_is_small():
    assert len(WitnessState(1, 9, replication_set=tuple(range(1, 51))).encode()) < 512


@settings(max_examples=60, deadline=None)
@given(STATES, st.integers(0, 2**32))
def test_a_damaged_state_is_no_state(state, seed):
    data = state.encode()
    dice = Dice(seed)
    for bad in (b"", data[:-1], data + b"\0", data[: len(data) // 2]):
        with pytest.raises(DecodeError):
            WitnessState.decode(bad)
    for _ in range(20):
        spoiled = bytearray(data)
        spoiled[dice.below(len(data))] ^= 1 << dice.below(8)
        with pytest.raises(DecodeError):
            WitnessState.decode(bytes(spoiled))
