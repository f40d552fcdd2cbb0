"""Each rule of the lease protocol in one small history: who serves, who commits, who may take office, and when not."""

import pytest

from raft import Entry, HardState
from raft.primary_backup import (
    ChangeRefused,
    HandingOver,
    LeaseExpired,
    NoReplicas,
    NotPrimary,
    Overloaded,
    codec,
)
from raft.primary_backup.messages import Beacon, Prepare
from raft.types import EntryKind, Role
from tests.raft.primary_backup.world import HOLDER, MS, Clock, Site, World

L = 1000 * MS
G = 1500 * MS


def quiet(nodes=(1, 2, 3), **settings) -> World:
    """A shard whose first node is in office and serves; messages take 1 to 2 ms."""
    w = World(11, nodes, **settings)
    w.delay_ns = 1 * MS
    w.stragglers = False
    assert w.run(5000 * MS, lambda: w.primary() == 1), w.picture()
    w.run(300 * MS)
    return w


def put(w: World, node: int = 1) -> int:
    """Propose at the node, errors and all; the index."""
    core = w.core(node)
    index = core.propose(b"x%d" % w.seq, w.local(w.sites[node]))
    w.sites[node].mine[index] = b"x"
    w.pump(w.sites[node])
    return index


def wait(w: World, what, limit_ms: int = 10_000) -> None:
    assert w.run(limit_ms * MS, what), w.picture()


def holder(w: World):
    return w.invariants.holder


# Commit


def test_an_entry_commits_when_every_in_sync_member_has_it():
    w = quiet()
    w.sites[3].disk_ns = 400 * MS
    index = put(w)
    w.run(100 * MS)
    assert w.core(1).copies(index) == 2
    assert w.core(1).log.commit < index
    wait(w, lambda: index in w.acked, 1000)
    assert w.core(3).log.stable >= index


def test_a_silent_member_is_put_out_before_anything_commits_without_it():
    w = quiet()
    w.crash(3)
    index = put(w)
    wait(w, lambda: index in w.acked, 3000)
    assert (holder(w).isr, holder(w).learners, holder(w).primary) == ((1, 2), (3,), 1)
    w.start(3)
    wait(w, lambda: holder(w).isr == (1, 2, 3))
    assert w.core(3).log.stable >= index


def test_a_member_that_answers_but_holds_up_commits_is_put_out():
    w = quiet()
    w.sites[3].disk_ns = 60_000 * MS
    index = put(w)
    wait(w, lambda: index in w.acked, 3000)
    assert holder(w).isr == (1, 2)


def test_while_it_is_not_known_whether_a_change_is_in_force_the_union_counts():
    w = quiet()
    w.cut.add((HOLDER, 1))
    w.isolate(3, holder=False)
    wait(w, lambda: holder(w).isr == (1, 2), 3000)
    assert w.core(1).isr == (1, 2, 3)
    assert w.core(1).effective() == (1, 2, 3)
    with pytest.raises(LeaseExpired, match="node 3 has not confirmed"):
        put(w)
    # Reading the epoch it started from would settle nothing; the repeated wish does.
    w.cut.discard((HOLDER, 1))
    wait(w, lambda: w.core(1).isr == (1, 2), 1000)
    index = put(w)
    wait(w, lambda: index in w.acked, 1000)


def test_a_primary_that_is_put_in_doubt_by_a_later_epoch_asks_the_holder():
    w = quiet()
    w.isolate(1)
    wait(w, lambda: w.primary() in (2, 3))
    new = w.primary()
    w.cut.clear()
    wait(w, lambda: w.core(1).role != Role.LEADER, 1000)
    assert w.core(1).leader == new
    wait(w, lambda: holder(w).isr == (1, 2, 3))


def test_too_many_uncommitted_bytes_are_refused():
    w = quiet(max_uncommitted_bytes=4)
    w.sites[2].disk_ns = 500 * MS
    put(w)
    with pytest.raises(Overloaded, match=r"THROTTLED .* nothing was logged"):
        put(w)


# Leases


def test_an_isolated_primary_stops_serving_at_the_end_of_its_lease():
    w = quiet()
    w.isolate(1)
    began = w.now_ns
    wait(w, lambda: w.primary() != 1, 3000)
    assert w.now_ns - began <= L
    last = w.core(1).log.last
    with pytest.raises(LeaseExpired, match=r"LEASEEXPIRED .* nothing was logged"):
        put(w)
    assert w.core(1).log.last == last
    w.core(1).read_index(w.visible, w.local(w.sites[1]))
    assert w.core(1).waiting_reads == [w.visible]
    w.run(2 * G)
    assert w.core(1).role == Role.LEADER
    # Deposed at last, it gives the read up.
    site = w.sites[1]
    new = holder(w).primary
    w.core(1).step(Beacon(1, new, 1, holder(w).epoch, 0, 1, 1), w.local(site))
    assert w.core(1).ready().failed_reads == [w.visible]


