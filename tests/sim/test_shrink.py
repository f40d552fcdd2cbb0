"""Shrinking keeps what fails, loses what does not matter, and stays within its budget."""

from __future__ import annotations

from jstyle.checkers.verdict import FALSE, TRUE
from jstyle.sim.runner import Result
from jstyle.sim.schedule import Plan
from jstyle.sim.shrink import Shrinker
from jstyle.sim.swarm import CLASSES, Draw, draw_plan

ALL = Draw(shape="5", classes=tuple(name for name in CLASSES if name != "membership"), safety_ms=30_000)


def planted(plan: Plan) -> Result:
    """Fails when a node is killed and a path is cut while client c1 works; otherwise when nothing strikes."""
    kinds = {strike.kind for strike in plan.strikes}
    names = {client.name for client in plan.clients}
    firsts = [min((s.at_ms for s in plan.strikes if s.kind == kind), default=0) for kind in ("kill", "cut")]
    result = Result(plan.seed, sim_ms=max(firsts) + 100)
    if {"kill", "cut"} <= kinds and "c1" in names:
        result.valid, result.invariant = FALSE, "R5"
    elif not plan.strikes:
        result.valid, result.invariant = FALSE, "P10"
    else:
        result.valid = TRUE
    return result


def failing() -> Plan:
    for seed in range(100):
        plan = draw_plan(seed, ALL)
        if planted(plan).invariant == "R5" and len(plan.strikes) > 8 and len(plan.clients) > 2:
            return plan
    raise AssertionError("no seed kills and cuts")


def test_finds_the_two_strikes_and_the_client() -> None:
    plan = failing()
    found = Shrinker(plan, planted(plan), planted).shrink()
    assert found.result.invariant == "R5"
    assert sorted(strike.kind for strike in found.plan.strikes) == ["cut", "kill"]
    assert [client.name for client in found.plan.clients] == ["c1"]
    assert found.plan.options.nodes == 1 and found.plan.clients[0].ops_max == 1
    assert set(found.plan.classes) <= {"kill", "partition"}
    assert found.plan.safety_ms <= max(strike.at_ms for strike in found.plan.strikes) + 100 < plan.safety_ms
    assert found.steps


def test_another_failure_is_not_taken() -> None:
    plan = failing()
    shrinker = Shrinker(plan, planted(plan), planted)
    bare = Plan(plan.seed, plan.options, clients=plan.clients)
    assert planted(bare).invariant == "P10"
    assert not shrinker.accept(bare)
    assert shrinker.best is plan


def test_budget_of_runs() -> None:
    plan = failing()
    runs: list[Plan] = []

    def counted(candidate: Plan) -> Result:
        runs.append(candidate)
        return planted(candidate)

    found = Shrinker(plan, planted(plan), counted, runs_max=7).shrink()
    assert found.runs == len(runs) == 7
    assert found.result.invariant == "R5"
    assert "budget" in found.steps[-1]


def test_budget_of_time() -> None:
    plan = failing()
    found = Shrinker(plan, planted(plan), planted, seconds_max=-1.0).shrink()
    assert found.runs == 0 and found.plan is plan
