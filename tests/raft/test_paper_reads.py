"""The dissertation's rules on ReadIndex and leases, one test each, named by section.

Ongaro, "Consensus: bridging theory and practice", 2014.
"""

import pytest

from raft import NotLeader, Role
from raft.messages import Append, Heartbeat, HeartbeatResp, ReadIndexReq, ReadIndexResp, TimeoutNow, Vote
from tests.raft.cluster import Cluster
from tests.raft.rules import LEASE, sent, until_leader


def test_6_4_a_read_needs_a_round_after_it_arrived():
    c = Cluster()
    leader = c.elect(1)
    c.tick(3)
    c.isolate(1)
    leader.read_index("r")
    c.settle()
    assert c.reads[1] == []
    c.heal()
    c.tick(3)
    assert c.reads[1] == [("r", leader.log.commit)]


def test_6_4_a_read_waits_for_the_first_commit_of_the_term():
    c = Cluster()
    core = until_leader(c, 1)
    core.read_index("r")
    c.settle(disk=False)
    assert c.reads[1] == []
    c.settle()
    assert c.reads[1] == [("r", core.noop_index)]


def until_committed(cluster, index):
    """Deliver and fsync on all servers, taking Readys of followers only, until the leader (1) has committed `index`."""
    leader = cluster.core(1)
    while leader.log.commit < index:
        for node, server in cluster.servers.items():
            if node != 1 and server.core.has_ready():
                cluster.take(node)
            while server.pending and leader.log.commit < index:
                cluster.fsync(node)
        while cluster.wire and leader.log.commit < index:
            cluster.deliver()


def test_6_4_a_read_rides_on_appends_and_is_ready_with_a_later_proposal():
    c = Cluster()
    leader = c.elect(1)
    c.tick(2)
    leader.read_index("first")
    index = leader.propose(b"x")
    rd = c.take(1)
    assert [type(m) for m in rd.messages] == [Append, Append]
    assert {m.round for m in rd.messages} == {leader.round}
    until_committed(c, index)
    rd = c.take(1)
    assert [e.index for e in rd.committed_entries] == [index]
    assert rd.read_states == [("first", index - 1)]
    assert len(sent(c, Heartbeat, round=leader.round)) == 0


def test_6_4_a_read_behind_a_round_on_its_way_is_still_ready_with_a_later_proposal():
    c = Cluster()
    leader = c.elect(1)
    c.tick(2)
    leader.read_index("first")
    c.take(1)
    c.wire.clear()
    leader.read_index("second")
    index = leader.propose(b"x")
    c.take(1)
    until_committed(c, index)
    rd = c.take(1)
    assert [e.index for e in rd.committed_entries] == [index]
    assert [ctx for ctx, _ in rd.read_states] == ["first", "second"]


def test_6_4_a_followers_read_gets_no_index_before_the_first_commit_of_the_term():
    c = Cluster()
    leader = until_leader(c, 1)
    leader.step(ReadIndexReq(1, 2, 1, leader.term, 7))
    c.take(1)
    for peer in (2, 3):
        leader.step(HeartbeatResp(1, peer, 1, leader.term, leader.round, 0))
    assert [m for m in leader.messages if type(m) is ReadIndexResp] == []
    until_committed(c, leader.noop_index)
    answers = [m for m in leader.messages if type(m) is ReadIndexResp]
    assert [(m.to, m.read_id, m.ok, m.index) for m in answers] == [(2, 7, True, leader.noop_index)]


def test_6_4_reads_of_one_ready_share_a_round_and_later_ones_wait_for_the_next():
    c = Cluster()
    leader = c.elect(1)
    c.tick(2)
    for i in range(5):
        leader.read_index(i)
    rd = c.take(1)
    assert [type(m) for m in rd.messages] == [Heartbeat, Heartbeat]
    leader.read_index(5)
    assert not leader.has_ready()
    c.settle()
    assert [ctx for ctx, _ in c.reads[1]] == [0, 1, 2, 3, 4, 5]


def test_6_4_reads_fail_when_leadership_is_lost():
    c = Cluster()
    leader = c.elect(1)
    c.isolate(1)
    leader.read_index("r")
    c.settle()
    c.heal()
    c.core(2).forget_leader()
    c.core(3).forget_leader()
    c.elect(2)
    c.tick(3)
    assert c.failed[1] == ["r"]


