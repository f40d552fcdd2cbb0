"""The two leaders' drivers, step by step: what they say, what they propose, and when they lose patience."""

import pytest

from durakv.cluster.handoff import entries, messages, source
from durakv.cluster.handoff.entries import ops_of, put_op
from durakv.cluster.handoff.messages import Message, of_bytes
from durakv.cluster.handoff.state import ABORTED, CANCELLED, FORCED, IMPORTING, MOVED, NONE, OWNED
from tests.cluster.handoff.pair import KEY, MID, RUNS, Pair, fenced_pair, verbs
from tests.cluster.handoff.rig import CLUSTER


def test_a_handoff_from_beginning_to_end():
    pair = Pair()
    pair.fill()
    pair.begin()
    assert pair.driver().stage == source.PREPARING
    pair.run(until=lambda: pair.t.state.serves[0])
    assert pair.notices.index("park") < pair.notices.index("fence") < pair.notices.index("activate")
    assert pair.s.exports.held[0] == 1
    pair.run(until=lambda: not pair.t.state.records)
    assert pair.notices.index("release") < pair.notices.index("moved")
    assert not any(pair.s.exports.held)
    assert not any(pair.s.exports.watched)
    assert (pair.s.state.own[0], pair.s.state.epochs[0]) == (NONE, 2)
    assert (pair.t.state.own[0], pair.t.state.epochs[0]) == (OWNED, 2)
    assert pair.record(pair.s).keys == pair.record(pair.t).keys == 5
    pair.net.clear()
    pair.run(5)
    assert not pair.net


def test_slots_without_keys_move_too():
    pair = Pair()
    pair.begin(((0, 5, 1),))
    pair.run(until=lambda: not pair.s.state.records and not pair.t.state.records)
    assert pair.t.state.owned_runs() == ((0, 5, 2),)
    assert pair.s.state.owned_runs() == ()


def test_the_window_bounds_what_is_under_way():
    pair = Pair()
    pair.fill(40)
    pair.begin()
    pair.run(until=lambda: pair.driver().stage == source.SCANNING)
    pair.fill_window()
    assert pair.driver().unacked_bytes <= pair.limits.window_bytes + pair.limits.batch_bytes + 60
    first = [message.seq for _, message in pair.sent() if message.kind == messages.BATCH]
    assert first[0] == 1
    assert len(first) < 20
    # Nothing is heard: all of it again, once in a while.
    pair.s.tick()
    assert pair.kinds() == []
    pair.now_ms += pair.limits.retry_ms
    pair.s.tick()
    assert [message.seq for _, message in pair.sent()] == first
    pair.s.tick()
    assert pair.kinds() == []
    # Part of it is in: the window moves, in the next turn.
    pair.say(pair.s, messages.ACK, session=pair.driver().session, seq=2)
    assert pair.kinds() == []
    assert pair.s.hub.wants_turn()
    pair.s.tick()
    assert next(message.seq for _, message in pair.sent()) == first[-1] + 1
    pair.fill_window()
    pair.net.clear()
    pair.say(pair.s, messages.ACK, session=pair.driver().session, seq=2)
    pair.say(pair.s, messages.ACK, session=(9, 9), seq=5)
    pair.s.tick()
    assert (pair.driver().acked, pair.kinds()) == (2, [])


def test_one_turn_takes_only_so_much():
    pair = Pair()
    pair.fill(40)
    pair.begin()
    pair.limits.turn_bytes = 1
    pair.run(until=lambda: pair.driver().stage == source.SCANNING)
    pair.net.clear()
    assert pair.s.exports.wants_turn()
    pair.s.tick()
    assert pair.kinds() == [messages.BATCH]
    while pair.s.exports.wants_turn():
        pair.s.tick()
    assert pair.driver().unacked_bytes >= pair.limits.window_bytes


