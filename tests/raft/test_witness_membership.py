"""How a witness comes and goes, and what a change of the membership means while there is one."""

import pytest

from raft import ConfChange, ConfChangeInvalid, ConfChangePending, DecodeError, Membership, Role, bootstrap
from raft.membership import already_holds, changed, settled
from raft.messages import TimeoutNow, WitnessAppend, WitnessVote
from tests.raft.cluster import Cluster
from tests.raft.rules import sent

W = 9
PAIR = Membership((1, 2), witness=W)


@pytest.mark.parametrize(
    "membership",
    [
        PAIR,
        Membership((1, 2), (1, 2, 3), witness=W),
        Membership((1, 2), (1, 2, 3), witness_outgoing=W),
        Membership((1, 2), (1, 2, 3), (4,), (3,), W, True, b"x", W),
    ],
)
def test_a_membership_survives_as_bytes(membership):
    back = Membership.decode(membership.encode())
    assert back == membership
    assert hash(back) == hash(membership)
    assert repr(back) == repr(membership)
    assert (back.witness, back.witness_outgoing) == (membership.witness, membership.witness_outgoing)
    assert back.witness_id() == W
    assert W not in back.members()
    assert not back.is_voter(W)


def test_the_electorate_counts_the_witness_in_its_half_only():
    joint = Membership((1, 2), (1, 2, 3), witness=W)
    assert (joint.electorate(), joint.electorate_outgoing()) == ((1, 2, W), (1, 2, 3))
    joint = Membership((1, 2), (1, 2, 3), witness_outgoing=W)
    assert (joint.electorate(), joint.electorate_outgoing()) == ((1, 2), (1, 2, 3, W))


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"voters": (1, 2), "witness": 2}, "listed as a member"),
        ({"voters": (1, 2), "learners": (3,), "witness": 3}, "listed as a member"),
        ({"voters": (1, 2), "voters_outgoing": (1, 9), "witness": 9}, "listed as a member"),
        ({"voters": (1, 2), "witness_outgoing": 9}, "outgoing half"),
        ({"voters": (1, 2), "voters_outgoing": (1,), "witness": 8, "witness_outgoing": 9}, "only one"),
        ({"voters": (1, 2), "witness": -1}, "positive"),
    ],
)
def test_impossible_memberships(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Membership(**arguments)


def test_a_group_is_founded_with_a_witness_and_two_voters():
    _, entry = bootstrap(PAIR)
    assert Membership.decode(entry.data) == PAIR
    with pytest.raises(ValueError, match="two voters"):
        bootstrap(Membership((1,), witness=W))


@pytest.mark.parametrize(
    ("current", "change", "want"),
    [
        (Membership((1, 2)), ConfChange(add_witness=W), PAIR),
        (PAIR, ConfChange(remove_witness=True), Membership((1, 2))),
        (PAIR, ConfChange(add_voter=[3]), Membership((1, 2, 3), witness=W)),
        (PAIR, ConfChange(add_learner=[3]), Membership((1, 2), (), (3,), witness=W)),
        (PAIR, ConfChange(add_witness=W), PAIR),
        (Membership((1, 2)), ConfChange(remove_witness=True), Membership((1, 2))),
        (
            Membership((1, 2, 3)),
            ConfChange(add_witness=W, remove=[3]),
            Membership((1, 2), (1, 2, 3), (), (), W, True),
        ),
        (
            PAIR,
            ConfChange(add_voter=[3], remove_witness=True),
            Membership((1, 2, 3), (1, 2), (), (), 0, True, b"", W),
        ),
        (
            PAIR,
            ConfChange(add_voter=[3], remove=[2]),
            Membership((1, 3), (1, 2), (), (), W, True, b"", W),
        ),
    ],
)
def test_changes(current, change, want):
    assert changed(current, change) == want
    assert settled(want).witness == want.witness
    assert settled(want).witness_outgoing == 0


@pytest.mark.parametrize(
    ("current", "change", "complaint"),
    [
        (PAIR, ConfChange(add_witness=8), "remove it first"),
        (PAIR, ConfChange(add_witness=8, remove_witness=True), "cannot replace"),
        (PAIR, ConfChange(remove=[W]), "is the witness"),
        (PAIR, ConfChange(add_voter=[W]), "is the witness"),
        (PAIR, ConfChange(remove=[2]), "two voters"),
        (Membership((1,)), ConfChange(add_witness=W), "two voters"),
        (Membership((1, 2)), ConfChange(add_witness=2), "no node ever had"),
        (Membership((1, 2), (), (3,)), ConfChange(add_witness=3), "no node ever had"),
        (Membership((1, 2)), ConfChange(add_witness=3, add_voter=[3]), "no node ever had"),
        (Membership((1, 2)), ConfChange(add_witness=-3), "no node ever had"),
    ],
)
def test_refused_changes(current, change, complaint):
    with pytest.raises(ConfChangeInvalid, match=complaint):
        changed(current, change)


def test_the_last_pair_may_go_with_its_witness():
    assert settled(changed(PAIR, ConfChange(remove=[2], remove_witness=True))) == Membership((1,))


def test_a_retried_change_of_the_witness_is_done_once():
    assert not ConfChange(add_witness=W).is_empty()
    assert not ConfChange(remove_witness=True).is_empty()
    assert already_holds(PAIR, ConfChange(add_witness=W))
    assert not already_holds(PAIR, ConfChange(remove_witness=True))
    c = Cluster(voters=(1, 2))
    leader = c.elect(1)
    c.add_witness(W)
    index = leader.propose_conf(ConfChange(add_witness=W))
    assert leader.propose_conf(ConfChange(add_witness=W)) == index
    c.settle()
    assert leader.membership == PAIR


def test_bytes_of_an_impossible_membership_are_refused():
    data = bytearray(Membership((1, 9), (1, 2)).encode())
    data[10] = 9
    with pytest.raises(DecodeError, match="listed as a member"):
        Membership.decode(bytes(data))


def test_an_added_witness_saves_the_group_at_once():
    c = Cluster(voters=(1, 2))
    leader = c.elect(1)
    c.add_witness(W)
    leader.propose_conf(ConfChange(add_witness=W))
    c.settle()
    assert leader.witness_state().replication_set == (1, 2)
    c.crash(2)
    index = leader.propose(b"x")
    c.tick(12)
    assert leader.log.commit >= index
    c.crash(1)
    c.start(1)
    c.tick(40)
    assert c.leaders() == [1]


def test_a_removed_witness_is_forgotten_by_the_leader():
    c = Cluster(voters=(1, 2), witness=W)
    leader = c.elect(1)
    c.tick(4)
    leader.propose_conf(ConfChange(remove_witness=True))
    c.settle()
    assert (leader.replication, leader.witness_state().witness) == (None, 0)
    c.sent.clear()
    c.crash(2)
    c.tick(60)
    assert c.leaders() == []
    assert sent(c, WitnessAppend) == sent(c, WitnessVote) == []


def test_a_witness_that_lost_its_state_is_replaced_in_two_changes():
    c = Cluster(voters=(1, 2), witness=W)
    leader = c.elect(1)
    c.tick(4)
    c.witnesses[W].state = None
    leader.propose_conf(ConfChange(remove_witness=True))
    c.settle()
    c.add_witness(10)
    leader.propose_conf(ConfChange(add_witness=10))
    c.settle()
    c.crash(2)
    c.tick(12)
    assert leader.witness_state().pinned
    assert leader.witness_state().replication_set == (1, 10)


def test_a_dead_voter_is_replaced_with_the_witness_standing_in():
    c = Cluster(voters=(1, 2), witness=W)
    leader = c.elect(1)
    c.tick(4)
    c.crash(2)
    c.tick(12)
    c.add(3)
    for change in (ConfChange(add_learner=[3]), ConfChange(promote=[3]), ConfChange(remove=[2])):
        leader.propose_conf(change)
        c.tick(6)
        assert leader.log.commit == leader.log.last, change
    assert leader.membership == Membership((1, 3), witness=W)
    assert leader.witness_state().replication_set == (1, 3)


def test_a_membership_starts_a_subterm_the_witness_has_not_recorded():
    c = Cluster(voters=(1, 2), witness=W)
    leader = c.elect(1)
    c.tick(4)
    c.crash(2)
    c.tick(12)
    subterm = leader.subterm
    c.cut |= {(1, W), (W, 1)}
    index = leader.propose_conf(ConfChange(add_learner=[5]))
    leader.propose(b"x")
    c.settle()
    view = leader.witness_state()
    assert (view.subterm, view.engaged, view.asking, view.replication_set) == (subterm + 1, False, True, (1, W))
    assert leader.log.commit == index - 1
    c.heal()
    c.tick(2)
    assert leader.log.commit == leader.log.last


def joint_with_a_witness_in_one_half():
    """Outgoing 1, 2, 3; incoming 1, 4 and the witness; nobody but 1 has acknowledged the change."""
    c = Cluster(voters=(1, 2, 3))
    c.add(4)
    leader = c.elect(1)
    c.tick(4)
    c.add_witness(W)
    c.isolate(4)
    leader.propose_conf(ConfChange(add_voter=[4], remove=[2, 3], add_witness=W, auto_leave=False))
    assert leader.membership == Membership((1, 4), (1, 2, 3), (), (), W, False, b"")
    return c, leader


def test_the_witness_counts_in_its_own_half_only():
    c, leader = joint_with_a_witness_in_one_half()
    index = leader.conf_index
    c.isolate(2, 3, 4)
    c.tick(11)
    assert leader.witness_state().replication_set == (1, 2, 3, W)
    assert sent(c, WitnessAppend) == [], "no subquorum of both halves"
    c.heal()
    c.isolate(4)
    c.tick(6)
    assert leader.log.commit >= index
    assert leader.witness_state().engaged


def test_the_witness_stands_in_only_for_a_voter_of_its_half():
    c, leader = joint_with_a_witness_in_one_half()
    c.heal()
    c.tick(6)
    assert leader.log.commit == leader.log.last
    c.isolate(3)
    c.tick(40)
    assert leader.witness_state().replication_set == (1, 2, 3, 4)


def test_a_leader_removed_beside_a_witness_leads_until_the_change_commits():
    c = Cluster(voters=(1, 2, 3), witness=W)
    leader = c.elect(1)
    c.tick(4)
    c.isolate(3)
    c.tick(12)
    assert leader.witness_state().replication_set == (1, 2, W)
    index = leader.propose_conf(ConfChange(remove=[1]))
    assert leader.witness_state().replication_set == (2, W)
    while not leader.witness_state().engaged:
        for node in (1, 2):
            if c.core(node).has_ready():
                c.take(node)
            if c.servers[node].pending:
                c.fsync(node)
        if c.wire:
            c.deliver()
    assert leader.log.commit >= index
    assert not leader.witness_state().pinned, "node 2 may be elected"
    c.settle()
    assert leader.role == Role.FOLLOWER
    c.tick(40)
    assert c.leaders() == [2]
    assert c.core(2).membership == Membership((2, 3), witness=W)
    assert c.core(2).propose(b"x") > index
    c.settle()
    assert c.core(2).log.commit == c.core(2).log.last


def test_a_removed_leader_hands_over_to_a_voter_the_witness_votes_for():
    c = Cluster(voters=(1, 2, 3), witness=W, hold_ticks=1000)
    leader = c.elect(3)
    c.tick(4)
    c.isolate(1)
    c.tick(12)
    c.heal()
    c.tick(6)
    assert leader.witness_state().replication_set == (2, 3, W)
    leader.propose_conf(ConfChange(remove=[3]))
    c.settle()
    assert [m.to for m in sent(c, TimeoutNow)] == [2]


def test_no_witness_is_removed_while_it_stands_in():
    c = Cluster(voters=(1, 2), witness=W)
    leader = c.elect(1)
    c.tick(4)
    c.crash(2)
    c.tick(12)
    last = leader.log.last
    for change in (ConfChange(remove_witness=True), ConfChange(remove_witness=True, add_voter=[3])):
        with pytest.raises(ConfChangePending, match="stands in for node 2"):
            leader.propose_conf(change)
    assert leader.log.last == last
