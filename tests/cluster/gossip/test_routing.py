"""Routing keeps the newest of each fact whatever the order, and equal knowledge has equal digests."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from durakv.cluster.gossip.peers import ALIVE, DEAD, SUSPECT, Peers
from durakv.cluster.gossip.routing import FAIL, LEARNER, VOTER, WITNESS, GroupFacts, Member, Routing
from durakv.keyspace.slots import SLOTS
from tests.cluster.gossip.net import described, member


def known(routing):
    return [(r.first, r.last, r.epoch, r.group) for r in routing.ranges()]


def test_the_higher_epoch_wins_and_nothing_goes_back():
    routing = Routing()
    assert routing.learn_slots(0, 99, 5, 1)
    assert routing.learn_slots(50, 149, 6, 2)
    before = routing.slots_digest()
    assert not routing.learn_slots(0, 149, 4, 3) and not routing.learn_slots(50, 149, 6, 2)
    assert known(routing) == [(0, 49, 5, 1), (50, 149, 6, 2)]
    assert routing.slots_digest() == before and routing.changes == 2 and routing.conflicts == 0
    # Part of a range may be news.
    assert routing.learn_slots(40, 60, 6, 4)
    assert known(routing) == [(0, 39, 5, 1), (40, 60, 6, 4), (61, 149, 6, 2)] and routing.conflicts == 11


claims = st.lists(
    st.tuples(st.integers(0, 300), st.integers(0, 40), st.integers(1, 6), st.integers(1, 4)), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(claims, st.randoms(use_true_random=False))
def test_any_order_and_any_repetition_give_the_same_table(facts, dice):
    first, second, model = Routing(), Routing(), {}
    for start, length, epoch, group in facts:
        first.learn_slots(start, start + length, epoch, group)
        for slot in range(start, start + length + 1):
            model[slot] = max(model.get(slot, (0, 0)), (epoch, group))
    again = facts + dice.sample(facts, len(facts) // 2)
    dice.shuffle(again)
    for start, length, epoch, group in again:
        second.learn_slots(start, start + length, epoch, group)
    assert known(first) == known(second) and first.slots_digest() == second.slots_digest()
    assert {s: (first.epochs[s], first.groups[s]) for s in model} == model
    # A digest kept in step is what a fresh table computes.
    fresh = Routing()
    for r in first.ranges():
        fresh.learn_slots(r.first, r.last, r.epoch, r.group)
    assert fresh.slot_sums == first.slot_sums


def test_different_tables_have_different_digests():
    # Sums of slot numbers alone could not tell these apart.
    one, other = Routing(), Routing()
    for routing in (one, other):
        routing.learn_slots(0, SLOTS - 1, 1, 1)
    for slot in (0, 3):
        one.learn_slots(slot, slot, 2, 2)
    for slot in (1, 2):
        other.learn_slots(slot, slot, 2, 2)
    assert one.slots_digest() != other.slots_digest()


def test_groups_by_term_then_configuration_then_sequence():
    def facts(*version):
        return GroupFacts(9, *version, 1, [member(1)])

    routing = Routing()
    order = [facts(1, 9, 9), facts(2, 1, 0), facts(2, 1, 1), facts(2, 2, 0), facts(3, 0, 0)]
    for newer in order:
        assert routing.learn_group(newer)
        for older in order[: order.index(newer) + 1]:
            assert not routing.learn_group(older)
    assert routing.facts[9] is order[-1]


def test_members_follow_their_group_and_witnesses_are_no_members():
    routing = Routing()
    routing.learn_group(described(1, 3))
    empty_digest = Routing().groups_digest()
    with_witness = [member(2), Member(40, "s3://bucket/w", 0, 0, kind=WITNESS), Member(41, "h", 1, 2, kind=LEARNER)]
    routing.learn_group(GroupFacts(1, 2, 8, 0, 0, with_witness))
    assert sorted(routing.members) == [2, 41]
    routing.learn_slots(0, 10, 1, 1)
    # No leader: any voter, and never the learner or the witness.
    asked = routing.leader_of(3)
    assert asked is not None and asked.node_id == 2 and asked.kind == VOTER
    assert routing.leader_of(11) is None and routing.owner(11) is None
    assert not routing.forget_group(1)
    removed = GroupFacts(1, 0, 0, 0, 0, [], removed=True)
    assert routing.learn_group(removed) and routing.members == {} and routing.group_of_node == {}
    assert not routing.learn_group(described(1, 3, term=99))
    # A tombstone counts as nothing, so that whoever has forgotten it agrees.
    assert routing.groups_digest() == empty_digest
    assert routing.forget_group(1) and routing.facts == {}


def test_a_change_of_leader_needs_the_members_it_is_about():
    routing, facts = Routing(), described(4, 3, term=2)
    newer = GroupFacts(4, 3, 7, 0, 11, [m.with_health(FAIL if m.node_id == 10 else m.health) for m in facts.members])
    assert facts.same_places(newer)
    change = newer.change()
    assert change.health == bytes([FAIL, 0, 0])
    assert not routing.learn_leader(change) and routing.facts == {}
    routing.learn_group(facts)
    assert routing.learn_leader(change) and not routing.learn_leader(change)
    assert routing.facts[4].leader == 11 and routing.members[10].health == FAIL
    assert routing.members[11] is facts.members[1], "what is the same is shared"
    told_whole = Routing()
    told_whole.learn_group(newer)
    assert told_whole.groups_digest() == routing.groups_digest()
    # Of another configuration, or one with fewer members.
    other = GroupFacts(4, 9, 8, 0, 11, newer.members)
    assert not facts.same_places(other) and not routing.learn_leader(other.change())
    fewer = GroupFacts(4, 9, 7, 0, 11, newer.members[:2])
    assert not facts.same_places(fewer) and not routing.learn_leader(fewer.change())
    moved = Member(12, "elsewhere", 6379, 16379)
    assert not facts.same_places(GroupFacts(4, 9, 7, 0, 11, [*facts.members[:2], moved]))


def test_runs_of_a_group_join_over_epochs():
    routing = Routing()
    routing.learn_slots(0, 9, 1, 1)
    routing.learn_slots(5, 6, 7, 1)
    routing.learn_slots(10, 10, 3, 2)
    routing.learn_slots(12, 20, 3, 1)
    assert routing.slots_by_group() == {1: [(0, 9), (12, 20)], 2: [(10, 10)]}
    assert routing.highest_epoch() == 7


@pytest.mark.parametrize(
    ("held", "claimed", "new"),
    [
        ((0, ALIVE), (0, ALIVE), False),
        ((0, ALIVE), (0, SUSPECT), True),
        ((0, SUSPECT), (0, ALIVE), False),
        ((0, SUSPECT), (1, ALIVE), True),
        ((1, SUSPECT), (1, DEAD), True),
        ((1, DEAD), (1, SUSPECT), False),
        ((1, DEAD), (2, SUSPECT), True),
        ((3, ALIVE), (2, DEAD), False),
    ],
)
def test_swims_order_of_claims(held, claimed, new):
    peers = Peers()
    peers.claim(5, *held, 0)
    assert peers.claim(5, *claimed, 0) is new
    assert (peers.incarnation(5), peers.state(5)) == (claimed if new else held)
    peers.forget(5)
    assert peers.digest == 0 and peers.states == {}