def test_a_primary_that_was_paused_reads_the_clock_before_anything_else():
    w = quiet()
    w.pause(1, 20_000 * MS)
    w.run(2 * G)
    site = w.sites[1]
    # Not a message was handled since, but the first client is refused.
    with pytest.raises(LeaseExpired):
        w.core(1).propose(b"late", w.local(site))
    assert not w.core(1).lease_valid(w.local(site))


def test_a_pause_within_the_grace_time_costs_no_member_its_place():
    w = quiet()
    before = holder(w).epoch
    w.pause(1, 1200 * MS)
    w.run(1300 * MS)
    wait(w, lambda: w.primary() == 1, 1000)
    assert holder(w).epoch == before


def test_a_member_that_was_paused_does_not_take_its_pause_for_silence():
    w = quiet()
    before = holder(w).epoch
    w.pause(2, 600 * MS)
    w.run(4000 * MS)
    assert holder(w).epoch == before
    # So long that it is put out meanwhile: it does not try to take over either.
    w.pause(2, 4000 * MS)
    w.run(9000 * MS)
    assert holder(w).primary == 1
    assert w.core(2).pauses > 0


@pytest.mark.parametrize("step_ms", [-5000, 5000])
def test_an_odd_step_of_the_clock_ends_every_lease(step_ms):
    w = quiet()
    site = w.sites[1]
    site.clock.change(w.now_ns, 1000, step_ms * MS)
    site.stepped = True
    w.cut |= {(2, 1), (3, 1)}
    w.turn(site)
    assert w.core(1).clock_drops == 1
    assert not w.core(1).lease_valid(w.local(site))
    w.cut.clear()
    wait(w, lambda: w.primary() == 1, 1000)


def test_clocks_that_agree_or_nearly_so_are_not_odd():
    w = quiet()
    site = w.sites[1]
    at = w.local(site)
    raw = site.clock.raw(w.now_ns)
    for step_ms, apart_ms in ((100, 5), (100, 15), (1, 9), (0, 0), (300, 40)):
        at += step_ms * MS
        raw += (step_ms - apart_ms) * MS if step_ms > apart_ms else 0
        w.core(1).begin_turn(at, raw)
    assert w.core(1).clock_drops == 0
    w.core(1).begin_turn(at + 100 * MS, raw + 50 * MS)
    assert w.core(1).clock_drops == 1


def test_a_stuck_executor_costs_the_office_and_nobody_else_their_place():
    w = quiet()
    w.sites[1].stuck = True
    wait(w, lambda: w.primary() in (2, 3))
    assert holder(w).isr == (2, 3)
    w.sites[1].stuck = False
    wait(w, lambda: holder(w).isr == (1, 2, 3))


def test_without_the_holder_everything_goes_on_until_a_change_is_needed():
    w = quiet()
    w.holder_up = False
    w.run(10_000 * MS)
    index = put(w)
    wait(w, lambda: index in w.acked, 1000)
    assert w.primary() == 1
    w.crash(3)
    wait(w, lambda: w.primary() == 0, 2000)
    w.run(5000 * MS)
    assert w.primary() == 0
    w.holder_restart()
    wait(w, lambda: w.primary() == 1, 2000)


def test_alone_the_primary_needs_the_lease_of_the_holder():
    w = quiet((1, 2))
    w.crash(2)
    wait(w, lambda: holder(w).isr == (1,))
    wait(w, lambda: w.primary() == 1, 1000)
    w.holder_up = False
    began = w.now_ns
    wait(w, lambda: w.primary() == 0, 3000)
    assert w.now_ns - began <= L
    with pytest.raises(LeaseExpired, match="config holder"):
        put(w)


# Taking over