def test_batches_out_of_order_wait_for_their_turn():
    pair = Pair()
    pair.fill(40)
    pair.begin()
    pair.run(until=lambda: pair.driver().stage == source.SCANNING)
    pair.fill_window()
    blobs = [(gid, blob) for gid, blob in pair.net if of_bytes(blob, CLUSTER, gid)[1].kind == messages.BATCH]
    pair.net.clear()
    pair.t.receive(blobs[1][1])
    assert not pair.t.pend
    pair.t.receive(blobs[0][1])
    pair.t.receive(blobs[0][1])
    pair.t.receive(blobs[1][1])
    assert verbs(pair.t) == [entries.IMPORT_BATCH] * 2
    pair.commit(pair.t)
    assert [(message.kind, message.seq) for _, message in pair.sent()] == [(messages.ACK, 1), (messages.ACK, 2)]
    # Already in: acknowledged again, not staged again.
    pair.t.receive(blobs[0][1])
    assert not pair.t.pend
    assert [(message.kind, message.seq) for _, message in pair.sent()] == [(messages.ACK, 2)]
    # Proposed and lost: proposed again.
    pair.t.receive(blobs[2][1])
    pair.t.pend.clear()
    pair.now_ms += pair.limits.retry_ms
    pair.t.receive(blobs[2][1])
    assert verbs(pair.t) == [entries.IMPORT_BATCH]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_target_that_does_not_answer_is_given_up(streaming):
    pair = Pair()
    pair.fill(40)
    pair.begin()
    if streaming:
        pair.run(until=lambda: pair.driver().stage == source.SCANNING)
    waited_ms = 0
    while not pair.s.pend:
        pair.net.clear()
        pair.now_ms += 10
        waited_ms += 10
        pair.s.tick()
        assert waited_ms < 2 * pair.limits.prepare_ms_max
    assert waited_ms >= pair.limits.prepare_ms_max - 100
    assert pair.s.pend[0][2] == entries.export_cancel(MID, source.NO_ANSWER)


def test_a_target_without_room_refuses_at_once():
    pair = Pair()
    pair.fill(40)
    pair.t.headroom = 100
    pair.begin()
    pair.run(until=lambda: pair.driver() is None)
    assert b"out of memory" in pair.record(pair.s).reason
    assert pair.record(pair.s).result == CANCELLED
    assert pair.record(pair.t) is None


def test_a_target_that_runs_out_of_memory_aborts():
    pair = Pair()
    pair.fill(40)
    pair.begin()
    pair.run(until=lambda: pair.record(pair.t) is not None and pair.record(pair.t).seq > 2)
    pair.t.headroom = -1
    pair.run(until=lambda: pair.driver() is None and not pair.t.state.records)
    assert b"out of memory" in pair.record(pair.s).reason
    assert pair.record(pair.t).result == ABORTED
    assert not pair.t.staging.areas
    assert pair.s.state.serves[0]


def test_a_refusal_that_may_pass_is_tried_again():
    pair = Pair()
    pair.fill()
    # Another migration's staging is in the way.
    stale = entries.import_begin(b"%040x" % 9, 1, 0, (1, 1), RUNS)
    pair.t.pend.append((0, "handoff", stale))
    pair.commit(pair.t)
    pair.begin()
    pair.run(10)
    assert b"slot 0 is importing here" in pair.driver().trouble
    # The source knows nothing of that one, says so, and the way is free.
    pair.run(until=lambda: pair.t.state.serves[0])


@pytest.mark.parametrize("payload", [b"\x00\x01z\x0a\x00", b"rubbish"])
def test_a_stream_that_was_changed_on_the_way_is_never_activated(payload):
    pair = Pair()
    pair.fill(1)
    pair.begin()
    for _ in range(200):
        pair.now_ms += 5
        for at, (gid, blob) in enumerate(pair.net):
            message = of_bytes(blob, CLUSTER, gid)[1]
            if message.kind == messages.BATCH:
                (sent,) = ops_of(message.ops, 2)
                sent.payload = payload
                changed = []
                put_op(changed, sent)
                message.ops = b"".join(changed)
                pair.net[at] = (gid, message.to_bytes(CLUSTER, 3 - gid, gid))
        pair.deliver_all()
        for group in (pair.s, pair.t):
            pair.commit(group)
            group.tick()
    assert "alarm" in pair.notices
    assert "activate" not in pair.notices
    assert pair.record(pair.t).result == ABORTED
    assert pair.s.state.serves[0]
    assert pair.monitor.violations() == []


def test_a_cancel_before_the_fence():
    pair = Pair()
    pair.fill(40)
    pair.begin()
    assert not pair.s.exports.cancel(b"%040x" % 7, pair.now_ms)
    pair.run(until=lambda: pair.driver().stage == source.SCANNING)
    assert pair.s.exports.cancel(MID, pair.now_ms)
    pair.s.act()
    pair.run(until=lambda: pair.driver() is None and not pair.t.state.records)
    assert (pair.record(pair.s).result, pair.record(pair.s).reason) == (CANCELLED, b"cancelled")
    assert pair.record(pair.t).result == ABORTED
    assert "park" not in pair.notices


