"""Lease mode as whole nodes: clocks at their bound keep every promise, clocks beyond it show old reads and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jstyle.checkers.verdict import FALSE, TRUE, Verdict
from jstyle.sim.client import ClientPlan
from jstyle.sim.judge import judge_with
from jstyle.sim.lease_invariants import OVERLAPS, LeaseInvariants, serves
from jstyle.sim.machine import Machine
from jstyle.sim.runner import Run, run, run_and_keep
from jstyle.sim.schedule import Plan, Strike, plan_json, plan_of
from jstyle.sim.swarm import Draw, draw_plan
from jstyle.sim.swarm_lease import ARBITER, BEYOND_PPM, BOUND_PPM, DRIFT, LEASE_SHAPES
from jstyle.sim.violation import Violation
from raft.primary_backup import leases
from raft.primary_backup.core import PrimaryBackup
from raft.primary_backup.types import ShardConfig
from raft.types import Role

ROOT = Path(__file__).resolve().parents[2]
SECOND_MS = 1000
FAULTS = ("kill", "power", "pause", "partition", "disk-slow", "clock", "skew")

REPLACES = pytest.mark.skipif(
    not (leases.__file__ or "").endswith(".py"), reason="what is compiled cannot be replaced: run interpreted"
)


def whole(shape: str, seed: int, classes: tuple[str, ...], ms: int = 8000) -> Run:
    """A run that is true, judged by everybody."""
    plan = draw_plan(seed, Draw(shape, classes, ("register", "append"), ms))
    result, current = run_and_keep(plan, judge_with(plan))
    assert (result.valid, result.invariant, result.text, result.why) == (TRUE, "", "", [])
    assert result.commits > 20 and result.certificates > 10 and result.lease["served"] >= 1
    assert isinstance(current, Run)
    return current


@pytest.mark.parametrize(("shape", "seed"), [("lease", 3), ("lease", 5), ("lease-2", 1), ("lease-2", 4)])
def test_faults_break_no_promise(shape: str, seed: int) -> None:
    current = whole(shape, seed, (*FAULTS, ARBITER))
    assert isinstance(current.invariants, LeaseInvariants)
    assert current.invariants.counts["epochs"] >= 2 and sum(current.nemesis.injected.values()) >= 2


def test_without_faults_one_primary_serves_all_the_time() -> None:
    current = whole("lease", 3, (), 3 * SECOND_MS)
    assert current.liveness.nodes() == [1, 2, 3]
    assert isinstance(current.invariants, LeaseInvariants)
    assert (current.invariants.counts["promotions"], current.invariants.counts["put out"]) == (0, 0)
    config = current.invariants.holder.config
    assert config is not None and config.isr == (1, 2, 3)


# ---- Clocks ----------------------------------------------------------------------------------------------------------


def clocks_apart(seed: int, slow_ppm: int, fast_ppm: int, *, beyond: bool) -> Plan:
    """A primary with a slow clock and members with fast ones; it is cut off from them, and its clients stay.

    Leases last longer than an election of the config holder's group, which may have been led from there.
    """
    plan = draw_plan(seed, Draw("lease", (DRIFT,) if beyond else (), ("register",), 9 * SECOND_MS))
    plan.options.directives |= {"lease-duration-ms": "3000", "lease-grace-ms": "4500"}
    plan.clients = [ClientPlan(f"c{n}", "register", n % 3 + 1, 30, 4000) for n in range(6)]
    plan.strikes = [
        Strike(500, "clock", "clock-rate", "all", 0, {"ppm": fast_ppm}),
        Strike(501, "clock", "clock-rate", "leader", 0, {"ppm": slow_ppm}),
        Strike(2500, "partition", "cut", "leader", 6000, {"shape": "isolate"}),
    ]
    plan.core = [1, 2, 3]
    return plan


def linear(current: Run, plan: Plan) -> list[Verdict]:
    return judge_with(plan)("register", current.history.by_workload["register"])


def test_clocks_beyond_the_bound_show_old_reads_and_lose_no_write() -> None:
    seen: list[str] = []
    for seed in range(1, 7):
        plan = clocks_apart(seed, 1_000_000 - BEYOND_PPM, 1_000_000 + BEYOND_PPM, beyond=True)
        result, current = run_and_keep(plan, judge_with(plan))
        # The invariants of writes and the last reads hold; histories are not judged, because reads may be old.
        assert (result.valid, result.invariant, result.text) == (TRUE, "", "")
        assert isinstance(current, Run) and result.lease["promotions"] >= 1
        assert 1 <= result.lease[OVERLAPS] < 10, "L4: the model could not show an overlap"
        seen += [verdict.valid for verdict in linear(current, plan)]
        if FALSE in seen:
            return
    raise AssertionError(f"nobody saw an old read: {seen}")


def test_clocks_at_the_bound_keep_every_promise() -> None:
    plan = clocks_apart(1, 1_000_000 - BOUND_PPM, 1_000_000 + BOUND_PPM, beyond=False)
    result, current = run_and_keep(plan, judge_with(plan))
    assert (result.valid, result.invariant, result.text) == (TRUE, "", "")
    assert isinstance(current, Run) and result.lease["promotions"] >= 1 and OVERLAPS not in result.lease
    assert [verdict.valid for verdict in linear(current, plan)] == [TRUE]


# ---- What is noticed -------------------------------------------------------------------------------------------------


class World:
    """Three nodes in sync under a primary, and what watches them."""

    def __init__(self, seed: int = 4, lease_ms: int = 1000, **options: bool) -> None:
        plan = draw_plan(seed, Draw("lease", (), ("register",), SECOND_MS))
        plan.options.directives |= {"lease-duration-ms": str(lease_ms), "lease-grace-ms": str(lease_ms * 3 // 2)}
        for name, value in options.items():
            setattr(plan.options, name, value)
        self.run = Run(plan)
        assert isinstance(self.run.invariants, LeaseInvariants)
        self.judge = self.run.invariants
        self.cluster = self.run.cluster
        self.until(self.settled)
        self.pass_ms(2000)
        leader = self.cluster.leader()
        assert leader is not None
        self.primary = leader
        self.others = [machine for machine in self.cluster.machines if machine is not leader]

    def settled(self) -> bool:
        leader, config = self.cluster.leader(), self.judge.holder.config
        serving = leader is not None and leader.app is not None and serves(leader.app)
        return serving and config is not None and config.isr == (1, 2, 3)

    def until(self, condition: Callable[[], bool], ms: int = 30_000) -> None:
        assert self.run.wait(ms, condition), self.run.liveness.picture()

    def pass_ms(self, ms: int) -> None:
        self.run.wait(ms)

    def core(self, machine: Machine) -> PrimaryBackup:
        assert machine.app is not None
        return self.judge.lease_core(machine.app)

    def broken(self, invariant: str, text: str = "", ms: int = 3000) -> None:
        with pytest.raises(Violation, match=rf"^{invariant}: .*{text}"):
            self.pass_ms(ms)

    def changed(self, **fields: object) -> ShardConfig:
        """The configuration in force, as another one after it."""
        now = self.judge.holder.config
        assert now is not None
        parts = {
            "epoch": now.epoch + 1, "primary": now.primary, "isr": now.isr, "learners": now.learners,
            "min_isr": now.min_isr, **fields,
        }  # fmt: skip
        return ShardConfig(now.shard, **parts)  # type: ignore[arg-type]


def test_two_that_would_serve_at_once() -> None:
    world = World()
    core = world.core(world.others[0])
    core.role, core.counted, core.promise_over = Role.LEADER, [], True
    core.isr = (core.id,)
    core.holder_ack_ns = core.now_ns
    with pytest.raises(Violation, match=r"^L1: .* would serve"):
        world.judge._check_offices()


def test_reliance_on_a_promise_that_is_over() -> None:
    world = World()
    world.core(world.others[1]).promise_over = True
    world.broken("L1", "relying on")
    lenient = World(beyond_bound=True)
    lenient.core(lenient.others[1]).promise_over = True
    lenient.pass_ms(100)
    assert lenient.judge.counts[OVERLAPS] == 1


@REPLACES
def test_serving_without_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    monkeypatch.setattr(leases, "missing", lambda r: "" if r.role == Role.LEADER else "not in office")
    for other in world.others:
        other.pause()
    world.broken("L2", "without a lease")


def test_serving_before_the_own_promise_is_over() -> None:
    world = World()
    office = world.judge.offices[world.primary.number - 1]
    office.served = False
    world.core(world.primary).promised_ns = world.core(world.primary).now_ns
    world.broken("L3", "before its promise is over")


@REPLACES
def test_taking_the_own_pause_for_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    # Longer than the config holder needs to elect.
    world = World(lease_ms=3000)
    monkeypatch.setattr(leases, "_was_paused", lambda r: None)
    # Nobody is started again.
    world.run.nemesis.frozen = True
    other = world.others[0]
    # Nothing waits in its sockets when it wakes.
    world.cluster.fabric.cut(world.primary.name, other.name)
    other.pause()
    world.pass_ms(2400)
    # It is in sync until its lease is over, and the first whose patience ends.
    world.primary.crash()
    world.pass_ms(200)
    other.resume()
    world.broken("PauseIsNotSilence", "after a pause", 6000)


def test_a_promotion_from_outside_and_an_epoch_left_out() -> None:
    world = World()
    other = world.others[0].node_id
    without = tuple(node for node in (1, 2, 3) if node != other)
    before = world.changed(epoch=7, isr=without, learners=(other,))
    now = world.changed(epoch=8, primary=other, isr=(1, 2, 3))
    with pytest.raises(Violation, match=r"^PromoteOnlyISR: "):
        world.judge._in_force(before, now)
    with pytest.raises(Violation, match=r"^HolderMonotone: "):
        world.judge._in_force(before, world.changed(epoch=9, isr=without, learners=(other,)))


def test_a_member_in_sync_that_lacks_what_is_committed() -> None:
    world = World()
    watch = world.judge.by_id[world.others[0].node_id]
    watch.durable.terms[-1] += 1
    world.judge._prepared = (0, 0)
    with pytest.raises(Violation, match=r"^R7: PreparedSuperset"):
        world.judge._check_prepared()


def test_a_primary_that_counts_too_few() -> None:
    world = World()
    world.core(world.primary).isr = (world.primary.node_id,)
    world.broken("EffectiveCovers", ms=100)


def test_an_epoch_of_an_earlier_run_and_one_that_nobody_gave() -> None:
    world = World()
    core = world.core(world.primary)
    world.judge.runs[core.term] -= 1
    watch = world.judge.by_id[world.primary.node_id]
    watch.role = Role.FOLLOWER
    assert watch.app is not None
    with pytest.raises(Violation, match=r"^NoResume: "):
        world.judge._moved(watch, watch.app)
    world = World()
    world.core(world.others[0]).term += 5
    world.broken("R1", "before the holder")


def test_a_commit_on_fewer_than_are_demanded() -> None:
    world = World()
    watch = world.judge.by_id[world.primary.node_id]
    assert watch.app is not None
    with pytest.raises(Violation, match=r"^FailClosed: "):
        world.judge._certify(watch, watch.app, 900, 2)


# ---- The run ---------------------------------------------------------------------------------------------------------


def digests_of_another_process(hash_seed: str) -> list[str]:
    code = (
        "from jstyle.sim.runner import run\n"
        "from jstyle.sim.swarm import Draw, draw_plan\n"
        "for seed, shape in ((5, 'lease'), (2, 'lease-2')):\n"
        "    result = run(draw_plan(seed, Draw(shape, ('kill', 'partition', 'checkpoints'), safety_ms=2000)))\n"
        "    print(seed, result.event, result.digest, result.invariant)\n"
    )
    path = os.pathsep.join((str(ROOT), str(ROOT / "jepsen-style")))
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.slow
def test_processes_with_other_hashes_agree() -> None:
    first, second = digests_of_another_process("1"), digests_of_another_process("2")
    assert first == second and len(first) == 2
    assert all(line.endswith(" ") for line in first), first


@pytest.mark.parametrize("shape", sorted(LEASE_SHAPES))
def test_plans_travel_and_stay_within_the_bound(shape: str) -> None:
    for seed in range(20):
        plan = draw_plan(seed, Draw(shape))
        assert plan_of(plan_json(plan)) == plan and not plan.options.beyond_bound
        rates = [int(strike.params["ppm"]) for strike in plan.strikes if strike.kind == "clock-rate"]
        assert all(abs(rate - 1_000_000) <= BOUND_PPM for rate in (*rates, *plan.options.clock.rate_ppm))
        assert not {"rot", "membership", DRIFT} & set(plan.classes)
        assert any(strike.cls == ARBITER for strike in plan.strikes) == (ARBITER in plan.classes)
        assert plan.core and plan.rest_gone


def test_a_core_without_an_in_sync_member_serves_nobody() -> None:
    plan = draw_plan(2, Draw("lease-2", (), ("register",), 6 * SECOND_MS))
    plan.core = [2]
    # The one that stays has been away since the beginning.
    plan.strikes = [Strike(100, "kill", "kill", "2", 60_000)]
    plan.clients = [ClientPlan("c0", "register", 1, 50)]
    result, current = run_and_keep(plan)
    assert isinstance(current, Run)
    assert (result.invariant, current.liveness.expected, current.liveness.barred) == (
        "", False, "no in-sync member is left",
    )  # fmt: skip
    assert not current.cluster.leader_serves()


def test_the_arbiter_is_one_of_three_voices() -> None:
    plan = draw_plan(1, Draw("lease-2", (ARBITER,), ("register",), 2 * SECOND_MS))
    current = Run(plan)
    arbiter = current.cluster.arbiter
    assert arbiter is not None and list(current.cluster.holder_members) == [1, 2, 101]
    assert arbiter.name in current.cluster.peer_names()
    result = run(plan)
    assert (result.invariant, result.text) == ("", "")
    assert any(name.startswith("arbiter/") for name in result.injected)