def test_a_member_takes_over_and_keeps_what_was_prepared():
    w = quiet()
    index = put(w)
    wait(w, lambda: index in w.acked, 1000)
    # Prepared at one member only when the primary dies; kept if that one takes over, lost otherwise, but acknowledged
    # it never was.
    w.cut |= {(1, 3)}
    late = put(w)
    w.run(50 * MS)
    w.crash(1)
    w.cut.clear()
    wait(w, lambda: w.primary() in (2, 3))
    assert late not in w.acked
    new = w.core(w.primary())
    assert new.log.term(index) < new.noop_index
    assert (late < new.noop_index) == (w.primary() == 2)
    w.start(1)
    wait(w, lambda: holder(w).isr == (1, 2, 3))
    wait(w, lambda: len({site.app.digest for site in w.sites.values()}) == 1)


def test_nobody_but_an_in_sync_member_takes_over():
    w = quiet()
    w.crash(3)
    wait(w, lambda: holder(w).isr == (1, 2))
    w.crash(1)
    w.crash(2)
    w.start(3)
    w.run(20_000 * MS)
    assert w.primary() == 0
    assert holder(w).primary == 1


def test_a_started_primary_begins_an_epoch_of_its_own_and_waits():
    w = quiet()
    before = holder(w).epoch
    w.crash(1)
    w.start(1)
    began = w.now_ns
    wait(w, lambda: w.primary() == 1)
    assert holder(w).epoch == before + 1
    assert w.now_ns - began >= G


def test_a_change_of_an_earlier_run_is_not_resumed():
    w = quiet()
    w.slow[1, HOLDER] = 4000 * MS
    w.crash(3)
    wait(w, lambda: w.core(1).change is not None, 3000)
    # The wish to put node 3 out is on its way; its author starts anew and the wish arrives just then.
    call = w.core(1).change.call
    w.crash(1)
    w.slow.clear()
    w.start(1)
    w.holder_takes(1, 0, codec.encode_call(call))
    assert (holder(w).isr, holder(w).primary) == ((1, 2), 1)
    wait(w, lambda: w.primary() == 1)
    assert holder(w).request.nonce == w.core(1).nonce
    assert w.core(1).reign_term > call.config.epoch


def test_planned_switchover_needs_no_grace_time():
    w = quiet()
    for _ in range(5):
        put(w)
    core = w.core(1)
    core.transfer_leader(2, w.local(w.sites[1]))
    with pytest.raises(HandingOver):
        put(w)
    w.pump(w.sites[1])
    began = w.now_ns
    wait(w, lambda: w.primary() == 2, 1000)
    assert w.now_ns - began < 200 * MS
    assert holder(w).primary == 2
    wait(w, lambda: holder(w).isr == (1, 2, 3))


def test_a_switchover_that_fails_ends_with_an_epoch_of_the_old_primary():
    w = quiet()
    w.isolate(2)
    core = w.core(1)
    core.transfer_leader(2, w.local(w.sites[1]))
    w.pump(w.sites[1])
    assert core.resigned
    assert not core.lease_valid(w.local(w.sites[1]))
    epoch = holder(w).epoch
    wait(w, lambda: w.primary() != 0)
    assert holder(w).epoch > epoch
    assert w.primary() != 2


def test_who_cannot_be_handed_to():
    w = quiet()
    now_ns = w.local(w.sites[1])
    with pytest.raises(ChangeRefused, match=r"node 9 is not in sync; choose one of \[2, 3\]"):
        w.core(1).transfer_leader(9, now_ns)
    with pytest.raises(NotPrimary, match="ask node 1"):
        w.core(2).transfer_leader(1, w.local(w.sites[2]))
    with pytest.raises(NotPrimary):
        put(w, 2)
    w.core(1).transfer_leader(1, now_ns)
    assert not w.core(1).transferee


def test_two_primaries_of_one_epoch_stop_the_node():
    w = quiet()
    m = Beacon(1, 2, 1, w.core(1).term, 0, 1, 1)
    with pytest.raises(AssertionError, match="node 2 acts as primary"):
        w.core(1).step(m, w.local(w.sites[1]))
    m = Prepare(1, 3, 2, w.core(2).term, 0, 0, 0, 1, 1, 0, [])
    with pytest.raises(AssertionError, match="which node 1 owns"):
        w.core(2).step(m, w.local(w.sites[2]))


def test_lost_durable_entries_stop_the_node():
    w = quiet()
    m = Beacon(1, 1, 2, w.core(2).term, 99, 1, 1)
    with pytest.raises(AssertionError, match="durable entries were lost"):
        w.core(2).step(m, w.local(w.sites[2]))
    w.crash(3)
    w.sites[3].durable.hard_state = HardState(2, 1, 99)
    with pytest.raises(ValueError, match="rejoin this node under a new id"):
        w.start(3)


# Members


