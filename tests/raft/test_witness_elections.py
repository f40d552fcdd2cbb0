"""How a candidate with a witness is elected, and where the last subterm, which the witness judges by, comes from."""

from raft import ConfChange, Role
from raft.messages import Append, AppendResp, PreVote, Vote, VoteResp, WitnessVote, WitnessVoteResp
from tests.raft.cluster import Cluster
from tests.raft.rules import WITNESS as W
from tests.raft.rules import group, pinned, sent


def test_the_own_vote_is_durable_before_the_witness_is_asked_and_named_to_it():
    c = Cluster(voters=(1, 2), witness=W, pre_vote=False)
    c.crash(2)
    core = c.core(1)
    core.campaign()
    c.take(1)
    assert sent(c, WitnessVote) == []
    c.fsync(1)
    rd = c.take(1)
    assert rd.messages == []
    (question,) = [m for m in rd.after_persist if type(m) is WitnessVote]
    assert (question.votes_granted, question.pre, question.term) == ((1,), False, 2)
    assert (question.last_log_term, question.last_log_subterm) == (1, 0)


def test_the_witness_is_asked_when_it_alone_is_missing():
    c = Cluster(voters=(1, 2, 3, 4), witness=W)
    core = c.core(1)
    c.isolate(1)
    core.campaign()
    c.settle()
    assert sent(c, WitnessVote) == []
    c.heal()
    c.isolate(3, 4)
    core.campaign()
    c.settle()
    assert [(m.pre, m.votes_granted) for m in sent(c, WitnessVote)] == [(True, (1, 2)), (False, (1, 2))]
    assert core.role == Role.LEADER
    assert core.witness_state().replication_set == (1, 2, 4, W), "one of those that did not answer is left out"


def test_only_voters_that_granted_vouch_for_the_candidate():
    c = Cluster(voters=(1, 2, 3, 4), witness=W, pre_vote=False)
    c.isolate(1)
    core = c.core(1)
    core.campaign()
    c.settle()
    core.step(VoteResp(1, 2, 1, core.term, False))
    core.step(VoteResp(1, 3, 1, core.term, True))
    c.settle()
    assert [m.votes_granted for m in sent(c, WitnessVote)] == [(1, 3)]


def test_a_pre_vote_of_the_witness_changes_nothing_there():
    c = Cluster(voters=(1, 2), witness=W)
    c.crash(2)
    before = c.witnesses[W].state
    c.core(1).campaign()
    c.take(1)
    while c.wire:
        c.deliver()
    assert [m.pre for m in sent(c, WitnessVoteResp)] == [True]
    assert c.witnesses[W].state is before


def test_a_refused_pre_vote_is_counted_though_the_witness_lags_in_terms():
    c, _leader = pinned()
    c.crash(1)
    c.start(2)
    core = c.core(2)
    core.step(Vote(1, 7, 2, 30, 0, 0, False, 0))
    assert c.witnesses[W].state.term < core.term == 30
    while core.role == Role.FOLLOWER:
        c.tick(1)
    assert core.witness_state().refused == 1
    questions = len(sent(c, WitnessVote))
    c.tick(4)
    assert len(sent(c, WitnessVote)) == questions, "answered, so not asked again"


def test_a_lost_question_for_a_vote_is_repeated():
    c = Cluster(voters=(1, 2), witness=W)
    c.crash(2)
    c.cut.add((W, 1))
    core = c.core(1)
    core.campaign()
    c.tick(3)
    assert len(sent(c, WitnessVote)) >= 2
    c.heal()
    c.tick(4)
    assert core.role == Role.LEADER


def test_voters_that_pre_voted_are_waited_for_before_the_witness_is_bothered():
    c = Cluster(voters=(1, 2), witness=W)
    c.witnesses[W].up = False
    c.elect(1)
    assert [m.pre for m in sent(c, WitnessVote)] == [True]


def test_a_witness_that_knows_a_later_term_is_followed_into_it():
    c, _leader = pinned()
    c.witnesses[W].state = type(c.witnesses[W].state)(1, W, 77, 0, *c.witnesses[W].state._key()[4:])
    c.crash(1)
    c.start(1)
    c.tick(60)
    assert c.core(1).role == Role.LEADER
    assert c.core(1).term == 78


def test_a_vote_of_a_former_witness_does_not_count():
    c = Cluster(voters=(1, 2), witness=W, pre_vote=False)
    c.isolate(1)
    core = c.core(1)
    core.campaign()
    c.settle()
    core.step(WitnessVoteResp(1, 8, 1, core.term, True, False))
    assert core.role == Role.CANDIDATE
    core.step(WitnessVoteResp(1, W, 1, core.term, True, True))
    assert core.role == Role.CANDIDATE
    core.step(WitnessVoteResp(1, W, 1, core.term, True, False))
    assert core.role == Role.LEADER


def test_the_witness_gets_neither_entries_nor_regular_questions():
    c, leader = group()
    leader.propose(b"x")
    c.tick(30)
    for kind in (Append, PreVote, AppendResp):
        assert sent(c, kind, to=W) == []


# Where the last subterm comes from


def test_the_last_subterm_survives_restart_compaction_and_truncation():
    c, leader = group()
    leader.propose_conf(ConfChange(context=b"x"))
    c.settle()
    subterm = leader.subterm
    assert subterm > 0
    for compact in (False, True):
        if compact:
            c.tick(4)
            c.snapshot(2)
        c.crash(2)
        c.start(2)
        assert c.core(2).log.tail == []
        assert c.core(2).log.last_subterm() == subterm
    follower = c.core(2)
    last, last_term = follower.log.last, follower.log.last_term
    c.isolate(2)
    for term, more in ((last_term + 1, 5), (last_term + 2, 7)):
        entry = type(leader.log.entries(last, last + 1, 0)[0])(last + 1, term, more, 0, b"")
        follower.step(Append(1, 1, 2, term, last, last_term, 0, 0, 0, [entry]))
        assert follower.log.last_subterm() == more
    assert Cluster(voters=(1,)).add(5).core.log.last_subterm() == 0


def test_the_last_subterm_comes_with_a_snapshot():
    c, leader = group((1, 2, 3))
    leader.propose_conf(ConfChange(context=b"x"))
    c.settle()
    c.isolate(3)
    c.tick(12)
    for i in range(20):
        leader.propose(b"%d" % i)
    c.settle()
    c.snapshot(1)
    leader.propose(b"after")
    c.settle()
    c.heal()
    c.tick(20)
    assert c.core(3).log.first_index() > 20
    follower = c.core(3)
    assert follower.log.last_subterm() == leader.subterm
    c.crash(3)
    c.start(3)
    assert c.core(3).log.last_subterm() == leader.subterm
