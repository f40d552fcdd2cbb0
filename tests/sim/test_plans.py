"""A seed number means the same run as ever while its shape is the same; what a witness needs is drawn apart from it."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from jstyle.sim.judge import clocks_apart_ms
from jstyle.sim.schedule import Plan, Strike, plan_json
from jstyle.sim.swarm import CLASSES, SHAPES, Draw, draw_plan
from jstyle.sim.swarm_groups import GROUP_CLASSES, GROUP_KINDS, GROUP_SHAPES
from jstyle.sim.swarm_witness import WITNESS_CLASSES, WITNESS_KINDS, WITNESS_SHAPES, shape_of
from jstyle.sim.witness_host import KINDS
from jstyle.sim.workloads.slotted import SLOTTED

# Of the plans of seeds 0 to 99, without the fields that only a witness fills. A change here gives every stored seed
# number another meaning: draw what is new from a stream of its own instead.
GOLDEN = {
    "1": "85af22f664f0f9d2",
    "3": "daa8bfc025881773",
    "5": "0044f5d03a496d2f",
}
_WITNESS_FIELDS = ("core_witness", "rest_gone")


def digest(shape: str) -> str:
    found = sha256()
    for seed in range(100):
        data = plan_json(draw_plan(seed, Draw(shape)))
        assert data["options"].pop("witness") == ""
        assert (data["options"].pop("groups"), data["options"].pop("small_batches")) == (0, False)
        assert [data["options"].pop(name) for name in ("lease", "arbiter", "beyond_bound")] == [False, False, False]
        # Drawn apart too.
        if data["options"].pop("checkpoints"):
            data["classes"].remove("checkpoints")
        assert [data.pop(name) for name in _WITNESS_FIELDS] == [True, False]
        found.update(json.dumps(data, sort_keys=True).encode())
    return found.hexdigest()[:16]


@pytest.mark.parametrize("shape", GOLDEN)
def test_plans_without_a_witness_are_what_they_were(shape: str) -> None:
    assert digest(shape) == GOLDEN[shape]


def test_a_share_of_the_seeds_has_a_witness() -> None:
    shapes = [shape_of(seed) for seed in range(400)]
    assert 80 < len([shape for shape in shapes if shape]) < 160
    assert shapes.count("2+w") > shapes.count("4+w") > 20
    for seed, shape in enumerate(shapes[:60]):
        options = draw_plan(seed).options
        assert bool(options.witness) is bool(shape)
        assert options.nodes == SHAPES[shape] if shape else options.nodes in (1, 3, 5)


@pytest.mark.parametrize("shape", WITNESS_SHAPES)
def test_plans_with_a_witness(shape: str) -> None:
    plans = [draw_plan(seed, Draw(shape)) for seed in range(200)]
    assert {plan.options.witness for plan in plans} == set(KINDS)
    assert not any("rot" in plan.classes for plan in plans), "one copy may be all there is"
    nodes = SHAPES[shape]
    quorum = (nodes + 1) // 2 + 1
    steady = [plan for plan in plans if "membership" not in plan.classes]
    assert all(plan.core_witness or len(plan.core) >= quorum for plan in steady)
    assert {len(plan.core) for plan in steady} == {quorum - 1, quorum, nodes}
    assert {plan.rest_gone for plan in steady} == {True, False}
    careful = [plan for plan in plans if plan.options.directives.get("min-data-copies") == "2"]
    assert 20 < len(careful) < 120 and all(len(plan.core) != 1 for plan in careful)
    for name in WITNESS_CLASSES:
        assert 10 < sum(name in plan.classes for plan in plans) < 150
    assert any(not plan.classes for plan in plans)
    assert any(len(plan.classes) == len(CLASSES) - 1 + len(WITNESS_CLASSES) for plan in plans)


def test_every_kind_of_strike_on_a_witness_is_drawn_and_no_other() -> None:
    plans = [draw_plan(seed, Draw("2+w", WITNESS_CLASSES)) for seed in range(60)]
    found = {(strike.cls, strike.kind) for plan in plans for strike in plan.strikes}
    assert found == {(cls, kind) for cls in WITNESS_KINDS for kind in WITNESS_KINDS[cls]}
    assert all(sum(s.cls == "witness-loss" for s in plan.strikes) <= 2 for plan in plans)
    assert [plan.strikes for plan in plans] == [sorted(p.strikes, key=lambda s: s.at_ms) for p in plans]


def test_classes_of_a_witness_mean_nothing_without_one() -> None:
    assert draw_plan(1, Draw("3", ("kill", "witness"))) == draw_plan(1, Draw("3", ("kill",)))


def test_plans_of_several_groups() -> None:
    plans = [draw_plan(seed, Draw("groups")) for seed in range(200)]
    assert {(plan.options.groups, plan.options.nodes) for plan in plans} == set(GROUP_SHAPES.values()) - {(0, 0)}
    for plan in plans:
        assert "moves" in plan.classes
        assert not {"rot", "wan"} & set(plan.classes)
        assert plan.options.spares == (2 if "membership" in plan.classes else 0)
        assert ("cluster-databases" in plan.options.directives) == ("flush" in plan.classes)
        assert plan.strikes == sorted(plan.strikes, key=lambda strike: strike.at_ms)
        size = plan.options.nodes
        if "membership" in plan.classes:
            assert size > 1 and not plan.core
            continue
        for group in range(plan.options.groups):
            mine = [node for node in plan.core if group * size < node <= (group + 1) * size]
            assert len(mine) > size // 2
    for name in GROUP_CLASSES:
        assert sum(name in plan.classes for plan in plans) > 10
    assert {"append"} < {client.workload for plan in plans for client in plan.clients} <= set(SLOTTED)
    kinds = {(strike.cls, strike.kind) for plan in plans for strike in plan.strikes if strike.cls in GROUP_KINDS}
    assert kinds == {(cls, kind) for cls in GROUP_KINDS for kind in GROUP_KINDS[cls]}


def test_clocks_that_traps_set_are_reckoned_with() -> None:
    plan = Plan(1, strikes=[])
    calm_ms = clocks_apart_ms(plan)
    for what, more_ms in (("kill", 0), ("disk-hang", 0), ("clock-step", 5000)):
        plan.strikes = [Strike(1, "points", "trap", params={"what": what, "ms": -5000})]
        assert clocks_apart_ms(plan) == calm_ms + more_ms
    plan.strikes = [Strike(1, "clock", "clock-step", params={"ms": 700})]
    assert clocks_apart_ms(plan) == calm_ms + 700


def test_no_seed_without_a_named_shape_has_several_groups() -> None:
    assert not any(draw_plan(seed).options.groups for seed in range(200))
    assert draw_plan(1, Draw("3", ("kill", "moves", "points"))) == draw_plan(1, Draw("3", ("kill",)))
