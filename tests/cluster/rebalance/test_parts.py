"""Averages, loads, accounts and rows, one by one."""

from __future__ import annotations

import pytest

from durakv.cluster.rebalance import planner
from durakv.cluster.rebalance.accounting import Accounts, mean_of
from durakv.cluster.rebalance.explain import plan_reply, ranges_text
from durakv.cluster.rebalance.load import MIB, GroupState, Load, SlotLoad, total
from durakv.cluster.rebalance.moves import SKEW, UNSPLITTABLE, Limits, Move, Plan, Report, ranges_of
from durakv.cluster.rebalance.stats import MINUTE, TEN_MINUTES, SlotRateTable
from durakv.cluster.rebalance.workspace import Dice
from durakv.resp.types import Map


def feed(table, slot, seconds, cpu_per_s, start_s=0, counter=0, step_s=5):
    for now in range(start_s, start_s + seconds + 1, step_s):
        table.read(slot, now * 1000, counter, 3 * counter, counter // 2, 900, 4)
        counter += cpu_per_s * step_s
    return counter - cpu_per_s * step_s


def test_a_young_slots_average_is_its_plain_average():
    table = SlotRateTable()
    feed(table, 9, 10, 700)
    (slot,) = table.loads(TEN_MINUTES)
    assert slot.slot == 9 and slot.keys == 4 and slot.load.memory_bytes == 900
    assert slot.load.cpu_us_s == pytest.approx(700) and slot.load.network_bytes_s == pytest.approx(2100)
    assert slot.write_bytes_s == pytest.approx(350)
    assert table.seen(TEN_MINUTES) < 0.02 and 0.1 < table.seen(MINUTE) < 0.2


def test_the_minute_follows_a_step_before_the_ten_minutes_do():
    table = SlotRateTable()
    counter = feed(table, 1, 3600, 100)
    feed(table, 1, 60, 1100, start_s=3600, counter=counter)
    (fast,), (slow,) = table.loads(MINUTE), table.loads(TEN_MINUTES)
    # One time constant: 1 - 1/e of the way.
    assert fast.load.cpu_us_s == pytest.approx(100 + 1000 * 0.632, rel=0.01)
    assert slow.load.cpu_us_s == pytest.approx(100 + 1000 * 0.095, rel=0.01)


def test_all_slots_together():
    table = SlotRateTable()
    for slot in (3, 1, 2):
        feed(table, slot, 100 * slot, 70 * slot)
    for window in (MINUTE, TEN_MINUTES):
        used, added = table.used(window), total(table.loads(window))
        assert used.cpu_us_s == pytest.approx(added.cpu_us_s) == pytest.approx(420)
        assert used.network_bytes_s == pytest.approx(added.network_bytes_s) and used.memory_bytes == 2700


def test_uneven_readings_average_alike():
    even, uneven = SlotRateTable(), SlotRateTable()
    feed(even, 1, 600, 50, step_s=5)
    for now in (0, 1, 2, 40, 41, 200, 599, 600):
        uneven.read(1, now * 1000, now * 50, now * 150, now * 25, 900, 4)
    assert uneven.loads(MINUTE)[0].load.cpu_us_s == pytest.approx(even.loads(MINUTE)[0].load.cpu_us_s)


def test_counters_that_started_again_do_not_go_negative():
    table = SlotRateTable()
    table.read(1, 0, 5000, 0, 0, 0, 0)
    table.read(1, 10_000, 30, 0, 0, 0, 0)
    assert table.loads(MINUTE)[0].load.cpu_us_s == pytest.approx(3.0)
    # Twice at the same moment changes nothing.
    table.read(1, 10_000, 999, 0, 0, 0, 0)
    assert table.loads(MINUTE)[0].load.cpu_us_s == pytest.approx(3.0)
    table.forget(1)
    assert table.loads(MINUTE) == []


def test_the_fullest_resource_counts():
    capacity = Load(1000, 500, 100)
    used = Load(500, 300, 40)
    assert used.share(capacity) == 0.6 and used.dominant(capacity) == 1
    assert used.plus(Load(0, 0, 40)).dominant(capacity) == 2
    assert used.plus(Load(9999, 0, 0), -1.0).cpu_us_s == 0.0
    # What nobody counts never limits.
    assert Load(1, 10**9, 1).share(Load(10, 0, 0)) == 0.1


def test_the_price_of_a_slot_includes_what_is_written_meanwhile():
    slot = SlotLoad(1, Load(0, 0, 100), write_bytes_s=5)
    assert slot.copy_bytes(10) == 100 + 5 * 10


def a_move(source=1, target=2, slots=(7,), load=None):
    move = Move(source, target, SKEW)
    move.slots = list(slots)
    move.load = load or Load(300)
    move.source_before, move.source_after, move.target_before, move.target_after = 0.9, 0.6, 0.2, 0.5
    return move


def a_plan(*moves):
    plan = Plan()
    plan.moves = list(moves)
    plan.high_before, plan.high_after, plan.mean = 0.9, 0.6, 0.5
    return plan


def test_load_is_reserved_until_it_can_be_seen():
    accounts = Accounts(Limits())
    source = GroupState(1, Load(900), Load(1000), [SlotLoad(7, Load(300)), SlotLoad(8, Load(600))])
    target = GroupState(2, Load(200), Load(1000), [SlotLoad(1, Load(200))])
    accounts.begin(a_plan(a_move()), ["m"])
    assert accounts.projected(source, 0).cpu_us_s == 600 and accounts.projected(target, 0).cpu_us_s == 500
    accounts.end("m", 5_000, moved=True)
    # The target has begun to see a little of the slot; what it saw counts once.
    target = GroupState(2, Load(240), Load(1000), [SlotLoad(1, Load(200)), SlotLoad(7, Load(40))])
    assert accounts.projected(target, 6_000).cpu_us_s == 500
    assert accounts.projected(GroupState(1, Load(600), Load(1000)), 6_000).cpu_us_s == 600
    assert accounts.projected(target, 65_000).cpu_us_s == 240


def test_an_aborted_move_releases_its_load_and_its_slots_rest():
    accounts = Accounts(Limits())
    target = GroupState(2, Load(200), Load(1000))
    accounts.begin(a_plan(a_move(), a_move(slots=(9,))), ["m", ""])
    assert accounts.projected(target, 0).cpu_us_s == 500
    accounts.end("m", 5_000, moved=False)
    assert accounts.projected(target, 6_000).cpu_us_s == 200
    assert accounts.resting(7, 604_999) and not accounts.resting(7, 605_000) and not accounts.resting(9, 6_000)
    assert accounts.source_resting(1, 64_999) and not accounts.source_resting(1, 65_000)
    assert accounts.target_resting(1, 6_000) and not accounts.target_resting(2, 6_000)
    accounts.expire(605_000)
    assert accounts.jobs == {} and accounts.slot_ended_ms == {}
    with pytest.raises(KeyError):
        accounts.end("m", 700_000, moved=True)


def test_slots_that_came_from_elsewhere_rest_too():
    accounts = Accounts(Limits())
    accounts.arrived(3, [40, 41], 1_000)
    accounts.arrived(3, [40], 500)
    assert accounts.resting(40, 600_999) and not accounts.resting(40, 601_000)
    assert accounts.source_resting(3, 60_000) and not accounts.target_resting(3, 60_000)


def test_one_fence_at_a_time_in_each_group():
    accounts = Accounts(Limits())
    accounts.begin(a_plan(a_move(1, 2), a_move(3, 2, (8,)), a_move(4, 5, (9,))), ["a", "b", "c"])
    assert accounts.fence_may_start("a") and accounts.fence_may_start("a")
    assert not accounts.fence_may_start("b") and accounts.fence_may_start("c")
    accounts.end("a", 1, moved=True)
    assert accounts.fence_may_start("b")


def test_triggers_need_patience_without_a_break():
    accounts = Accounts(Limits())
    for now_s, share in ((0, 0.8), (30, 0.8), (45, 0.7), (50, 0.8), (105, 0.8)):
        accounts.observe(now_s * 1000, {1: share, 2: 0.7}, {1: 0.9, 2: 0.5})
    assert not accounts.hot(1, 105_000) and accounts.hot(1, 110_000) and not accounts.hot(2, 10**9)
    assert not accounts.uneven(599_000) and accounts.uneven(600_000)
    accounts.observe(610_000, {2: 0.7}, {1: 0.6, 2: 0.55})
    assert not accounts.uneven(10**9) and not accounts.hot(1, 10**9)


def settled_round(accounts, now_ms, shares, mid):
    accounts.begin(a_plan(a_move()), [mid])
    accounts.end(mid, now_ms, moved=True)
    accounts.verify(now_ms + 59_999, {1: 2.0, 2: 2.0})
    accounts.verify(now_ms + 60_000, shares)


def test_three_rounds_that_do_not_help_stop_it():
    accounts = Accounts(Limits())
    bad, good, all_grew = {1: 0.9, 2: 0.1}, {1: 0.7, 2: 0.3}, {1: 0.85, 2: 0.55}
    script = [(bad, 1), (bad, 2), (good, 0), (bad, 1), (all_grew, 0), (bad, 1), (bad, 2), (bad, 3)]
    for i, (shares, failed) in enumerate(script):
        settled_round(accounts, 100_000 * i, shares, f"m{i}")
        assert accounts.failed_rounds == failed, i
    assert accounts.stopped
    state = GroupState(1, Load(990), Load(1000), [SlotLoad(7, Load(300)), SlotLoad(8, Load(690))])
    plan = planner.plan([state, GroupState(2, Load(), Load(1000))], Limits(), accounts, 10**7, 1)
    assert plan.moves == [] and [r.kind for r in plan.reports] == ["stopped"]
    accounts.resume()
    assert accounts.stopped == "" and accounts.failed_rounds == 0


def test_nothing_changes_without_a_trigger_and_input_stays_as_it_was():
    accounts = Accounts(Limits())
    slots = [SlotLoad(slot, Load(25)) for slot in range(36)]
    states = [GroupState(2, Load(100), Load(1000)), GroupState(1, total(slots), Load(1000), slots)]
    assert planner.plan(states, Limits(), accounts, 0, 1).moves == []
    accounts.observe(0, {1: 0.9, 2: 0.1}, {})
    first = planner.plan(states, Limits(), accounts, 60_000, 1)
    second = planner.plan(list(reversed(states)), Limits(), accounts, 60_000, 1)
    assert [m.slots for m in first.moves] == [m.slots for m in second.moves] != []
    assert accounts.jobs == {} and states[1].used.cpu_us_s == 900
    (move,) = first.moves
    # 0.9 and 0.1: down to 1.1 times the mean; equals in one run of slots.
    assert move.source_after == pytest.approx(0.55) and move.slots == list(range(1, 15))
    assert first.shares_before == {1: 0.9, 2: 0.1} and first.high_after == pytest.approx(0.55)


@pytest.mark.parametrize("what", ["healthy", "inbound", "draining", "resting"])
def test_who_may_not_be_a_target(what):
    accounts = Accounts(Limits())
    slots = [SlotLoad(slot, Load(25)) for slot in range(36)]
    bad = GroupState(2, Load(0), Load(1000))
    good = GroupState(3, Load(300), Load(1000))
    if what == "healthy":
        bad.healthy = False
    elif what == "inbound":
        bad.inbound = 2
    elif what == "draining":
        bad.draining = True
    else:
        accounts.source_ended_ms[2] = 30_000
    accounts.observe(0, {1: 0.9, 2: 0.0, 3: 0.3}, {})
    for seed in range(8):
        states = [GroupState(1, total(slots), Load(1000), slots), bad, good]
        plan = planner.plan(states, Limits(), accounts, 60_000, seed)
        assert [m.target for m in plan.moves] == [3]


def test_jobs_are_cut_at_their_size():
    accounts = Accounts(Limits())
    slots = [SlotLoad(slot, Load(25, 0, 60 * MIB)) for slot in range(36)]
    accounts.observe(0, {1: 0.9, 2: 0.1, 3: 0.1}, {})
    states = [GroupState(g, Load(100), Load(1000, 0, 10**12)) for g in (2, 3)]
    plan = planner.plan([GroupState(1, total(slots), Load(1000, 0, 10**12), slots), *states], Limits(), accounts,
                        60_000, 1)  # fmt: skip
    assert [len(m.slots) for m in plan.moves] == [4, 4], "two streams of at most 256 MiB"
    assert all(m.copy_bytes <= 256 * MIB for m in plan.moves)


def test_idle_slots_are_no_bargain():
    # One slot of some load and size against hundreds that cost next to nothing each and bring as little.
    slots = [SlotLoad(0, Load(550)), SlotLoad(1, Load(200, 0, 20 * MIB))]
    slots += [SlotLoad(slot, Load(0.4)) for slot in range(2, 402)]
    accounts = Accounts(Limits())
    accounts.observe(0, {1: 0.91, 2: 0.1}, {})
    states = [GroupState(1, total(slots), Load(1000), slots), GroupState(2, Load(400), Load(1000))]
    plan = planner.plan(states, Limits(), accounts, 60_000, 1)
    assert plan.moves[0].slots == [1]


def test_dice_are_the_published_ones():
    # First outputs of SplitMix64 from seed 1234567.
    dice = Dice(1234567)
    assert [dice.below(1 << 64) for _ in range(3)] == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_ranges():
    assert ranges_text([]) == "" and ranges_text([5]) == "5" and ranges_text([1, 2, 3, 7, 9, 10]) == "1-3 7 9-10"
    assert ranges_of([1, 2, 3, 7, 9, 10]) == [(1, 3), (7, 7), (9, 10)]
    assert mean_of({}) == 0.0


def test_rows_for_the_operator():
    accounts = Accounts(Limits())
    accounts.begin(a_plan(a_move(3, 4, (100, 101))), ["f" * 40])
    plan = a_plan(a_move(slots=(1, 2, 9)))
    plan.moves[0].copy_bytes = 1234.6
    plan.shares_before, plan.shares_after = {1: 0.9, 2: 0.2}, {1: 0.6004, 2: 0.5}
    report = Report(UNSPLITTABLE, 1, 0.8, "why")
    report.slot = 5
    plan.reports.append(report)
    flat = plan_reply(plan, accounts, lambda g: f"g{g}", lambda slot: [b"user:%d" % slot]).flat
    assert flat[0::2] == [b"groups", b"moves", b"reports", b"running", b"stopped"]
    groups, moves, reports, running, stopped = flat[1::2]
    assert groups[0].flat == [b"group", b"g1", b"load-before", 900, b"load-after", 600]
    assert moves[0].flat[:12] == [
        b"slots", b"1-2 9", b"slot-count", 3, b"source", b"g1", b"target", b"g2", b"reason", b"skew", b"bytes", 1235,
    ]  # fmt: skip
    assert reports[0].flat[-4:] == [b"slot", 5, b"top-keys", [b"user:5"]]
    assert type(running[0]) is Map and running[0].flat[3] == b"100-101" and stopped == b""
