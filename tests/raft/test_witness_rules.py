"""What leaders and candidates do with a witness, one rule a test; whole histories are in test_witness_random.py."""

import pytest

from raft import ConfChange, ConfChangePending, Config, Role, TransferRefused
from raft.messages import (
    HeartbeatResp,
    WitnessAppend,
    WitnessAppendResp,
)
from raft.progress import Progress, ProgressState
from raft.replication_set import Watch
from tests.raft.cluster import Cluster
from tests.raft.rules import LEASE, group, pinned, sent, until_leader
from tests.raft.rules import WITNESS as W


def pair_of(leader, index):
    entry = leader.log.entries(index, index + 1, 0)[0]
    return entry.term, entry.subterm


# The leader


def test_at_rest_the_witness_hears_nothing():
    c, leader = group()
    for i in range(30):
        leader.propose(b"%d" % i)
        leader.read_index(i)
        c.tick(2)
    assert leader.log.commit == leader.log.last
    assert [m for m in c.sent if m.to == W] == []
    assert not leader.witness_state().engaged


def test_the_witness_is_asked_only_when_an_entry_of_the_subterm_is_durable():
    c, leader = group()
    c.stalled.add(1)
    c.isolate(2)
    c.tick(11)
    view = leader.witness_state()
    assert (view.replication_set, view.asking, view.sent) == ((1, W), True, leader.witness_sent)
    assert sent(c, WitnessAppend) == []
    c.stalled.clear()
    c.settle()
    (question,) = sent(c, WitnessAppend)
    assert (question.last_log_term, question.last_log_subterm) == (leader.term, leader.subterm)
    assert question.replication_set == (1, W)
    assert pair_of(leader, question.index) == (leader.term, leader.subterm)
    assert leader.witness_state().engaged


def test_a_change_of_the_set_starts_a_subterm_with_an_empty_entry():
    c, leader = group()
    last, subterm = leader.log.last, leader.subterm
    c.isolate(2)
    while leader.witness_state().replication_set == (1, 2):
        c.tick(1)
    assert leader.subterm == subterm + 1
    assert leader.log.last == last + 1
    assert pair_of(leader, last + 1) == (leader.term, subterm + 1)
    assert leader.log.commit == last + 1
    assert leader.witness_state().swaps == 1 + (subterm > 0)


def test_a_lost_question_or_answer_is_repeated_with_the_heartbeat():
    c, leader = group()
    c.isolate(2)
    c.cut.add((1, W))
    while leader.witness_state().replication_set == (1, 2):
        c.tick(1)
    for _ in range(3):
        before = len(sent(c, WitnessAppend))
        c.tick(2)
        assert len(sent(c, WitnessAppend)) == before + 1
    c.cut.discard((1, W))
    c.cut.add((W, 1))
    c.tick(2)
    state = c.witnesses[W].state
    assert state.replication_set == (1, W)
    assert not leader.witness_state().engaged
    c.cut.discard((W, 1))
    c.tick(2)
    assert leader.witness_state().engaged
    assert c.witnesses[W].state is state, "acknowledged again without a write"


def test_once_recorded_the_witness_counts_without_a_message():
    c, leader = pinned()
    for i in range(20):
        index = leader.propose(b"%d" % i)
        c.settle()
        assert leader.log.commit == index
    assert [m for m in c.sent if m.to == W] == []
    assert leader.replication.witness_match == leader.log.last


def test_a_pinned_leader_counts_itself_only_through_its_own_disk():
    c, leader = pinned()
    c.stalled.add(1)
    index = leader.propose(b"x")
    c.settle()
    assert leader.log.commit == index - 1
    c.stalled.clear()
    c.settle()
    assert leader.log.commit == index


def test_an_answer_about_a_former_subterm_is_no_record_of_this_one():
    c, leader = group()
    c.isolate(2)
    c.cut.add((W, 1))
    c.tick(12)
    (late,) = sent(c, WitnessAppendResp)[-1:]
    assert leader.witness_state().asking
    c.heal()
    c.cut |= {(1, W), (W, 1)}
    c.tick(4)
    assert leader.witness_state().replication_set == (1, 2)
    c.isolate(2)
    c.cut |= {(1, W), (W, 1)}
    c.tick(12)
    view = leader.witness_state()
    assert (view.asking, view.subterm) == (True, late.subterm + 2)
    index = leader.propose(b"x")
    c.settle()
    leader.step(late)
    c.settle()
    assert not leader.witness_state().engaged
    assert leader.replication.witness_match == late.index
    assert leader.log.commit < index


