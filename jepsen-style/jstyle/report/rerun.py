"""A stored simulation run once more, to see what its files do not keep: who led, who was down, what faults bit.

Rule: looks and changes nothing: samples are taken where the run looks at itself, and they count only when the run's
digest is the stored one, that is when it was the same run in every event (the caller compares).
"""

from __future__ import annotations

from typing import Any, Final

from jstyle.history.op import Op
from jstyle.report.model import Sample, Window
from jstyle.report.windows import of_strikes
from jstyle.sim.guard import no_real_world
from jstyle.sim.phases import Phases
from jstyle.sim.runner import prepared
from jstyle.sim.schedule import Plan
from jstyle.sim.timeline import MS, START_NS
from jstyle.sim.violation import Violation
from raft.types import ROLE_NAMES

_EVERY_NS: Final = 100 * MS
_AT_ONCE: Final = frozenset({"leader", "start", "end", "power-cut"})


class Watcher:
    """Implements Trace. ``samples`` are only what changed; ``struck`` are the strikes that bit."""

    def __init__(self, plan: Plan) -> None:
        self.samples: list[Sample] = []
        self.struck: list[dict[str, Any]] = []
        self.run: Phases | None = None
        self._classes = {strike.kind: strike.cls for strike in plan.strikes}
        self._last: dict[str, tuple[str, int, int]] = {}
        self._next_ns = 0

    def __call__(self, t_ns: int, kind: str, fields: tuple[object, ...]) -> None:
        if kind == "strike":
            name, target, for_ms = fields
            self.struck.append(
                {
                    "at_ms": (t_ns - START_NS) // MS,
                    "cls": self._classes.get(str(name), str(name)),
                    "kind": name,
                    "target": target,
                    "for_ms": for_ms,
                }
            )
        if self.run is not None and kind in _AT_ONCE:
            self.look(self.run, t_ns)

    def follow(self, run: Phases) -> None:
        """Look whenever the run checks its promises, which it does after every event, but not too often."""
        self.run = run
        check = run.promises.check

        def look_too() -> bool:
            now_ns = run.timeline.now_ns
            if now_ns >= self._next_ns:
                self._next_ns = now_ns + _EVERY_NS
                self.look(run, now_ns)
            return check()

        run.promises.check = look_too  # type: ignore[method-assign]

    def look(self, run: Phases, t_ns: int) -> None:
        """Take a sample of each node whose role, term or commit index moved."""
        for machine in run.machines():
            app = machine.app
            if app is None:
                if not machine.starts:
                    continue
                seen = ("down", self._last.get(machine.name, ("", 0, 0))[1], -1)
            else:
                core = app.driver.core
                role = ROLE_NAMES[core.role]
                seen = (role, core.term, core.log.commit)
            if self._last.get(machine.name) != seen:
                self._last[machine.name] = seen
                self.samples.append(Sample(t_ns - START_NS, machine.name, *seen))


class Seen:
    """What a run showed. ``broke`` is the id of the promise that broke and ``text`` how; ``digest`` names the run."""

    def __init__(self, watcher: Watcher, run: Phases, broke: str, text: str) -> None:
        self.samples = watcher.samples
        self.windows: list[Window] = of_strikes(watcher.struck, 0)
        self.histories: dict[str, list[Op]] = run.history.by_workload
        self.broke = broke
        self.text = text
        self.digest = run.timeline.digest()
        self.counts = {
            "events": run.timeline.events,
            "elections": sum(part.invariants.elections for part in run.parts),
            "commits": sum(part.shadow.commit for part in run.parts),
            "certificates": sum(part.invariants.certificates for part in run.parts),
        }


def again(plan: Plan) -> Seen:
    """Carry out the plan. A start that fails outright raises; what fails later is part of what is returned."""
    watcher = Watcher(plan)
    broke = text = ""
    with no_real_world():
        run = prepared(plan, watcher)
        watcher.follow(run)
        try:
            run.go()
        except Violation as error:
            broke, text = error.invariant, error.text
        except Exception as error:  # noqa: BLE001 - told to the reader as the promise that nothing crashes
            broke, text = f"CRASH:{type(error).__name__}", str(error)
    watcher.look(run, run.timeline.now_ns)
    return Seen(watcher, run, broke, text)
