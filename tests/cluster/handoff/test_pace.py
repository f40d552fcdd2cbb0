"""When a migration fences: the pace of writers, what is under way, and how long the target is trusted."""

import pytest

from durakv.cluster.handoff import actions, entries, messages, source
from durakv.cluster.handoff.state import CANCELLED, NONE
from tests.cluster.handoff.pair import KEY, RUNS, Pair, verbs
from tests.cluster.handoff.rig import quick_limits


def slow_pair():
    limits = quick_limits()
    limits.pause_ms_max = 20
    limits.retry_ms = 10_000
    pair = Pair(limits)
    pair.fill()
    pair.begin()
    return pair


def test_writers_are_slowed_down_and_then_it_is_given_up():
    pair = slow_pair()
    # The target takes longer for every answer than the pause may last.
    began_ms = pair.now_ms
    delays = []
    act = pair.s.act

    def noting():
        delays.extend(notice.delay_ms for notice in pair.s.actions.notices if notice.kind == actions.THROTTLE)
        act()

    pair.s.act = noting
    while pair.record(pair.s).result == 0:
        pair.s.write("set", 0, KEY, b"y%d" % pair.now_ms)
        pair.now_ms += 50
        pair.commit(pair.s)
        pair.deliver_all(2)
        pair.commit(pair.t)
        pair.now_ms += 50
        pair.deliver_all(1)
        pair.s.tick()
        assert pair.now_ms < began_ms + 10_000
    assert (pair.record(pair.s).result, pair.record(pair.s).reason) == (CANCELLED, source.NOT_CONVERGING)
    assert delays[0] >= 1
    assert delays[:-1] == sorted(delays[:-1])
    assert delays[-1] == 0
    assert pair.s.state.serves[0]
    assert "park" not in pair.notices
    pair.run(until=lambda: not pair.t.state.records)
    assert pair.t.state.own[0] == NONE


def test_it_converges_when_the_writers_rest():
    pair = slow_pair()
    pair.run(until=lambda: pair.t.state.serves[0], step_ms=2)
    assert "throttle" not in pair.notices


def test_one_fence_at_a_time():
    pair = Pair()
    other = b"%040x" % 2
    pair.fill()
    pair.begin(((0, 0, 1),))
    pair.begin(((1, 1, 1),), other)
    seen = []
    for _ in range(400):
        pair.now_ms += 1
        pair.deliver_all()
        if pair.s.pend:
            pair.s.commit()
        if pair.t.pend:
            pair.t.commit()
        pair.s.tick()
        stages = [driver.stage in {source.FENCING, source.DRAINING, source.TOLD}
                  for driver in pair.s.exports.drivers.values()]  # fmt: skip
        seen.append(sum(stages))
    assert max(seen) == 1
    assert pair.t.state.serves[0]
    assert pair.t.state.serves[1]


def test_a_target_that_was_not_heard_of_lately_is_asked_before_the_fence():
    pair = Pair()
    pair.fill()
    pair.begin()
    pair.limits.pause_ms_max = -1
    pair.run(until=lambda: pair.driver().stage == source.CATCHING_UP and not pair.driver().unacked)
    pair.net.clear()
    pair.limits.pause_ms_max = 1000
    pair.now_ms += pair.limits.election_timeout_ms + 1
    pair.s.tick()
    assert not pair.s.pend
    assert [(message.kind, message.session) for _, message in pair.sent()] == [
        (messages.PREPARE, pair.driver().session)
    ]
    pair.say(pair.t, messages.PREPARE, session=pair.driver().session, order=pair.record(pair.s).order, runs=RUNS)
    pair.deliver_all()
    # Being heard is not enough: the target's leader may have lost the others of its group.
    assert verbs(pair.s) == []
    staged = pair.record(pair.t).seq
    pair.commit(pair.t)
    pair.deliver_all()
    assert verbs(pair.s) == [entries.FENCE]
    assert pair.record(pair.t).seq == staged


def test_a_slow_answer_of_long_ago_does_not_keep_an_idle_migration_from_its_end():
    pair = Pair()
    pair.fill()
    pair.begin()
    pair.limits.pause_ms_max = -1
    pair.run(until=lambda: pair.driver().stage == source.CATCHING_UP and not pair.driver().unacked)
    pair.net.clear()
    pair.limits.pause_ms_max = 1000
    # The target stood still for a while, and nothing was sent since.
    pair.driver().rtt_ms = 5000
    pair.now_ms += pair.limits.retry_ms
    pair.driver().heard_ms = pair.now_ms
    pair.s.tick()
    assert not pair.s.pend
    pair.now_ms += 1
    pair.deliver_all()
    pair.commit(pair.t)
    pair.deliver_all()
    pair.s.tick()
    assert verbs(pair.s) == [entries.FENCE]


@pytest.mark.parametrize("ends", [False, True])
def test_what_is_under_way_is_waited_for_before_the_fence_but_not_for_ever(ends):
    pair = Pair()
    pair.fill()
    pair.begin()
    pair.limits.pause_ms_max = -1
    pair.run(until=lambda: pair.driver().stage == source.CATCHING_UP and not pair.driver().unacked)
    pair.limits.pause_ms_max = 1000
    driver = pair.driver()
    # Half of what a pause may last is under way.
    driver.rate_bytes_s = 1000
    driver.unacked_bytes = 500
    pair.s.tick()
    pair.now_ms += 100
    driver.heard_ms = pair.now_ms
    pair.s.tick()
    assert driver.stage == source.CATCHING_UP
    if ends:
        driver.unacked_bytes = 0
    else:
        pair.now_ms += pair.limits.aim_for_ms
        driver.heard_ms = pair.now_ms
    pair.s.tick()
    assert driver.stage == source.FENCING
