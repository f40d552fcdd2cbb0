"""The dissertation's rules on terms, votes, CheckQuorum and leadership transfer, one test each, named by section.

Ongaro, "Consensus: bridging theory and practice", 2014.
"""

import pytest

from raft import ConfChange, Entry, EntryKind, HardState, NotLeader, Role, TransferRefused, Transferring
from raft.messages import Append, AppendResp, Heartbeat, HeartbeatResp, PreVote, PreVoteResp, TimeoutNow, Vote, VoteResp
from tests.raft.cluster import Cluster
from tests.raft.rules import append_to, sent, until_leader


def test_3_3_a_higher_term_makes_any_role_a_follower_of_it():
    for role in ("follower", "candidate", "leader"):
        c = Cluster(pre_vote=False)
        core = c.core(1)
        if role == "leader":
            c.elect(1)
        elif role == "candidate":
            core.campaign()
        term = core.term + 5
        core.step(Append(1, 2, 1, term, 0, 0, 0, 1, 0, []))
        assert (core.role, core.term, core.leader) == (Role.FOLLOWER, term, 2)


def test_3_3_a_lower_term_append_changes_nothing_and_is_told_the_term():
    c = Cluster()
    c.elect(1)
    follower = c.core(2)
    last = follower.log.last
    follower.step(Append(1, 3, 2, 1, last, 2, 9, 1, 0, [Entry(last + 1, 1, 0, 0, b"old")]))
    assert follower.log.last == last
    assert follower.leader == 1
    c.settle()
    (reply,) = sent(c, AppendResp, from_=2, to=3)
    assert (reply.ok, reply.term) == (False, follower.term)


def test_3_4_follower_campaigns_after_an_election_timeout_without_a_leader():
    c = Cluster(pre_vote=False)
    core = c.core(1)
    for _ in range(core.election_timeout - 1):
        core.tick()
    assert core.role == Role.FOLLOWER
    core.tick()
    assert (core.role, core.term, core.vote) == (Role.CANDIDATE, 2, 1)


def test_3_4_timeouts_are_spread_over_base_to_twice_base():
    c = Cluster()
    core = c.core(1)
    drawn = set()
    for _ in range(300):
        core.draw_timeout()
        drawn.add(core.election_timeout)
    assert drawn == set(range(10, 20))


def test_3_4_heartbeats_keep_followers_quiet():
    c = Cluster()
    c.elect(1)
    c.tick(100)
    assert c.leaders() == [1]
    assert c.core(1).term == 2


def test_3_4_one_vote_per_term_first_come_first_served():
    c = Cluster(pre_vote=False)
    core = c.core(1)
    core.step(Vote(1, 2, 1, 5, 1, 1, False, 0))
    core.step(Vote(1, 3, 1, 5, 1, 1, False, 0))
    core.step(Vote(1, 2, 1, 5, 1, 1, False, 0))
    c.settle()
    answers = [(m.to, m.granted) for m in sent(c, VoteResp, from_=1)]
    assert answers == [(2, True), (3, False), (2, True)]


def test_3_4_split_vote_elects_nobody_and_a_later_timeout_does():
    c = Cluster(voters=(1, 2, 3, 4), pre_vote=False)
    c.core(1).campaign()
    c.core(2).campaign()
    c.cut |= {(1, 2), (2, 1), (1, 4), (2, 3)}
    c.settle()
    assert c.leaders() == []
    c.heal()
    c.tick(60)
    assert len(c.leaders()) == 1


def test_3_4_no_quorum_no_leader():
    c = Cluster()
    c.isolate(1)
    c.core(1).campaign()
    c.settle()
    c.tick(50, nodes=[1])
    assert c.leaders() == []


@pytest.mark.parametrize(
    ("last_term", "last_index", "granted"),
    [(2, 3, True), (2, 4, True), (3, 2, True), (2, 2, False), (1, 9, False)],
)
def test_3_6_1_only_an_up_to_date_log_gets_the_vote(last_term, last_index, granted):
    for kind, answer in ((Vote, VoteResp), (PreVote, PreVoteResp)):
        c = Cluster()
        core = c.core(2)
        append_to(core, 1, 1, [2, 2], term=2)
        c.settle()
        core.forget_leader()
        args = (last_index, last_term, False, 0) if kind is Vote else (last_index, last_term)
        core.step(kind(1, 3, 2, 9, *args))
        c.settle()
        (reply,) = sent(c, answer, from_=2)
        assert reply.granted is granted


def test_3_6_2_an_old_term_entry_commits_only_under_one_of_the_leaders_term():
    c = Cluster(pre_vote=False)
    c.crash(1)
    image = c.servers[1].durable
    image.log.append([Entry(2, 2, 0, EntryKind.NORMAL, b"old")])
    image.hard_state = HardState(2, 0, 1)
    c.start(1)
    leader = until_leader(c, 1)
    assert leader.noop_index == 3
    for peer in (2, 3):
        leader.step(AppendResp(1, peer, 1, leader.term, True, 2, 0, 0, 0, 0))
    assert leader.log.stable == 2
    assert leader.log.commit == 1
    for peer in (2, 3):
        leader.step(AppendResp(1, peer, 1, leader.term, True, 3, 0, 0, 0, 0))
    assert leader.log.commit == 3