def test_a_cancel_after_the_fence_asks_for_the_decision():
    pair = fenced_pair()
    pair.net.clear()
    pair.s.exports.cancel(MID, pair.now_ms)
    pair.s.act()
    assert messages.RESOLVE in [of_bytes(blob, CLUSTER, gid)[1].kind for gid, blob in pair.net]
    pair.net = [(gid, blob) for gid, blob in pair.net if of_bytes(blob, CLUSTER, gid)[1].kind == messages.RESOLVE]
    pair.run(until=lambda: pair.driver() is None)
    assert (pair.record(pair.s).result, pair.record(pair.s).reason) == (ABORTED, b"cancelled")
    assert "serve" in pair.notices
    assert pair.s.state.serves[0]
    assert not pair.s.exports.held[0]


def test_a_cancel_that_is_too_late_finds_that_out():
    pair = fenced_pair()
    pair.run(until=lambda: pair.t.state.serves[0])
    pair.s.exports.cancel(MID, pair.now_ms)
    pair.run(until=lambda: pair.driver() is None)
    assert pair.record(pair.s).result == MOVED


def test_a_resolve_prefers_what_is_complete():
    pair = fenced_pair(0)
    pair.run(until=lambda: verbs(pair.t) == [entries.ACTIVATE] or entries.ACTIVATE in verbs(pair.t)
             or pair.t.imports.imports[MID].digest is not None)  # fmt: skip
    pair.t.pend.clear()
    pair.t.imports.imports[MID].proposed_ms.clear()
    pair.say(pair.t, messages.RESOLVE, order=pair.record(pair.s).order, runs=RUNS)
    assert verbs(pair.t) in ([entries.ACTIVATE], [])
    pair.run(until=lambda: pair.driver() is None)
    assert pair.record(pair.s).result == MOVED


def test_a_new_leader_that_is_fenced_sends_little_again_and_much_not():
    for most, result in ((1 << 20, MOVED), (0, ABORTED)):
        pair = fenced_pair()
        pair.net.clear()
        pair.limits.fenced_bytes_max = most
        pair.s.crash(0)
        pair.run(until=lambda pair=pair: pair.driver() is None)
        assert pair.record(pair.s).result == result
        assert pair.monitor.violations() == []


def test_a_fence_that_lasts_too_long_is_resolved_though_it_moves():
    pair = fenced_pair()
    waited_ms = 0
    while messages.RESOLVE not in pair.kinds():
        # A batch gets through now and then, so that it is not at a standstill.
        pair.say(pair.s, messages.ACK, session=pair.driver().session, seq=pair.driver().acked)
        pair.driver().moved_ms = pair.now_ms
        pair.now_ms += 20
        waited_ms += 20
        pair.s.tick()
    assert waited_ms >= pair.limits.fenced_ms_max
    assert waited_ms <= pair.limits.fenced_ms_max + 100


def test_a_target_that_hears_nothing_asks_and_follows():
    pair = Pair()
    pair.fill(40)
    pair.begin()
    pair.run(until=lambda: pair.record(pair.t) is not None and pair.record(pair.t).seq > 1)
    pair.net.clear()
    pair.now_ms += pair.limits.query_after_ms
    pair.t.tick()
    pair.t.tick()
    assert pair.kinds() == [messages.QUERY]
    order = pair.record(pair.s).order
    pair.say(pair.s, messages.QUERY, order=order, runs=RUNS)
    assert [(message.kind, message.status) for _, message in pair.sent()] == [(messages.STATUS, messages.ACTIVE)]
    pair.t.pend.clear()
    pair.say(pair.t, messages.STATUS, status=messages.ACTIVE)
    assert not pair.t.pend
    # The source ends it and its word is lost: the target finds out by itself.
    pair.s.exports.cancel(MID, pair.now_ms)
    pair.s.act()
    pair.commit(pair.s)
    pair.net.clear()
    pair.run(until=lambda: not pair.t.state.records)
    assert pair.t.state.own[0] == NONE


