"""What the last phase still demands when a node of the healed core stops."""

from __future__ import annotations

import pytest

from jstyle.sim.liveness import Liveness
from jstyle.sim.machine import EXIT_BUG, EXIT_IO
from jstyle.sim.runner import Run
from jstyle.sim.swarm import Draw, draw_plan
from jstyle.sim.violation import Violation


def run_with_a_stop(monkeypatch: pytest.MonkeyPatch, code: int, *, damaged: bool) -> Run:
    """A quiet run of three nodes in which one stops with ``code`` once the core was healed."""
    run = Run(draw_plan(11, Draw("3", ("rot",), (), 2000)))
    run.nemesis.plan.strikes.clear()
    await_leader = Liveness._await_leader

    def stop_one(self: Liveness) -> None:
        machine = self.core[-1]
        faults = machine.disk.faults
        assert faults is not None and not faults.medium_damaged()
        if damaged:
            faults.injected["bit-flip"] = 1
        machine._end(code, power_cut=False)
        await_leader(self)

    monkeypatch.setattr(Liveness, "_await_leader", stop_one)
    run.go()
    return run


def test_a_node_that_stops_at_its_damage_ends_the_demands(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not run_with_a_stop(monkeypatch, EXIT_BUG, damaged=True).liveness.expected


@pytest.mark.parametrize(("code", "damaged"), [(EXIT_BUG, False), (EXIT_IO, True), (0, True)])
def test_any_other_stop_breaks_the_promise(monkeypatch: pytest.MonkeyPatch, code: int, damaged: bool) -> None:
    with pytest.raises(Violation, match="has no leader"):
        run_with_a_stop(monkeypatch, code, damaged=damaged)