def test_3_6_2_a_new_leader_appends_an_empty_entry_of_its_term():
    c = Cluster()
    core = c.elect(1)
    entry = core.log.entries(core.log.last, core.log.last + 1, 0)[0]
    assert (entry.term, entry.kind, entry.data) == (core.term, EntryKind.NOOP, b"")
    assert core.log.commit == core.log.last


def test_3_10_transfer_brings_the_target_up_to_date_and_skips_pre_vote_and_stickiness():
    c = Cluster()
    leader = c.elect(1)
    c.isolate(3)
    leader.propose(b"x")
    c.settle()
    c.heal()
    leader.transfer_leader(3)
    assert sent(c, TimeoutNow) == []
    c.tick(3)
    assert c.leaders() == [3]
    assert c.core(3).term == 3
    assert sent(c, PreVote, from_=3) == []


def test_3_10_proposals_are_refused_during_a_transfer_and_taken_again_after_it_fails():
    c = Cluster()
    leader = c.elect(1)
    c.cut |= {(1, 3), (3, 1)}
    leader.transfer_leader(3)
    with pytest.raises(Transferring):
        leader.propose(b"x")
    with pytest.raises(Transferring):
        leader.propose_conf(ConfChange(add_learner=[7]))
    c.tick(10, nodes=[1, 2])
    assert leader.role == Role.LEADER
    leader.propose(b"x")
    c.settle()
    assert leader.log.commit == leader.log.last


def test_3_10_transfer_refuses_learners_strangers_and_silent_peers():
    c = Cluster(learners=(4,))
    leader = c.elect(1)
    for target in (4, 9):
        with pytest.raises(TransferRefused):
            leader.transfer_leader(target)
    c.isolate(3)
    c.tick(10)
    with pytest.raises(TransferRefused, match="not answered"):
        leader.transfer_leader(3)
    with pytest.raises(NotLeader):
        c.core(2).transfer_leader(3)


def test_4_2_3_a_voter_that_hears_a_leader_does_not_help_another():
    c = Cluster()
    c.elect(1)
    voter = c.core(2)
    voter.step(Vote(1, 3, 2, 9, 50, 9, False, 0))
    voter.step(PreVote(1, 3, 2, 9, 50, 9))
    c.settle()
    assert voter.term == 2
    assert sent(c, PreVoteResp, from_=2, to=3) == []
    voter.step(Vote(1, 3, 2, 9, 50, 9, True, 0))
    assert (voter.term, voter.vote) == (9, 3)


def test_6_2_a_leader_that_hears_no_quorum_steps_down():
    c = Cluster()
    leader = c.elect(1)
    c.isolate(1)
    c.tick(20, nodes=[1])
    assert leader.role == Role.FOLLOWER
    assert leader.leader == 0


def test_9_6_a_partitioned_node_does_not_raise_its_term():
    c = Cluster()
    leader = c.elect(1)
    c.isolate(3)
    c.tick(100)
    assert c.core(3).term == leader.term
    c.heal()
    c.tick(5)
    assert c.leaders() == [1]


def test_9_6_a_pre_vote_changes_neither_term_nor_vote():
    c = Cluster()
    voter = c.core(2)
    voter.step(PreVote(1, 3, 2, 7, 1, 1))
    c.settle()
    assert (voter.term, voter.vote) == (1, 0)
    assert [(m.granted, m.term) for m in sent(c, PreVoteResp, from_=2)] == [(True, 7)]


def test_9_6_a_node_ahead_in_term_rejoins():
    c = Cluster(pre_vote=False)
    c.elect(1)
    c.isolate(3)
    c.tick(60)
    assert c.core(3).term > 2
    c.heal()
    c.tick(60)
    assert len(c.leaders()) == 1
    assert len({c.core(n).term for n in (1, 2, 3)}) == 1


def test_two_leaders_of_one_term_stop_the_node():
    c = Cluster()
    leader = c.elect(1)
    with pytest.raises(AssertionError, match="leads term"):
        leader.step(Heartbeat(1, 2, 1, leader.term, 0, 1, 0))


def test_messages_of_another_group_or_to_another_node_are_dropped():
    c = Cluster()
    c.settle()
    core = c.core(1)
    core.step(Vote(2, 2, 1, 9, 9, 9, False, 0))
    core.step(Vote(1, 2, 3, 9, 9, 9, False, 0))
    core.step(HeartbeatResp(1, 2, 1, 1, 5, 0))
    assert core.term == 1
    assert not core.has_ready()