def test_every_term_begins_with_nothing_recorded():
    c, leader = pinned()
    c.crash(1)
    c.start(1)
    c.witnesses[W].up = False
    leader = c.core(1)
    c.tick(40)
    assert leader.role != Role.LEADER
    c.witnesses[W].up = True
    while leader.role != Role.LEADER:
        c.tick(1)
        assert leader.term < 60
    c.witnesses[W].up = False
    assert leader.subterm == 0
    assert leader.witness_state().replication_set == (1, W)


def test_a_set_chosen_at_the_election_is_unrecorded_until_the_witness_says_so():
    c = Cluster(voters=(1, 2), witness=W)
    c.crash(2)
    leader = until_leader(c, 1)
    view = leader.witness_state()
    assert (view.replication_set, view.subterm, view.witness_subterm) == ((1, W), 0, -1)
    c.witnesses[W].up = False
    c.settle()
    assert leader.log.stable == leader.log.last
    assert leader.log.commit < leader.log.last
    c.witnesses[W].up = True
    c.tick(2)
    assert leader.witness_state().pinned
    assert leader.log.commit == leader.log.last


def test_elected_without_the_witness_all_voters_form_the_set():
    c = Cluster(voters=(1, 2), witness=W)
    c.witnesses[W].up = False
    leader = until_leader(c, 1)
    assert leader.witness_state().replication_set == (1, 2)


def test_with_four_voters_a_subquorum_of_the_set_makes_the_witness_count():
    c, leader = group((1, 2, 3, 4))
    c.isolate(4)
    c.tick(12)
    assert leader.witness_state().replication_set == (1, 2, 3, W)
    assert leader.witness_state().engaged
    assert not leader.witness_state().pinned
    c.isolate(3)
    index = leader.propose(b"x")
    c.settle()
    assert leader.log.commit == index
    c.tick(60)
    assert c.leaders() == [1], "CheckQuorum counts the witness"
    leader.read_index("r")
    c.settle()
    assert c.reads[1] == [("r", leader.log.commit)]


def test_beside_the_witness_only_voters_of_the_set_prove_a_read():
    c, leader = group((1, 2, 3, 4), hold_ticks=1000)
    c.isolate(4)
    c.tick(12)
    assert leader.witness_state().replication_set == (1, 2, 3, W)
    c.cut.clear()
    c.cut |= {(2, 1), (3, 1)}
    leader.read_index("r")
    c.settle()
    assert sent(c, HeartbeatResp, from_=4)[-1].round == leader.round
    assert c.reads[1] == []


def test_beside_the_witness_only_voters_of_the_set_extend_a_lease():
    c, leader = group((1, 2, 3, 4), hold_ticks=1000, rejoin_lag_entries=0, **LEASE)
    c.isolate(4)
    c.tick(12)
    assert leader.witness_state().replication_set == (1, 2, 3, W)
    c.cut.clear()
    c.cut |= {(2, 1), (3, 1)}
    c.tick(9)
    assert leader.peers[4].ack_sent_ns > c.now_ns - LEASE["lease_ns"]
    assert leader.witness_state().engaged
    assert not leader.lease_valid(c.now_ns)


def test_beside_the_witness_only_voters_of_the_set_satisfy_check_quorum():
    c, leader = group((1, 2, 3, 4))
    c.isolate(4)
    c.tick(12)
    assert leader.witness_state().engaged
    c.heal()
    c.stalled.add(4)
    leader.propose(b"what the outsider lacks")
    c.settle()
    c.isolate(2, 3)
    c.tick(40)
    assert leader.role != Role.LEADER


# Choosing the set


def test_silence_is_suspected_after_an_election_timeout():
    c, leader = group()
    c.isolate(2)
    c.tick(9)
    assert leader.witness_state().replication_set == (1, 2)
    c.tick(2)
    assert leader.witness_state().replication_set == (1, W)


def test_suspect_ticks_makes_it_earlier():
    c, leader = group(suspect_ticks=4)
    c.isolate(2)
    c.tick(6)
    assert leader.witness_state().pinned


def test_a_broken_connection_is_suspected_after_two_heartbeats_of_silence():
    c, leader = group()
    c.isolate(2)
    leader.report_unreachable(2)
    c.tick(3)
    assert leader.witness_state().replication_set == (1, 2)
    c.tick(1)
    assert leader.witness_state().replication_set == (1, W)


def test_an_answer_after_the_report_clears_it():
    c, leader = group()
    leader.report_unreachable(2)
    c.tick(30)
    assert leader.witness_state().swaps == group()[1].witness_state().swaps
    assert leader.witness_state().replication_set == (1, 2)


