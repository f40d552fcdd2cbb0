"""The dissertation's rules on replication, persistence and the write pipeline, one test each, named by section.

Ongaro, "Consensus: bridging theory and practice", 2014.
"""

import pytest

from raft import ConfChange, Entry, EntryKind, HardState, Overloaded, Role
from raft.invariants import InvariantViolation
from raft.messages import Append, AppendResp, Heartbeat, StorageAppendDone, Vote, VoteResp
from tests.raft.cluster import Cluster
from tests.raft.rules import append_to, sent


def test_3_5_an_entry_commits_when_a_majority_holds_it():
    c = Cluster()
    leader = c.elect(1)
    c.isolate(3)
    index = leader.propose(b"x")
    c.settle()
    assert leader.log.commit == index
    c.heal()
    c.isolate(2, 3)
    index = leader.propose(b"y")
    c.settle()
    assert leader.log.commit == index - 1


def test_3_5_followers_learn_the_commit_when_idle():
    c = Cluster()
    leader = c.elect(1)
    index = leader.propose(b"x")
    c.settle()
    assert [c.core(n).log.commit for n in (1, 2, 3)] == [index] * 3
    assert [s.app.normal for s in c.servers.values()] == [[b"x"]] * 3


def test_a_lazy_commit_rides_on_the_next_append():
    c = Cluster(lazy_commit=True)
    leader = c.elect(1)
    c.settle()
    told = len(sent(c, Heartbeat))
    first = leader.propose(b"x")
    c.settle()
    assert [c.core(n).log.commit for n in (1, 2, 3)] == [first, first - 1, first - 1]
    second = leader.propose(b"y")
    c.settle()
    assert [c.core(n).log.commit for n in (1, 2, 3)] == [second, first, first]
    # Sending for another reason, a resend to one peer say, is no reason to tell the others.
    leader.send_needed = True
    c.settle()
    assert len(sent(c, Heartbeat)) == told
    leader.announce_commit()
    c.settle()
    assert [c.core(n).log.commit for n in (1, 2, 3)] == [second] * 3
    assert len(sent(c, Heartbeat)) == told + 2
    leader.announce_commit()
    assert not leader.has_ready(), "everybody knows"


def test_a_lazy_commit_is_heard_with_the_heartbeat():
    c = Cluster(lazy_commit=True)
    leader = c.elect(1)
    index = leader.propose(b"x")
    c.settle()
    c.tick(2)
    c.settle()
    assert [c.core(n).log.commit for n in (1, 2, 3)] == [index] * 3


def test_a_committed_membership_is_announced_even_if_commits_are_lazy():
    c = Cluster(lazy_commit=True)
    leader = c.elect(1)
    c.settle()
    leader.propose_conf(ConfChange(remove=[3]))
    c.settle()
    assert c.core(2).log.commit == leader.log.commit == leader.log.last


def test_3_5_follower_refuses_an_append_whose_prev_does_not_match():
    c = Cluster()
    core = c.core(2)
    append_to(core, 1, 1, [2, 2, 2], term=2)
    append_to(core, 5, 3, [3], term=3)
    append_to(core, 4, 3, [3], term=3)
    c.settle()
    answers = [(m.ok, m.match, m.hint_index, m.hint_term) for m in sent(c, AppendResp, to=9)]
    assert answers == [(True, 4, 0, 0), (False, 5, 4, 2), (False, 4, 4, 2)]


@pytest.mark.parametrize(
    ("have", "prev", "prev_term", "new", "want"),
    [
        ([2, 2], 1, 1, [2, 2], [1, 2, 2]),
        ([2, 2], 1, 1, [2], [1, 2, 2]),
        ([2, 2], 2, 2, [3], [1, 2, 3]),
        ([2, 2, 2], 1, 1, [3], [1, 3]),
        ([2, 2], 3, 2, [3, 3], [1, 2, 2, 3, 3]),
        ([2, 2], 1, 1, [], [1, 2, 2]),
    ],
)
def test_3_5_only_a_conflict_drops_entries(have, prev, prev_term, new, want):
    c = Cluster()
    core = c.core(2)
    append_to(core, 1, 1, have, term=3)
    c.settle()
    append_to(core, prev, prev_term, new, term=3)
    c.settle()
    assert [e.term for e in core.log.entries(1, core.log.last + 1, 1 << 30)] == want
    durable = c.servers[2].durable.log
    assert [e.term for e in durable.entries(1, durable.last_index() + 1, 1 << 30)] == want


