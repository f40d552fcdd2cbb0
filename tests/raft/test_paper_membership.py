"""The dissertation's rules on membership changes, one test each, named by section.

Ongaro, "Consensus: bridging theory and practice", 2014.
"""

import pytest

from raft import ConfChange, ConfChangePending, EntryKind, HardState, Membership, Role, bootstrap
from raft.messages import Heartbeat, Vote, VoteResp
from tests.raft.cluster import Cluster
from tests.raft.rules import sent, until_leader


def test_4_1_a_membership_is_in_force_when_appended_and_rolled_back_when_truncated():
    c = Cluster()
    leader = c.elect(1)
    c.isolate(1)
    leader.propose_conf(ConfChange(remove=[3]))
    assert leader.membership.voters == (1, 2)
    c.settle()
    c.core(2).forget_leader()
    c.core(3).forget_leader()
    c.elect(2)
    c.heal()
    c.tick(5)
    assert c.core(1).membership.voters == (1, 2, 3)
    assert c.core(1).conf == c.core(2).conf
    c.crash(1)
    c.start(1)
    assert c.core(1).membership.voters == (1, 2, 3)


def test_4_1_one_change_at_a_time_and_none_before_the_first_own_commit():
    c = Cluster()
    core = until_leader(c, 1)
    with pytest.raises(ConfChangePending, match="committed in its term"):
        core.propose_conf(ConfChange(add_learner=[4]))
    c.settle()
    core.propose_conf(ConfChange(add_learner=[4]))
    with pytest.raises(ConfChangePending, match="not committed yet"):
        core.propose_conf(ConfChange(add_learner=[5]))
    c.settle()
    core.propose_conf(ConfChange(add_learner=[5]))


def test_4_1_a_retried_change_is_done_once():
    c = Cluster()
    leader = c.elect(1)
    change = ConfChange(add_learner=[4], context=b"addresses")
    index = leader.propose_conf(change)
    assert leader.propose_conf(change) == index
    c.settle()
    assert leader.propose_conf(change) == index
    assert leader.log.last == index


def test_4_1_a_voter_votes_for_a_candidate_it_does_not_know():
    c = Cluster()
    c.core(2).step(Vote(1, 77, 2, 3, 1, 1, False, 0))
    c.settle()
    assert [m.granted for m in sent(c, VoteResp, to=77)] == [True]


def test_4_2_1_a_learner_gets_the_log_but_counts_nowhere():
    c = Cluster(voters=(1,), learners=(2,))
    leader = c.elect(1)
    c.isolate(2)
    index = leader.propose(b"x")
    c.settle()
    assert leader.log.commit == index
    c.heal()
    c.tick(5)
    assert c.servers[2].app.normal == [b"x"]
    c.isolate(2)
    c.tick(60)
    assert c.core(2).role == Role.FOLLOWER
    assert c.core(2).term == leader.term
    leader.propose_conf(ConfChange(promote=[2]))
    index = leader.propose(b"y")
    c.settle()
    assert leader.log.commit < index


def test_4_2_2_a_removed_leader_leads_without_itself_until_the_change_commits():
    c = Cluster()
    leader = c.elect(1)
    c.isolate(3)
    index = leader.propose_conf(ConfChange(remove=[1]))
    c.settle()
    assert leader.role == Role.LEADER
    assert leader.log.commit == index - 1
    c.heal()
    c.tick(5)
    assert leader.role == Role.FOLLOWER
    assert len(c.leaders()) == 1
    assert c.core(c.leaders()[0]).membership.voters == (2, 3)
    c.tick(100)
    assert leader.role == Role.FOLLOWER


def test_4_2_2_a_voter_left_out_by_an_uncommitted_change_may_still_be_needed():
    c = Cluster()
    leader = c.elect(1)
    c.isolate(1)
    leader.propose_conf(ConfChange(remove=[1]))
    leader.propose(b"x")
    c.settle()
    leader.step(Heartbeat(1, 2, 1, leader.term + 1, 0, 0, 0))
    assert leader.promotable()
    c.crash(1)
    c.start(1)
    assert c.core(1).promotable()


def test_4_2_2_a_removed_follower_gets_the_entry_and_its_commit():
    c = Cluster()
    leader = c.elect(1)
    index = leader.propose_conf(ConfChange(remove=[3]))
    c.settle()
    assert c.core(3).log.commit >= index
    assert c.core(3).membership.voters == (1, 2)
    assert [p.node for p in leader.status().peers] == [2]


def test_4_3_several_voters_at_once_go_through_a_joint_phase_that_ends_by_itself():
    c = Cluster()
    for node in (4, 5):
        c.add(node)
    leader = c.elect(1)
    index = leader.propose_conf(ConfChange(add_voter=[4, 5], remove=[2, 3]))
    assert leader.membership.voters == (1, 4, 5)
    assert leader.membership.voters_outgoing == (1, 2, 3)
    c.tick(6)
    assert leader.membership == Membership((1, 4, 5))
    assert leader.conf_index > index
    assert all(c.core(n).membership == Membership((1, 4, 5)) for n in (1, 4, 5))


def test_4_3_a_joint_change_needs_both_majorities():
    for gone in ((2, 3), (4, 5)):
        c = Cluster()
        for node in (4, 5):
            c.add(node)
        leader = c.elect(1)
        c.isolate(*gone)
        index = leader.propose_conf(ConfChange(add_voter=[4, 5], remove=[2, 3]))
        c.settle()
        c.tick(5)
        assert leader.log.commit < index
        leader.read_index("r")
        c.settle()
        assert c.reads[1] == []
        c.tick(20)
        assert leader.role == Role.FOLLOWER


def test_4_3_a_demoted_voter_becomes_a_learner_when_the_joint_phase_ends():
    c = Cluster(voters=(1, 2, 3))
    c.add(4)
    leader = c.elect(1)
    leader.propose_conf(ConfChange(add_voter=[4], add_learner=[3], auto_leave=False))
    assert leader.membership.learners_next == (3,)
    c.tick(6)
    assert leader.membership.is_joint()
    leader.propose_conf(ConfChange(auto_leave=False))
    c.settle()
    assert leader.membership == Membership((1, 2, 4), (), (3,))


def test_bootstrap_gives_every_founder_the_same_first_entry():
    hard_state, entry = bootstrap(Membership((3, 1, 2)))
    assert hard_state == HardState(1, 0, 1)
    assert (entry.index, entry.term, entry.subterm, entry.kind) == (1, 1, 0, EntryKind.CONFIG)
    assert Membership.decode(entry.data).voters == (1, 2, 3)
    with pytest.raises(ValueError, match="at least one voter"):
        bootstrap(Membership(()))


def test_every_membership_starts_a_subterm():
    c = Cluster()
    leader = c.elect(1)
    first = leader.propose(b"a")
    leader.propose_conf(ConfChange(add_learner=[9]))
    second = leader.propose(b"b")
    subterm = {i: leader.log.entries(i, i + 1, 0)[0].subterm for i in (first, second - 1, second)}
    assert list(subterm.values()) == [0, 1, 1]