def test_a_voter_returns_to_the_set_when_it_has_caught_up_and_the_set_was_held():
    c, leader = group(hold_ticks=30)
    c.isolate(2)
    while leader.witness_state().replication_set == (1, 2):
        c.tick(1)
    c.heal()
    c.tick(29)
    assert leader.peers[2].match == leader.log.last
    assert leader.witness_state().pinned
    c.tick(1)
    assert leader.witness_state().replication_set == (1, 2)
    c.tick(50)
    assert leader.log.commit == leader.log.last


def test_a_voter_far_behind_stays_outside():
    c, leader = group(rejoin_lag_entries=3, max_size_per_msg=1, max_inflight_msgs=1)
    c.isolate(2)
    c.tick(40)
    for i in range(10):
        leader.propose(b"%d" % i)
    c.settle()
    c.heal()
    c.stalled.add(2)
    c.tick(10)
    assert leader.peers[2].recent_active
    assert leader.witness_state().replication_set == (1, W)
    c.stalled.clear()
    c.tick(30)
    assert leader.witness_state().replication_set == (1, 2)


def test_a_voter_that_returns_while_the_witness_is_silent_is_taken_back_at_once():
    c, leader = group(hold_ticks=1000)
    c.witnesses[W].up = False
    c.isolate(2)
    c.tick(12)
    assert leader.witness_state().asking
    c.heal()
    c.tick(4)
    assert leader.witness_state().replication_set == (1, 2)
    assert leader.log.commit == leader.log.last


def test_an_outsider_that_is_back_takes_the_place_of_a_voter_that_went():
    c, leader = group((1, 2, 3, 4))
    c.isolate(4)
    c.tick(12)
    c.heal()
    c.isolate(3)
    c.tick(30)
    assert leader.witness_state().replication_set == (1, 2, 4, W)
    assert leader.witness_state().engaged


def test_the_set_does_not_change_while_leadership_is_handed_over():
    c, leader = group(suspect_ticks=5)
    c.cut |= {(1, 2), (2, 1)}
    leader.transfer_leader(2)
    c.tick(9, nodes=[1])
    assert leader.transferee == 2
    assert leader.witness_state().replication_set == (1, 2)
    c.tick(2, nodes=[1])
    assert leader.transferee == 0
    assert leader.witness_state().replication_set == (1, W)


def test_pin_delay_makes_the_witness_wait():
    c, leader = group(pin_delay_ticks=6)
    c.isolate(2)
    while leader.witness_state().replication_set == (1, 2):
        c.tick(1)
    c.tick(5)
    assert sent(c, WitnessAppend) == []
    c.tick(1)
    assert leader.witness_state().pinned


@pytest.mark.parametrize(
    "setting",
    [{"suspect_ticks": 5}, {"suspect_ticks": 51}, {"pin_delay_ticks": 50}, {"pin_delay_ticks": -1}, {"hold_ticks": -1}],
)
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Config(1, **setting).validate()


def watched():
    pr = Progress(2, 1, 8, 1000)
    pr.become_replicate()
    return pr, Watch(pr, 10)


def test_a_watch_measures_silence_and_lag():
    pr, watch = watched()
    for tick in range(1, 6):
        watch.observe(pr, 10 + tick)
        assert (watch.silent_ticks, watch.lag_ticks) == (tick, tick)
    pr.round += 1
    watch.observe(pr, 20)
    assert (watch.silent_ticks, watch.lag_ticks) == (0, 6)
    assert watch.suspicion(6, 4) == 6
    assert watch.suspicion(7, 4) == 0
    pr.match = 10
    watch.observe(pr, 30)
    assert (watch.lag_ticks, watch.last_lag_ticks, watch.goal) == (0, 6, 30)


def test_healthy_is_close_and_quick_and_heard():
    def healthy(match=100, state=ProgressState.REPLICATE, silent=0, lag=0, last_lag=0):
        pr, watch = watched()
        pr.match, pr.state = match, state
        watch.silent_ticks, watch.lag_ticks, watch.last_lag_ticks = silent, lag, last_lag
        return watch.healthy(pr, 110, 10, 20, 4)

    assert healthy()
    assert healthy(silent=4, lag=10, last_lag=10)
    assert not healthy(match=99)
    assert not healthy(state=ProgressState.PROBE)
    assert not healthy(silent=5)
    assert not healthy(lag=11)
    assert not healthy(last_lag=11)


# CheckQuorum, reads, leases, transfer