def test_below_the_minimum_writes_are_refused_and_reads_served():
    w = quiet((1, 2), min_isr=2)
    index = put(w)
    wait(w, lambda: index in w.acked, 1000)
    w.crash(2)
    wait(w, lambda: holder(w).isr == (1,))
    with pytest.raises(NoReplicas, match=r"NOREPLICAS .* 1 of the 2 .* nothing was logged"):
        put(w)
    wait(w, lambda: w.primary() == 1, 1000)
    w.start(2)
    wait(w, lambda: w.core(1).isr == (1, 2))
    again = put(w)
    wait(w, lambda: again in w.acked, 1000)


def test_a_new_primary_below_the_minimum_serves_once_another_joins():
    w = quiet((1, 2), min_isr=2)
    index = put(w)
    wait(w, lambda: index in w.acked, 1000)
    w.crash(1)
    wait(w, lambda: w.core(2).role == Role.LEADER)
    w.run(5000 * MS)
    # Nothing commits on one node alone, not even what was acknowledged before.
    assert w.primary() == 0
    assert w.core(2).log.commit < w.core(2).noop_index
    w.start(1)
    wait(w, lambda: w.primary() == 2)
    wait(w, lambda: holder(w).isr == (1, 2), 1000)


def test_an_admission_that_takes_too_long_is_given_up():
    w = quiet()
    w.crash(3)
    wait(w, lambda: holder(w).isr == (1, 2))
    w.start(3)
    wait(w, lambda: w.core(1).peers[3].progress.match == w.core(1).log.last, 3000)
    w.sites[3].disk_ns = 60_000 * MS
    index = put(w)
    began = w.now_ns
    wait(w, lambda: index in w.acked, 5000)
    assert w.now_ns - began < 2500 * MS
    w.run(3000 * MS)
    assert holder(w).isr == (1, 2)


def test_a_new_node_learns_from_a_snapshot_and_is_admitted_and_one_is_removed():
    w = quiet()
    for _ in range(10):
        put(w)
        w.run(20 * MS)
    w.snapshot(1)
    site = w.sites[4] = Site(4, Clock(5 * 10**6 * MS, 1000))
    w.start(4)
    core = w.core(1)
    number = core.alter(w.local(w.sites[1]), add=(4,), context=b"book")
    with pytest.raises(ChangeRefused, match="another change"):
        core.alter(w.local(w.sites[1]), remove=(3,))
    w.pump(w.sites[1])
    wait(w, lambda: holder(w).isr == (1, 2, 3, 4))
    assert [(f.number, f.error) for f in w.finished] == [(number, "")]
    assert w.core(4).incoming_offset > 0
    wait(w, lambda: site.app.digest == w.sites[1].app.digest, 1000)
    assert core.membership.context == b"book"
    core.alter(w.local(w.sites[1]), remove=(2,), min_isr=2)
    w.pump(w.sites[1])
    wait(w, lambda: core.isr == (1, 3, 4), 1000)
    assert holder(w).min_isr == 2
    with pytest.raises(ChangeRefused, match="hand over first"):
        core.alter(w.local(w.sites[1]), remove=(1,))
    with pytest.raises(ChangeRefused, match="node 3 is a member already"):
        core.alter(w.local(w.sites[1]), add=(3,))
    status = core.status()
    assert (status.isr, status.serving, status.min_isr, status.role_name()) == ((1, 3, 4), True, 2, "primary")
    assert [(p.node, p.in_sync, p.leased) for p in status.peers] == [(3, True, True), (4, True, True)]


def test_the_membership_is_another_object_only_when_it_differs():
    w = quiet()
    for node in (1, 2, 3):
        assert w.core(node).membership.voters == (1, 2, 3)
    w.crash(1)
    w.start(1)
    assert w.core(1).membership.voters == ()
    wait(w, lambda: w.primary() == 1)
    before = w.core(1).membership
    epoch = w.core(1).known.epoch
    w.core(1).alter(w.local(w.sites[1]), min_isr=2)
    w.pump(w.sites[1])
    wait(w, lambda: w.core(1).known.epoch == epoch + 1, 1000)
    assert w.core(1).membership is before
    w.crash(3)
    wait(w, lambda: w.core(1).membership.voters == (1, 2))
    assert w.core(1).membership.learners == (3,)


