"""The embedded holder in the simulator: whatever fails, its answers are those of one register."""

from __future__ import annotations

import pytest

from jstyle.sim.disk_crash import CrashPolicy
from jstyle.sim.guard import no_real_world
from raft.primary_backup.messages import Outcome, Reason
from tests.holder.holder_histories import SCENARIOS, founded, history, led
from tests.holder.holder_world import MEMBERS, NODES, SHARD


def test_calls_are_answered_wherever_the_leader_is():
    world = founded()
    for node in NODES:
        config = world.settled(node)
        assert config is not None and (config.epoch, config.primary, config.isr) == (1, 1, (1, 2))
    assert world.ask(2, world.create(2)).outcome == Outcome.OK
    config = world.settled(2)
    answer = world.ask(1, world.change(1, config))
    assert answer.outcome == Outcome.OK and answer.config.epoch == 2
    late = world.ask(2, world.change(2, config))
    assert (late.outcome, late.reason, late.config.epoch) == (Outcome.REFUSED, Reason.EPOCH, 2)
    world.judge()
    health = world.machines[4].client.health()
    assert health.leader == world.leader().id and health.trouble == "" and health.answered == 2 and health.own is None
    own = world.machines[1].client.health().own
    assert own.member_id == 1 and own.leader == health.leader and len(own.connected) == 2
    assert dict(world.machines[1].client.health().rows())["holder_member_connected"] in ("2,9", "1,9")


def test_a_shard_nobody_created_is_missing():
    world = led()
    world.run(500)
    answer = world.ask(4, world.read(4))
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, Reason.MISSING)


def test_without_a_majority_nothing_is_promised():
    world = founded()
    leader = world.leader()
    others = [world.machines[i] for i in MEMBERS if world.machines[i] is not leader]
    world.fabric.partition([leader.name, "m4"], [one.name for one in others])
    seen = leader.member.register.shard(SHARD)
    assert world.ask(4, world.change(4, seen)).outcome == Outcome.UNKNOWN
    # Once the leader has noticed, nobody takes the call, and that is certain.
    world.run(3000)
    answers = [world.ask(4, world.change(4, seen)) for _ in range(4)]
    assert (answers[-1].outcome, answers[-1].reason) == (Outcome.REFUSED, Reason.NOT_SENT)
    assert all(answer.outcome != Outcome.OK for answer in answers)
    assert "reach" in world.machines[4].client.health().trouble or "led" in world.machines[4].client.health().trouble
    world.fabric.heal()
    assert world.settled(4) is not None
    world.judge()


def test_a_dead_leader_is_replaced_and_nothing_is_forgotten():
    world = founded()
    for _ in range(4):
        config = world.settled(4)
        leader = world.leader()
        caller = next(node for node in (1, 2) if leader.id != node)
        if caller in config.isr:
            assert world.ask(caller, world.change(caller, config)).outcome == Outcome.OK
        after = world.settled(4)
        leader.crash()
        assert world.settled(4) == after
        assert world.run(10_000, leader.alive)
    world.judge()


@pytest.mark.slow
def test_histories_under_faults_are_those_of_one_register():
    total: dict[str, int] = {}
    cuts = crashes = 0
    with no_real_world():
        for seed in range(25):
            world, counts = history(seed)
            cuts += world.cuts
            crashes += world.crashes
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
    assert cuts > 12 and crashes > 30, (cuts, crashes)
    assert total["changed"] > 300 and total["refused"] > 300 and total["read"] > 300, total
    assert total["unknown"] > 100 and total["not sent"] > 50, total


def test_the_same_seed_is_the_same_run():
    with no_real_world():
        first, second, other = history(3, 80)[0], history(3, 80)[0], history(4, 80)[0]
    assert first.timeline.digest() == second.timeline.digest() != other.timeline.digest()


def test_a_power_cut_at_any_disk_call_of_a_start_loses_nothing():
    with no_real_world():
        for calls in range(24):
            world = founded(2)
            world.policy = [CrashPolicy("nothing"), CrashPolicy("any-subset", 0.5, 0.5), None][calls % 3]
            config = world.settled(4)
            machine = world.machines[(1, 2, 9)[calls % 3]]
            machine.crash()
            machine.disk.cut_after = calls
            assert world.run(10_000, machine.alive)
            world.run(3000)
            machine.disk.cut_after = -1
            assert world.run(10_000, machine.alive)
            world.run(1500)
            assert world.settled(4) == config
            world.judge()


@pytest.mark.parametrize("scenario", SCENARIOS[:-1])
def test_what_random_histories_meet_too_seldom(scenario):
    with no_real_world():
        for seed in range(4):
            scenario(seed)