def test_a_leader_that_asked_the_witness_stays_one_more_election_timeout():
    c, leader = group()
    c.isolate(1)
    ticks = 0
    while leader.role == Role.LEADER:
        c.tick(1, nodes=[1])
        ticks += 1
        assert ticks < 60
    # The second CheckQuorum finds nobody, the third finds the witness still silent.
    assert 21 <= ticks <= 31
    assert leader.witness_state().replication_set == ()


def test_a_pinned_leader_is_not_bothered_by_check_quorum():
    c, _leader = pinned()
    c.isolate(1)
    c.tick(200)
    assert c.leaders() == [1]


def test_a_pinned_leader_reads_alone():
    c, leader = pinned()
    leader.read_index("r")
    rd = c.take(1)
    assert (rd.messages, rd.read_states) == ([], [("r", leader.log.commit)])
    assert leader.lease_valid(0), "no lease_reads needed"
    leader.propose(b"x")
    leader.read_index("s")
    assert c.take(1).read_states == [("s", leader.log.commit)]


def test_reads_that_wait_for_a_voter_are_proven_by_the_pin():
    c, leader = group()
    c.isolate(2)
    leader.read_index("first")
    c.settle()
    leader.read_index("second")
    c.settle()
    assert c.reads[1] == []
    c.tick(12)
    assert [ctx for ctx, _ in c.reads[1]] == ["first", "second"]


def test_a_read_that_waits_for_a_round_to_begin_is_proven_by_the_pin():
    c, leader = group()
    c.isolate(2)
    c.cut.add((W, 1))
    c.tick(12)
    (answer,) = sent(c, WitnessAppendResp)[-1:]
    leader.read_index("first")
    c.settle()
    leader.read_index("second")
    c.settle()
    assert leader.reads.unsent
    leader.step(answer)
    c.settle()
    assert [ctx for ctx, _ in c.reads[1]] == ["first", "second"]


def test_a_lease_with_a_witness_at_rest_is_the_other_voters_alone():
    c, leader = group(**LEASE)
    c.tick(3)
    assert leader.lease_valid(c.now_ns)
    c.isolate(2)
    c.tick(9)
    assert not leader.lease_valid(c.now_ns), "the witness promised nothing"
    c.tick(3)
    assert leader.lease_valid(c.now_ns + 10**12), "pinned"


def test_a_lease_beside_the_witness_needs_a_subquorum_of_the_set():
    c, leader = group((1, 2, 3, 4), **LEASE)
    c.isolate(4)
    c.tick(12)
    assert leader.witness_state().replication_set == (1, 2, 3, W)
    c.isolate(3)
    c.tick(10)
    assert leader.witness_state().engaged
    assert leader.lease_valid(c.now_ns)
    c.cut |= {(2, 1)}
    c.tick(10)
    assert leader.role == Role.LEADER
    assert not leader.lease_valid(c.now_ns)


def test_the_voter_the_witness_stands_in_for_cannot_be_given_the_lead():
    c, leader = group(hold_ticks=1000)
    c.isolate(2)
    c.tick(12)
    c.heal()
    c.tick(4)
    with pytest.raises(TransferRefused, match="unpin first"):
        leader.transfer_leader(2)
    assert leader.transferee == 0


def test_a_transfer_leaves_the_witness_alone_if_the_old_leader_votes():
    c, leader = group()
    leader.transfer_leader(2)
    c.settle()
    assert c.leaders() == [2]
    assert [m for m in c.sent if m.to == W] == []


def test_copies_counts_disks_and_no_witness():
    c, leader = pinned()
    index = leader.propose(b"x")
    assert leader.copies(index) == 0
    c.settle()
    assert leader.copies(index) == 1
    assert leader.copies(index - 3) == 2 - (leader.peers[2].match < index - 3)
    c.start(2)
    c.tick(30)
    assert leader.copies(index) == 2
    assert c.core(2).copies(index) == 1


def test_a_witness_in_a_later_term_ends_the_lead():
    c, leader = pinned()
    c.isolate(2)
    leader.step(WitnessAppendResp(1, W, 1, leader.term + 3, False, leader.subterm, 1))
    assert leader.role == Role.FOLLOWER
    assert leader.witness_state().replication_set == ()
    c.tick(40)
    assert leader.role == Role.LEADER


def test_a_refusal_within_the_term_is_counted():
    _, leader = pinned()
    leader.step(WitnessAppendResp(1, W, 1, leader.term, False, leader.subterm, 1))
    assert (leader.role, leader.witness_state().refused) == (Role.LEADER, 1)


def test_a_pinned_leader_is_asked_not_to_change_the_witness():
    _c, leader = pinned()
    with pytest.raises(ConfChangePending, match="stands in for node 2"):
        leader.propose_conf(ConfChange(remove_witness=True))
