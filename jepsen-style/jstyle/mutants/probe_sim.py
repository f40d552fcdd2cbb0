"""The simulator as a probe: one drawn run per seed.

Rule: what is fixed (shape, classes of faults, workloads, length) is part of the probe's name, so that its twin runs the
very same plans. It must not know invariants; it hands on the id that a run ended with.
"""

from __future__ import annotations

from typing import Final

from jstyle.checkers.verdict import FALSE
from jstyle.mutants.probes import Sighting
from jstyle.sim.judge import judge_with
from jstyle.sim.runner import HARNESS, run
from jstyle.sim.swarm import Draw, draw_plan

_JUDGE_S: Final = 5.0


class SimProbe:
    """``classes`` None: drawn from the seed. ``judged``: the history checkers have their say too. ``always`` names
    buggify sites that fire whenever they are asked; ``small_batches``: what moves between groups goes a few keys at a
    time.
    """

    def __init__(
        self,
        shape: str = "3",
        classes: tuple[str, ...] | None = None,
        workloads: tuple[str, ...] = (),
        safety_ms: int = 20_000,
        *,
        judged: bool = False,
        always: tuple[str, ...] = (),
        small_batches: bool = False,
    ) -> None:
        self.draw = Draw(shape, classes, workloads, safety_ms)
        self.judged = judged
        faults = "any" if classes is None else ",".join(classes) or "none"
        checked = " judged" if judged else ""
        self.always = always
        self.small_batches = small_batches
        often = f" always {','.join(always)}" if always else ""
        often += " in small batches" if small_batches else ""
        self.name = f"sim {shape or 'any'} {faults} {','.join(workloads) or 'any'} {safety_ms} ms{checked}{often}"

    def run(self, seed: int) -> list[Sighting]:
        plan = draw_plan(seed, self.draw)
        plan.options.buggify_always = self.always
        plan.options.small_batches = plan.options.small_batches or self.small_batches
        result = run(plan, judge_with(plan, _JUDGE_S) if self.judged else None)
        if result.valid == FALSE:
            return [Sighting(result.invariant, f"seed {seed}: {result.text}", self._repeat(seed))]
        if result.invariant == HARNESS:
            return [Sighting(HARNESS, f"seed {seed}: {result.text}", self._repeat(seed))]
        return []

    def _repeat(self, seed: int) -> str:
        # The command line cannot force these; there the mutant's own line repeats the run.
        return "" if self.always or self.small_batches else self.draw.command(seed)