def test_6_4_a_follower_asks_its_leader_and_a_lone_one_refuses():
    c = Cluster()
    with pytest.raises(NotLeader):
        c.core(2).read_index("too early")
    leader = c.elect(1)
    c.core(2).read_index("r")
    c.settle()
    assert c.reads[2] == [("r", leader.log.commit)]
    c.isolate(2)
    c.core(2).read_index("lost")
    c.settle()
    c.tick(10)
    assert c.failed[2] == ["lost"]


def test_6_4_an_answer_to_a_read_asked_before_a_crash_answers_nothing_asked_after_it():
    c = Cluster()
    leader = c.elect(1)
    c.core(2).read_index("old")
    c.settle()
    (answer,) = sent(c, ReadIndexResp, to=2)
    c.crash(2)
    c.start(2)
    c.tick(4)
    c.reads[2].clear()
    leader.propose(b"x")
    c.settle()
    c.core(2).read_index("new")
    c.core(2).step(answer)
    c.take(2)
    assert c.reads[2] == []
    c.settle()
    assert c.reads[2] == [("new", leader.log.commit)]


def test_6_4_a_single_voter_proves_reads_alone():
    c = Cluster(voters=(1,))
    leader = c.elect(1)
    leader.read_index("r")
    assert c.take(1).read_states == [("r", leader.log.commit)]


def test_6_4_1_a_lease_counts_from_when_the_round_was_sent():
    c = Cluster(**LEASE)
    leader = c.elect(1)
    for _ in range(2):
        c.now_ns += 10_000_000
        leader.tick(c.now_ns)
    t_sent = c.now_ns
    c.take(1)
    # The answers take their time.
    c.now_ns += 50_000_000
    c.settle()
    assert leader.lease_valid(t_sent + 79_999_999)
    assert not leader.lease_valid(t_sent + 80_000_000)


def test_6_4_1_no_lease_from_timeout_now_to_a_fresh_round_after_the_transfer_failed():
    c = Cluster(**LEASE)
    leader = c.elect(1)
    c.tick(3)
    assert leader.lease_valid(c.now_ns)
    c.cut |= {(1, 3)}
    leader.transfer_leader(3)
    assert not leader.lease_valid(c.now_ns)
    c.tick(9, nodes=[1])
    assert not leader.lease_valid(c.now_ns)
    c.tick(1, nodes=[1])
    assert leader.transferee == 0
    c.tick(2, nodes=[1])
    assert leader.lease_valid(c.now_ns)


def test_6_4_1_a_forced_vote_of_an_abandoned_transfer_is_not_exempt():
    c = Cluster(**LEASE)
    leader = c.elect(1)
    c.tick(3)
    leader.transfer_leader(3)
    (order,) = [m for m in leader.messages if type(m) is TimeoutNow]
    leader.messages = []
    c.tick(14)
    assert leader.lease_valid(c.now_ns)
    # The target heard the new epoch, so the late order is void.
    c.core(3).step(order, c.now_ns)
    assert c.core(3).role == Role.FOLLOWER
    # A target that did not hear it campaigns, and the voters that did refuse.
    for voter in (1, 2):
        c.core(voter).step(Vote(1, 3, voter, leader.term + 1, 99, 99, True, order.round), c.now_ns)
        assert c.core(voter).term == leader.term
    assert leader.lease_valid(c.now_ns)


def test_6_4_1_a_restarted_voter_keeps_a_promise_it_may_have_made():
    c = Cluster(**LEASE)
    leader = c.elect(1)
    c.tick(3)
    c.crash(2)
    c.start(2)
    voter = c.core(2)
    voter.step(Vote(1, 3, 2, 9, 99, 9, False, 0), c.now_ns)
    assert voter.term == leader.term
    voter.step(Vote(1, 3, 2, 9, 99, 9, False, 0), c.now_ns + 89_999_999)
    assert voter.term == leader.term
    voter.step(Vote(1, 3, 2, 9, 99, 9, False, 0), c.now_ns + 90_000_000)
    assert voter.term == 9


def test_6_4_1_ticks_made_up_for_after_a_stall_do_not_shorten_the_promise():
    c = Cluster(**LEASE)
    c.elect(1)
    c.tick(3)
    voter = c.core(2)
    for _ in range(60):
        voter.tick(c.now_ns + 70_000_000)
    voter.campaign()
    assert voter.role == Role.FOLLOWER
    voter.tick(c.now_ns + 200_000_000)
    assert voter.role == Role.PRE_CANDIDATE


def test_6_4_1_no_lease_unless_asked_for():
    c = Cluster()
    leader = c.elect(1)
    c.tick(5)
    assert not leader.lease_valid(c.now_ns)