def test_a_source_that_has_not_applied_enough_says_nothing():
    pair = Pair()
    pair.say(pair.s, messages.QUERY, order=5, runs=RUNS)
    assert pair.kinds() == []
    pair.s.state.applied = 5
    pair.say(pair.s, messages.QUERY, order=5, runs=RUNS)
    assert [(message.kind, message.status) for _, message in pair.sent()] == [(messages.STATUS, messages.GONE)]


def test_an_unknown_migration_is_aborted_in_the_log_before_that_is_said():
    pair = Pair()
    pair.say(pair.t, messages.RESOLVE, order=3, runs=RUNS, reason=b"late")
    assert pair.kinds() == []
    assert verbs(pair.t) == [entries.ABORT]
    pair.say(pair.t, messages.RESOLVE, order=3, runs=RUNS, reason=b"late")
    assert verbs(pair.t) == [entries.ABORT]
    pair.commit(pair.t)
    assert [(message.kind, message.result) for _, message in pair.sent()] == [(messages.DECIDED, ABORTED)]
    # Whatever of it comes now is answered with that.
    pair.say(pair.t, messages.PREPARE, order=3, runs=RUNS, session=(1, 1))
    assert [(message.kind, message.result) for _, message in pair.sent()] == [(messages.DECIDED, ABORTED)]


def test_a_decision_is_told_when_its_record_is_long_gone():
    pair = fenced_pair()
    pair.run(until=lambda: pair.t.state.serves[0])
    pair.t.pend.append((0, "handoff", entries.import_forget(MID)))
    pair.t.commit()
    pair.t.state.finished.clear()
    pair.net.clear()
    pair.say(pair.t, messages.RESOLVE, order=pair.record(pair.s).order, runs=RUNS)
    assert not pair.t.pend
    assert [(message.kind, message.result) for _, message in pair.sent()] == [(messages.DECIDED, MOVED)]


def test_slots_taken_back_by_force_are_given_up_by_the_target():
    pair = fenced_pair()
    pair.run(until=lambda: pair.t.state.serves[0])
    pair.net.clear()
    pair.s.pend.clear()
    pair.s.pend.append((0, "handoff", entries.force_abort(MID)))
    pair.commit(pair.s)
    assert (pair.s.state.own[0], pair.s.state.epochs[0]) == (OWNED, 3)
    assert "serve" in pair.notices
    pair.net.clear()
    pair.run(until=lambda: not pair.t.state.records)
    assert "yield" in pair.notices
    assert "alarm" in pair.notices
    assert (pair.t.state.own[0], pair.t.state.epochs[0]) == (NONE, 3)
    assert not any(db.size for db in pair.t.ks.dbs)
    assert pair.record(pair.t).result == pair.record(pair.s).result == FORCED
    assert pair.monitor.violations() == []


def test_an_import_is_given_up_when_its_slots_were_taken_back_by_force():
    pair = fenced_pair()
    pair.net.clear()
    pair.s.pend.append((0, "handoff", entries.force_abort(MID)))
    pair.commit(pair.s)
    pair.run(until=lambda: not pair.t.state.records)
    assert pair.record(pair.t).result == ABORTED
    assert pair.s.state.serves[0]


def test_a_flush_at_the_target_ends_the_migration():
    pair = Pair()
    pair.fill(40)
    pair.begin()
    pair.run(until=lambda: pair.record(pair.t) is not None and pair.record(pair.t).seq > 1)
    pair.t.write("flush", 0, b"", None)
    pair.run(until=lambda: pair.driver() is None and not pair.t.state.records)
    assert (pair.record(pair.s).result, pair.record(pair.s).reason) == (CANCELLED, b"data was flushed")


def test_a_flush_at_the_source_goes_along():
    pair = Pair()
    pair.fill(40)
    pair.begin()
    pair.run(until=lambda: pair.record(pair.t) is not None and pair.record(pair.t).seq > 2)
    pair.s.write("flush", 0, b"", None)
    pair.s.write("set", 0, KEY, b"after")
    pair.run(until=lambda: pair.t.state.serves[0])
    assert pair.t.ks.dbs[0].size == 1
    assert pair.t.ks.dbs[0].peek(KEY) == b"after"


