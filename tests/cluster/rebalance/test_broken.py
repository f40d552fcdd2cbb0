"""Planners with one idea taken out: each must be seen to fail where the whole one passes."""

from __future__ import annotations

from collections import Counter

import pytest

from durakv.cluster.rebalance import planner
from durakv.cluster.rebalance.accounting import Accounts
from durakv.cluster.rebalance.load import MIB
from durakv.cluster.rebalance.moves import Limits
from tests.cluster.rebalance.test_simulated import A_SLOT, chased, fixed, one_hot
from tests.cluster.rebalance.world import CPU_US_S, World, even, zipf


def hot_key_run():
    return World(even(128, 4), 4, fixed(one_hot(4, 0.7 * CPU_US_S))).run(40)


def test_moving_the_hottest_slot(monkeypatch):
    assert hot_key_run().wrong == []

    def hottest_first(work, state, hottest):
        free = [s for s in state.slots if work.movable(s.slot)]
        return sorted(free, key=lambda s: (-s.load.cpu_us_s, s.slot))

    monkeypatch.setattr(planner, "choose_victims", hottest_first)
    monkeypatch.setattr(planner, "takes", lambda work, source, target, load, level: True)
    broken = hot_key_run()
    assert any("the hottest slot 5" in wrong for wrong in broken.wrong)


def herd():
    """Eight groups too hot, seven at half, one idle: every leader knows the others as they were a while ago."""
    loads = [2.6 * A_SLOT] * 256 + [1.6 * A_SLOT] * 224 + [0.3 * A_SLOT] * 32
    limits = Limits()
    # What the targets would refuse would hide whom everybody chose.
    limits.streams_per_target = 16
    world = World(even(512, 16), 16, fixed(loads), apart=True, limits=limits)
    world.stale_ms = 300_000
    return world.run(20)


def most_chosen(world):
    """The most leaders that chose one target in the same round."""
    crowds = Counter((now_ms, m.target) for now_ms, plan in world.plans for m in plan.moves)
    return max(crowds.values())


def test_everybody_choosing_the_emptiest_from_stale_news(monkeypatch):
    whole = herd()
    assert whole.wrong == [] and most_chosen(whole) <= 5 and whole.overshoot() == 0.0

    def emptiest(self, eligible):
        return min(eligible, key=lambda state: (self.share(state), state.group), default=None)

    monkeypatch.setattr(planner.Workspace, "better_of_two", emptiest)
    broken = herd()
    assert most_chosen(broken) >= 8
    assert max(share for _, p in broken.plans for share in p.shares_before.values()) > 1.0


def restless(slot_cooldown_ms):
    limits = Limits()
    limits.slot_cooldown_ms = slot_cooldown_ms
    limits.failures = 10**9
    return chased(World(even(128, 4), 4, fixed([0.0] * 128), limits=limits)).run(60)


def test_slots_without_rest():
    assert restless(Limits().slot_cooldown_ms).wrong == []
    broken = restless(0)
    assert any(" s ago" in wrong for wrong in broken.wrong)


def slow_copies():
    loads = zipf(256, 8, 0.45, 0.8, 2)
    limits = Limits()
    # A job takes many rounds.
    limits.stream_bytes_s = 0.5 * MIB
    limits.bandwidth_bytes_s = 100.0 * MIB
    limits.streams_per_source = limits.streams_per_target = 8
    return World(even(256, 8), 8, fixed(loads), seed=2, limits=limits).run(40)


def test_load_under_way_forgotten(monkeypatch):
    whole = slow_copies()
    assert whole.wrong == [] and whole.moved_bytes() <= 2 * whole.least_bytes()
    monkeypatch.setattr(Accounts, "reserved", lambda self, now_ms: [])
    broken = slow_copies()
    assert broken.moved_bytes() > 2 * whole.least_bytes()
    assert len(broken.ended) > len(whole.ended)


def test_moves_that_never_help_without_verification(monkeypatch):
    assert chased(World(even(128, 4), 4, fixed([0.0] * 128))).run(120).accounts[0].stopped
    monkeypatch.setattr(Accounts, "verify", lambda self, now_ms, shares: None)
    broken = chased(World(even(128, 4), 4, fixed([0.0] * 128))).run(120)
    assert broken.accounts[0].stopped == "" and len(broken.ended) > 12


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_whoever_ignores_the_price_copies_too_much(seed, monkeypatch):
    # Load and size are unrelated, so whom one picks matters.
    dice_sizes = [(1 + (slot * 7919 + seed * 31) % 97) * MIB for slot in range(256)]
    loads = zipf(256, 4, 0.5, 0.5, seed)
    loads = [load * (1.5 if slot < 64 else 0.8) for slot, load in enumerate(loads)]

    def run():
        return World(even(256, 4), 4, fixed(loads), seed=seed, sizes=dice_sizes).run(30)

    whole = run()
    assert whole.moved_bytes() <= 2 * whole.least_bytes() and whole.wrong == []

    def largest_first(work, state, hottest):
        free = [s for s in state.slots if s is not hottest and work.movable(s.slot)]
        return sorted(free, key=lambda s: (-s.load.memory_bytes, s.slot))

    monkeypatch.setattr(planner, "choose_victims", largest_first)
    broken = run()
    assert broken.moved_bytes() > 2 * broken.least_bytes()