def test_3_5_follower_commit_never_passes_what_the_append_showed_to_match():
    c = Cluster()
    core = c.core(2)
    append_to(core, 1, 1, [2, 2, 2], term=2)
    append_to(core, 1, 1, [2], term=2, commit=4)
    assert core.log.commit == 2


def test_3_5_logs_of_figure_3_6_converge():
    lead = [1, 1, 1, 4, 4, 5, 5, 6, 6, 6]
    others = [
        [1, 1, 1, 4, 4, 5, 5, 6, 6],
        [1, 1, 1, 4],
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
        [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
        [1, 1, 1, 4, 4, 4, 4],
        [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
    ]
    for terms in others:
        c = Cluster(pre_vote=False)
        for node, log in ((1, lead), (2, terms), (3, lead[:1])):
            c.crash(node)
            image = c.servers[node].durable
            image.log.append([Entry(i + 2, t, 0, EntryKind.NOOP, b"") for i, t in enumerate(log[1:])])
            image.hard_state = HardState(7, 0, 1)
            c.start(node)
        c.isolate(2)
        core = c.core(1)
        c.elect(1)
        c.heal()
        core.propose(b"new")
        c.tick(6)
        assert c.core(2).log.last == core.log.last
        assert [c.core(2).log.term(i) for i in range(1, core.log.last + 1)] == [*lead, 8, 8]


def test_3_8_vote_and_requests_for_it_wait_for_the_disk():
    c = Cluster(pre_vote=False)
    core = c.core(1)
    core.campaign()
    rd = core.ready()
    assert rd.must_sync
    assert rd.hard_state == HardState(2, 1, 1)
    assert rd.messages == []
    assert [(type(m), m.to) for m in rd.after_persist] == [(VoteResp, 1), (Vote, 2), (Vote, 3)]
    voter = c.core(2)
    voter.step(rd.after_persist[1])
    rd = voter.ready()
    assert rd.must_sync
    assert rd.hard_state == HardState(2, 1, 1)
    assert rd.messages == []
    assert [(type(m), m.granted) for m in rd.after_persist] == [(VoteResp, True)]


def test_3_8_acknowledgement_waits_for_the_disk():
    c = Cluster()
    core = c.core(2)
    append_to(core, 1, 1, [2], term=2)
    rd = core.ready()
    assert rd.must_sync
    assert [type(m) for m in rd.messages] == []
    assert [type(m) for m in rd.after_persist] == [AppendResp, StorageAppendDone]


def test_3_8_a_restarted_voter_remembers_its_vote():
    c = Cluster(pre_vote=False)
    c.core(2).step(Vote(1, 1, 2, 5, 1, 1, False, 0))
    c.settle()
    c.crash(2)
    c.start(2)
    c.core(2).step(Vote(1, 3, 2, 5, 1, 1, False, 0))
    c.settle()
    assert [m.granted for m in sent(c, VoteResp, from_=2)] == [True, False]


def test_3_8_commit_alone_needs_no_sync():
    c = Cluster()
    leader = c.elect(1)
    leader.propose(b"x")
    while True:
        c.settle(disk=False)
        waiting = [n for n in (1, 2, 3) if c.servers[n].pending]
        lazy = [rd for n in waiting for rd in c.servers[n].pending if rd.hard_state and not rd.must_sync]
        if lazy:
            break
        c.fsync(waiting[0])
    assert all(rd.hard_state.commit > 2 and not rd.entries for rd in lazy)


def test_3_8_durable_entries_lost_is_fatal():
    c = Cluster()
    c.elect(1).propose(b"x")
    c.settle()
    c.crash(2)
    image = c.servers[2].durable
    image.log.append([Entry(2, 2, 0, EntryKind.NOOP, b"")])
    with pytest.raises(ValueError, match="rejoin this server under a new id"):
        c.start(2)


def test_10_2_1_the_leader_sends_before_its_own_disk_and_counts_itself_after():
    c = Cluster()
    leader = c.elect(1)
    c.isolate(3)
    index = leader.propose(b"x")
    rd = c.take(1)
    assert [m.to for m in rd.messages if type(m) is Append] == [2, 3]
    while c.wire:
        c.deliver()
    c.take(2)
    c.fsync(2)
    c.deliver()
    assert leader.log.commit < index
    c.fsync(1)
    assert leader.log.commit == index


def test_10_2_1_a_majority_without_the_leader_commits_but_is_not_applied_before_its_disk():
    c = Cluster()
    leader = c.elect(1)
    index = leader.propose(b"x")
    c.take(1)
    for node in (2, 3):
        c.deliver()
        c.take(node)
        c.fsync(node)
    while c.wire:
        c.deliver()
    assert leader.log.commit == index
    rd = c.take(1)
    assert rd.committed_entries == []
    # Nor may the disk say so: a crash could keep that record and lose the entry.
    assert rd.hard_state is None
    while c.servers[1].pending:
        c.fsync(1)
    assert [e.index for e in c.take(1).committed_entries] == [index]


def test_10_2_1_a_storage_answer_for_a_replaced_entry_is_ignored():
    """The append ABA race: the same (index, term) is handed over, replaced, and handed over again."""
    c = Cluster()
    core = c.core(2)
    append_to(core, 1, 1, [2, 2], term=2)
    first = core.ready().after_persist[-1]
    append_to(core, 1, 1, [3], term=3)
    second = core.ready().after_persist[-1]
    append_to(core, 1, 1, [2, 2], term=4)
    third = core.ready().after_persist[-1]
    assert (first.index, first.term_last) == (third.index, third.term_last)
    core.step(first)
    assert core.log.stable == 1
    core.step(second)
    assert core.log.stable == 1
    core.step(third)
    assert core.log.stable == 3


def test_10_2_1_an_answer_counts_up_to_the_part_that_was_not_replaced():
    c = Cluster()
    core = c.core(2)
    append_to(core, 1, 1, [2, 2, 2], term=2)
    first = core.ready().after_persist[-1]
    append_to(core, 2, 2, [3], term=3)
    core.step(first)
    assert core.log.stable == 2


def test_10_2_2_the_window_bounds_what_is_on_the_way():
    c = Cluster(max_inflight_msgs=3, max_size_per_msg=10)
    leader = c.elect(1)
    c.tick(2)
    for _ in range(8):
        leader.propose(b"0123456789")
    rd = c.take(1)
    assert [m.to for m in rd.messages] == [2, 2, 2, 3, 3, 3]
    c.settle()
    assert leader.log.commit == leader.log.last


def test_10_2_2_the_window_bounds_bytes():
    c = Cluster(max_inflight_bytes=25, max_size_per_msg=10)
    leader = c.elect(1)
    c.tick(2)
    for _ in range(8):
        leader.propose(b"0123456789")
    rd = c.take(1)
    assert [m.to for m in rd.messages] == [2, 2, 2, 3, 3, 3]


def test_10_2_2_lost_appends_are_noticed_and_sent_again():
    c = Cluster()
    leader = c.elect(1)
    c.isolate(2, 3)
    leader.propose(b"x")
    leader.propose(b"y")
    c.settle()
    c.heal()
    c.tick(3)
    assert leader.log.commit == leader.log.last


def test_10_2_2_an_unreachable_peer_is_probed_once_per_heartbeat():
    c = Cluster()
    leader = c.elect(1)
    c.tick(2)
    leader.report_unreachable(3)
    before = len(sent(c, Append, to=3))
    c.cut.add((1, 3))
    for _ in range(4):
        leader.propose(b"x")
        c.settle()
    assert len(sent(c, Append, to=3)) == before
    c.tick(2)
    assert len(sent(c, Append, to=3)) == before + 1


def test_10_2_3_uncommitted_bytes_are_bounded_with_a_definite_refusal():
    c = Cluster(max_uncommitted_bytes=30)
    leader = c.elect(1)
    c.isolate(1)
    last = leader.log.last
    leader.propose(b"0123456789" * 9)
    with pytest.raises(Overloaded):
        leader.propose(b"x")
    assert leader.log.last == last + 1
    c.heal()
    c.tick(3)
    leader.propose(b"x")


def test_10_2_3_committed_entries_come_in_bounded_portions():
    c = Cluster(voters=(1,), max_committed_bytes_per_ready=25)
    leader = c.elect(1)
    c.settle()
    for _ in range(5):
        leader.propose(b"0123456789")
    c.take(1)
    c.fsync(1)
    portions = []
    while leader.has_ready():
        portions.append(len(c.take(1).committed_entries))
    assert [p for p in portions if p] == [2, 2, 1]


def test_a_single_voter_leads_by_ticks_alone():
    c = Cluster(voters=(1,))
    c.tick(25)
    leader = c.core(1)
    assert leader.role == Role.LEADER
    index = leader.propose(b"x")
    c.settle()
    assert leader.log.commit == index
    assert c.servers[1].app.normal == [b"x"]


def test_the_invariants_notice_a_disk_that_lies():
    c = Cluster()
    leader = c.elect(1)
    leader.propose(b"x")
    c.take(1)
    (done,) = c.servers[1].pending[-1].after_persist
    leader.step(done)
    with pytest.raises(InvariantViolation, match="SelfAckStable"):
        c.check(1)