def test_a_flush_that_is_logged_before_the_fence_goes_along_behind_it():
    pair = Pair()
    pair.fill(40)
    pair.begin()
    pair.run(until=lambda: pair.driver().stage == source.FENCING)
    session = pair.driver().session
    # Logged before the fence.
    pair.s.ks.dbs[0].flush()
    pair.model_flush(1, 0)
    pair.s.hub.flushed([0], pair.now_ms)
    pair.s.act()
    assert pair.driver().session == session
    assert pair.s.exports.held[0]
    pair.run(until=lambda: pair.t.state.serves[0])
    assert pair.t.ks.dbs[0].size == 0
    assert pair.t.ks.dbs[1].size == 20
    pair.run(until=lambda: not pair.s.state.records)
    assert "moved" in pair.notices


def test_what_the_fences_own_entry_changed_goes_along():
    pair = Pair()
    pair.fill()
    pair.begin()
    pair.run(until=lambda: pair.driver().stage == source.FENCING)
    # One entry: a write, then the fence; who follows changes hears of the write when the entry ends.
    fence = pair.s.pend.pop()
    assert fence[2][0] == entries.FENCE
    pair.s.ks.dbs[0].put(KEY, b"late")
    pair.model_write("set", 0, KEY, b"late", pair.now_ms)
    pair.s.log.append(fence)
    pair.s.apply(len(pair.s.log), fence, pair)
    assert messages.DIGEST not in pair.kinds()
    assert pair.s.exports.wants_turn()
    pair.s.hub.changed([(0, KEY)])
    pair.run(until=lambda: pair.t.state.serves[0])
    assert pair.t.ks.dbs[0].peek(KEY) == b"late"


def test_who_waits_for_a_fence_that_was_cancelled_is_served():
    pair = Pair()
    pair.fill()
    pair.begin()
    pair.run(until=lambda: pair.driver().stage == source.FENCING)
    # Another leader's, which came first in the log.
    pair.s.pend.insert(0, (pair.now_ms, "handoff", entries.export_cancel(MID, b"cancelled")))
    pair.commit(pair.s)
    assert "serve" in pair.notices
    assert not any(pair.s.exports.held)
    assert "refused fence" in pair.notices


def test_a_change_behind_the_fence_voids_what_was_told():
    pair = fenced_pair(0)
    pair.run(until=lambda: pair.driver().stage == source.TOLD)
    before = pair.driver()
    # What the gate and apply must not let happen.
    pair.s.ks.dbs[0].put(KEY, b"late")
    pair.s.exports.changed([(0, KEY)], [], pair.now_ms)
    pair.s.act()
    assert pair.driver() is not before
    assert pair.driver().session > before.session
    assert "alarm" in pair.notices


def test_changes_of_other_slots_are_none_of_it():
    pair = Pair()
    pair.limits.pause_ms_max = -1
    pair.begin()
    pair.run(until=lambda: pair.driver().stage == source.CATCHING_UP)
    pair.s.exports.changed([(0, b"{450}elsewhere")], [], pair.now_ms)
    assert pair.driver().stream.complete()
    pair.s.exports.changed([(0, KEY)], [], pair.now_ms)
    assert not pair.driver().stream.complete()


def test_who_does_not_lead_says_and_proposes_nothing():
    pair = fenced_pair()
    for group in (pair.s, pair.t):
        group.exports.retire()
        group.imports.retire()
    assert not any(pair.s.exports.held)
    assert not any(pair.s.exports.watched)
    pair.net.clear()
    for kind in (messages.PREPARE, messages.BATCH, messages.DIGEST, messages.RESOLVE, messages.STATUS, messages.QUERY,
                 messages.DECIDED, messages.ACK):  # fmt: skip
        pair.say(pair.t, kind, session=(99, 1), runs=RUNS, result=ABORTED)
        pair.say(pair.s, kind, session=(99, 1), runs=RUNS, result=ABORTED)
    pair.now_ms += 10_000
    pair.s.tick()
    pair.t.tick()
    assert not pair.s.pend
    assert not pair.t.pend
    assert not pair.net
    assert pair.t.state.own[0] == IMPORTING


def test_words_of_a_third_group_count_for_nothing():
    pair = fenced_pair()
    message = Message(messages.DECIDED, MID)
    message.result = ABORTED
    pair.s.exports.message(3, message, pair.now_ms)
    assert pair.driver().decision == 0
    message = Message(messages.STATUS, MID)
    message.status = messages.GONE
    pair.t.imports.message(3, message, pair.now_ms)
    assert not pair.t.actions.proposals
