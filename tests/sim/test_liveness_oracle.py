"""What the last phase still demands when a node of the healed core stops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jstyle.sim.liveness import Liveness
from jstyle.sim.machine import EXIT_BUG, EXIT_IO
from jstyle.sim.runner import Run
from jstyle.sim.schedule import Strike
from jstyle.sim.swarm import Draw, draw_plan
from jstyle.sim.timeline import SECOND
from jstyle.sim.violation import Violation
from jstyle.sim.witness_oracle import WitnessOracle


def run_with_a_stop(monkeypatch: pytest.MonkeyPatch, code: int, *, damaged: bool) -> Run:
    """A quiet run of three nodes in which one stops with ``code`` once the core was healed."""
    run = Run(draw_plan(11, Draw("3", ("rot",), (), 2000)))
    run.nemesis.plan.strikes.clear()
    await_leader = Liveness.await_leader

    def stop_one(self: Liveness) -> None:
        machine = self.core[-1]
        faults = machine.disk.faults
        assert faults is not None and not faults.medium_damaged()
        if damaged:
            faults.injected["bit-flip"] = 1
        machine._end(code, power_cut=False)
        await_leader(self)

    monkeypatch.setattr(Liveness, "await_leader", stop_one)
    run.go()
    return run


def test_a_node_that_stops_at_its_damage_ends_the_demands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run_with_a_stop(monkeypatch, EXIT_BUG, damaged=True).liveness.expected


@pytest.mark.parametrize(("code", "damaged"), [(EXIT_BUG, False), (EXIT_IO, True), (0, True)])
def test_any_other_stop_breaks_the_promise(monkeypatch: pytest.MonkeyPatch, code: int, damaged: bool) -> None:
    with pytest.raises(Violation, match="has no leader"):
        run_with_a_stop(monkeypatch, code, damaged=damaged)


def healed(*clogs: tuple[str, str]) -> Run:
    """A run of five nodes whose core of three was healed while paths were clogged and one cut."""
    run = Run(draw_plan(11, Draw("5", ("buggify",), (), 2000)))
    fabric = run.cluster.fabric
    run.cluster.wait_leader()
    for source, target in clogs:
        fabric.clog(source, target, 3600 * SECOND)
    fabric.swizzle([machine.name for machine in run.cluster.machines], 60 * SECOND)
    fabric.cut("n4", "n1")
    run.nemesis.heal([1, 2, 3])
    return run


def test_every_clog_ends_with_the_heal_also_outside_the_core() -> None:
    run = healed(("n4", "n1"), ("n5", "n4"), ("n2", "n3"))
    assert [link.clogs for link in run.cluster.fabric.links() if link.clogs] == []
    run.cluster.run(60_000)
    assert [(link.source, link.target) for link in run.cluster.fabric.links() if link.clogs] == []
    assert run.cluster.fabric.is_cut("n4", "n1"), "what is no passing fault of the core's stays"


def test_nodes_make_no_rare_choices_after_the_heal() -> None:
    run = healed()
    assert all(machine.buggify is not None and machine.buggify.calm for machine in run.cluster.machines)


def stalled(held: list[int]) -> Liveness:
    """A core that never gets level, whose logs grow as told from look to look."""
    run = Run(draw_plan(11, Draw("3", (), (), 2000)))
    liveness = run.liveness
    looks = iter(held)
    liveness._level = lambda: False  # type: ignore[method-assign]

    def apps() -> list[Any]:
        core = SimpleNamespace(log=SimpleNamespace(last=next(looks)))
        return [
            SimpleNamespace(
                driver=SimpleNamespace(core=core), engine=SimpleNamespace(applier=SimpleNamespace(applied=0))
            )
        ]

    liveness._apps = apps  # type: ignore[method-assign]
    return liveness


def test_a_slow_node_may_take_long_but_not_stand_still() -> None:
    growing = [1, 2, 5, 9, 9, 50]
    liveness = stalled(growing)
    began_ns = liveness.cluster.timeline.now_ns
    assert not liveness._catches_up()
    waited_s = (liveness.cluster.timeline.now_ns - began_ns) / SECOND
    assert 74 <= waited_s <= 76, "five looks: the fifth sees what the fourth saw"


def test_a_stop_that_was_asked_for_before_the_heal_is_no_fault_after_it() -> None:
    run = Run(draw_plan(11, Draw("3", (), (), 2000)))
    run.cluster.wait_leader()
    machine = run.cluster.machine(2)
    run.nemesis.strike(Strike(0, "kill", "stop", "2", 1000))
    machine.pause()
    run.nemesis.heal([1, 2, 3])
    assert machine.app is not None
    run.cluster.run(20_000, run.invariants.check)
    assert (machine.exits, machine.starts, machine.running) == ([0], 2, True)


def test_a_stop_outside_the_core_is_for_good() -> None:
    run = Run(draw_plan(11, Draw("3", (), (), 2000)))
    run.cluster.wait_leader()
    machine = run.cluster.machine(3)
    run.nemesis.strike(Strike(0, "kill", "stop", "3", 1000))
    run.nemesis.heal([1, 2])
    run.cluster.run(20_000, run.invariants.check)
    assert (machine.starts, machine.running) == (1, False)


def test_a_membership_that_cannot_be_committed_any_more_counts_nobody() -> None:
    run = Run(draw_plan(11, Draw("3", (), (), 2000)))
    liveness = run.liveness
    run.shadow.terms += [1, 1, 2, 2]

    def app(conf_index: int, term: int) -> Any:
        log = SimpleNamespace(term=lambda index: term, first_index=lambda: 1)
        return SimpleNamespace(node=SimpleNamespace(core=SimpleNamespace(conf_index=conf_index, log=log)))

    assert [liveness._may_come(app(*one), 1) for one in ((1, 1), (3, 2), (3, 1), (9, 1))] == [False, True, False, True]


def beside_a_witness(monkeypatch: pytest.MonkeyPatch, *, leader_stays: bool) -> Run:
    """A quiet run of two full nodes and a witness; one of them is gone in the end, and the oracle lets nobody lead."""
    run = Run(draw_plan(11, Draw("2+w", (), ("set",), 2000)))
    run.plan.rest_gone = True
    heal = run.nemesis.heal

    def heal_one(core: list[int]) -> None:
        leader = run.cluster.leader()
        assert leader is not None
        others = [machine.node_id for machine in run.cluster.machines if machine is not leader]
        core[:] = [leader.node_id] if leader_stays else others
        run.liveness.core = [run.cluster.machine(core[0])]
        heal(core)

    monkeypatch.setattr(run.nemesis, "heal", heal_one)
    monkeypatch.setattr(WitnessOracle, "may_serve", lambda self, apps: False)
    run.plan.core = [1]
    run.go()
    return run


def test_whom_the_record_bars_must_not_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Violation, match="may lack what the others held") as found:
        beside_a_witness(monkeypatch, leader_stays=False)
    assert found.value.invariant == "P6"


def test_a_leader_of_before_is_no_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    run = beside_a_witness(monkeypatch, leader_stays=True)
    assert not run.liveness.expected and run.liveness.barred