def test_a_learner_is_admitted_by_hand_where_that_is_wanted():
    w = quiet(admit_learners=False)
    w.crash(3)
    wait(w, lambda: w.core(1).isr == (1, 2))
    now_ns = w.local(w.sites[1])
    with pytest.raises(ChangeRefused, match="node 3 has not caught up"):
        w.core(1).admit(3, now_ns)
    with pytest.raises(ChangeRefused, match="node 2 is no learner"):
        w.core(1).admit(2, now_ns)
    with pytest.raises(NotPrimary):
        w.core(2).admit(3, w.local(w.sites[2]))
    w.start(3)
    w.run(5000 * MS)
    assert holder(w).isr == (1, 2)
    w.core(1).admit(3, w.local(w.sites[1]))
    with pytest.raises(ChangeRefused, match="no learner of this shard, or joining already"):
        w.core(1).admit(3, w.local(w.sites[1]))
    wait(w, lambda: holder(w).isr == (1, 2, 3), 1000)


# Force


def lone_survivor(w: World) -> int:
    """Node 3 lacks what node 1 and 2 acknowledged after it was put out; those two are gone. The last index."""
    w.crash(3)
    wait(w, lambda: w.core(1).isr == (1, 2))
    index = put(w)
    wait(w, lambda: index in w.acked, 1000)
    w.crash(1)
    w.crash(2)
    w.start(3)
    w.run(2 * G)
    return index


def test_force_says_what_may_be_lost_and_the_given_up_are_rebuilt():
    w = quiet()
    index = lone_survivor(w)
    core = w.core(3)
    kept, epoch = core.log.stable, holder(w).epoch
    now_ns = w.local(w.sites[3])
    with pytest.raises(ChangeRefused, match=r"in-sync members are \[1, 2\]"):
        core.force((1,), now_ns)
    number = core.force((1, 2), now_ns)
    with pytest.raises(ChangeRefused, match="asking for office already"):
        core.force((1, 2), now_ns)
    w.pump(w.sites[3])
    wait(w, lambda: w.primary() == 3)
    loss = w.losses[0]
    assert (loss.node, loss.epoch_before, loss.epoch_after) == (3, epoch, epoch + 1000)
    assert (loss.given_up, loss.certain_through, loss.kept_through) == ((1, 2), core.log.commit - 1, kept)
    assert kept < index
    assert f"acknowledged entries above {kept} may be lost" in loss.text()
    assert [(f.number, f.error) for f in w.finished] == [(number, "")]
    put(w, 3)
    w.run(100 * MS)
    w.snapshot(3)
    w.start(1)
    w.start(2)
    wait(w, lambda: holder(w).isr == (1, 2, 3))
    wait(w, lambda: len({site.app.digest for site in w.sites.values()}) == 1, 2000)
    # And what they learned from the snapshot they keep.
    for node in (1, 2):
        w.crash(node)
        w.start(node)
    wait(w, lambda: holder(w).isr == (1, 2, 3))
    with pytest.raises(ChangeRefused, match="the primary already"):
        w.core(3).force((1, 2), w.local(w.sites[3]))


def test_force_waits_until_a_lone_primary_has_stopped_serving():
    w = quiet((1, 2))
    w.crash(2)
    wait(w, lambda: holder(w).isr == (1,))
    wait(w, lambda: w.primary() == 1, 1000)
    w.isolate(1)
    w.start(2)
    w.run(300 * MS)
    refused = 0
    while not w.losses:
        core = w.core(2)
        if core.change is None and core.role != Role.LEADER:
            core.force((1,), w.local(w.sites[2]))
            w.pump(w.sites[2])
        w.run(50 * MS)
        refused += sum("lease" in f.error for f in w.finished)
        w.finished.clear()
        assert w.now_ns < 60_000 * MS, w.picture()
    assert refused > 3
    assert w.primary() != 1
    wait(w, lambda: w.primary() == 2)


# What the note calls small print


def test_messages_for_others_are_not_taken():
    w = quiet()
    core = w.core(2)
    now_ns = w.local(w.sites[2])
    for group, to in ((2, 2), (1, 3)):
        core.step(Beacon(group, 1, to, 99, 0, 1, 1), now_ns)
    assert core.term < 99


def test_a_stale_primary_is_told_so_and_changes_nothing():
    w = quiet()
    core = w.core(2)
    last = core.log.last
    entry = Entry(last + 1, 1, 0, EntryKind.NORMAL, b"stale")
    core.step(Prepare(1, 3, 2, 1, last, core.log.last_term, 0, 1, 1, 0, [entry]), w.local(w.sites[2]))
    assert core.log.last == last
    answer = core.ready().messages[0]
    assert (answer.to, answer.term, answer.ok) == (3, core.term, False)
