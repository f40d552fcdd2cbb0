"""Makes a failing plan small: on its data, never on the dice.

Order: cut the time after the failing event, drop whole classes of faults, then single strikes, then clients and their
operations, then nodes, then randomness of delays. Rule: a candidate is taken only when the same invariant fails; the
budget of runs and seconds is never exceeded. It must not know invariants beyond their ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from jstyle.sim.client import ClientPlan
from jstyle.sim.disk import DiskOptions
from jstyle.sim.net import NetOptions
from jstyle.sim.runner import Result
from jstyle.sim.schedule import Plan, Strike

RUNS_MAX: Final = 200
SECONDS_MAX: Final = 60.0

T = TypeVar("T")
Runner = Callable[[Plan], Result]


@dataclass
class Shrunk:
    """The smallest failing plan found, its result, and what it took. ``steps`` says in words what each stage won."""

    plan: Plan
    result: Result
    runs: int
    seconds: float
    steps: list[str]


class OutOfBudget(Exception):
    """No more runs."""


class Shrinker:
    """One search; ``best`` is always a plan that fails with ``invariant``."""

    def __init__(
        self, plan: Plan, result: Result, run: Runner, runs_max: int = RUNS_MAX, seconds_max: float = SECONDS_MAX
    ) -> None:
        self.best = plan
        self.result = result
        self.invariant = result.invariant
        self.runs = 0
        self.steps: list[str] = []
        self._run = run
        self._runs_max = runs_max
        self._began_s = time.monotonic()
        self._seconds_max = seconds_max

    def shrink(self) -> Shrunk:
        """Go through all stages while the budget lasts."""
        stages: tuple[tuple[str, Callable[[], None]], ...] = (
            ("time", self._cut_time),
            ("classes", self._drop_classes),
            ("strikes", self._drop_strikes),
            ("clients", self._drop_clients),
            ("operations", self._drop_operations),
            ("nodes", self._fewer_nodes),
            ("constants", self._constants),
            ("strikes again", self._drop_strikes),
            ("time again", self._cut_time),
        )
        try:
            for name, stage in stages:
                before = _size(self.best)
                stage()
                if _size(self.best) != before:
                    self.steps.append(f"{name}: {before} -> {_size(self.best)}")
        except OutOfBudget:
            self.steps.append("the budget was used up")
        return Shrunk(self.best, self.result, self.runs, time.monotonic() - self._began_s, self.steps)

    def accept(self, candidate: Plan) -> bool:
        """Run a candidate; it becomes the best when the same invariant fails. Raises OutOfBudget."""
        if self.runs >= self._runs_max or time.monotonic() - self._began_s > self._seconds_max:
            raise OutOfBudget
        self.runs += 1
        result = self._run(candidate)
        if result.invariant != self.invariant:
            return False
        self.best, self.result = candidate, result
        return True

    # -- stages --------------------------------------------------------------------------------------------------------

    def _cut_time(self) -> None:
        """Nothing that would come after the failure is needed; try to fail in less time still."""
        plan = self.best
        # Clients begin once there is a leader; the failing instant is later than their clock says.
        fails_ms = self.result.sim_ms
        if fails_ms < plan.safety_ms:
            self.accept(replace(plan, safety_ms=fails_ms, strikes=[s for s in plan.strikes if s.at_ms <= fails_ms]))
        for part in (0.5, 0.75):
            short_ms = int(self.best.safety_ms * part)
            strikes = [s for s in self.best.strikes if s.at_ms <= short_ms]
            self.accept(replace(self.best, safety_ms=short_ms, strikes=strikes))

    def _drop_classes(self) -> None:
        for name in list(self.best.classes):
            plan = deepcopy(self.best)
            plan.classes = [other for other in plan.classes if other != name]
            plan.strikes = [strike for strike in plan.strikes if strike.cls != name]
            _calm(plan, name)
            self.accept(plan)

    def _drop_strikes(self) -> None:
        def with_strikes(strikes: list[Strike]) -> Plan:
            return replace(self.best, strikes=strikes)

        self._ddmin(self.best.strikes, with_strikes)

    def _drop_clients(self) -> None:
        def with_clients(clients: list[ClientPlan]) -> Plan:
            return replace(self.best, clients=clients)

        if len(self.best.clients) > 1:
            self._ddmin(self.best.clients, with_clients, least=1)

    def _drop_operations(self) -> None:
        """Fewer operations per client: first the last ones, by halves, then the first ones."""
        for place in range(len(self.best.clients)):
            most = min(self.best.clients[place].ops_max, 400)
            while most > 1 and self.accept(self._with_client(place, ops_max=most // 2)):
                most //= 2
            if most > 1:
                skip = tuple(range(most // 2))
                self.accept(self._with_client(place, ops_max=most, skip=skip))

    def _with_client(self, place: int, *, ops_max: int, skip: tuple[int, ...] | None = None) -> Plan:
        clients = list(self.best.clients)
        old = clients[place]
        clients[place] = replace(old, ops_max=ops_max, skip=old.skip if skip is None else skip)
        return replace(self.best, clients=clients)

    def _fewer_nodes(self) -> None:
        if self.best.options.groups:
            # Numbers of machines and members of cores follow from the size of all groups.
            return
        nodes = self.best.options.nodes
        witnessed = bool(self.best.options.witness)
        while nodes > (2 if witnessed else 1):
            nodes -= 2
            plan = deepcopy(self.best)
            plan.options.nodes = nodes
            plan.core = list(range(1, nodes // 2 + 2))
            if witnessed and self.best.core:
                plan.core = [node for node in self.best.core if node <= nodes] or [1]
            elif witnessed:
                plan.core = []
            plan.clients = [replace(c, home=c.home if c.home <= nodes else 1) for c in plan.clients]
            plan.strikes = [s for s in plan.strikes if not s.target.isdigit() or int(s.target) <= nodes]
            if not self.accept(plan):
                return

    def _constants(self) -> None:
        """Delays that do not vary, disks that take one time, clients that do not think long."""
        plan = deepcopy(self.best)
        net, disk = NetOptions(), DiskOptions()
        net.delay_min_us, net.delay_mean_us = (200, 200), (201, 201)
        net.tail = net.loss = net.split = (0.0, 0.0)
        net.frames = plan.options.net.frames
        plan.options.net = net
        disk.latency_min_us, disk.latency_mean_us = (500, 500), (501, 501)
        plan.options.disk = disk
        if not self.accept(plan):
            plan = deepcopy(self.best)
            plan.options.net = net
            self.accept(plan)

    # -- delta debugging -----------------------------------------------------------------------------------------------

    def _ddmin(self, items: Sequence[T], build: Callable[[list[T]], Plan], least: int = 0) -> None:
        """Zeller's ddmin: drop ever smaller parts while the rest still fails."""
        kept = list(items)
        parts = 2
        while len(kept) > least and parts <= len(kept) * 2:
            size = max(len(kept) // parts, 1)
            dropped = False
            at = 0
            while at < len(kept):
                rest = kept[:at] + kept[at + size :]
                if len(rest) >= least and self.accept(build(rest)):
                    kept, dropped = rest, True
                else:
                    at += size
            if size == 1 and not dropped:
                return
            parts = parts if dropped and size > 1 else parts * 2


def _size(plan: Plan) -> str:
    operations = sum(min(client.ops_max, 9999) - len(client.skip) for client in plan.clients)
    return (
        f"{plan.safety_ms} ms, {len(plan.classes)} classes, {len(plan.strikes)} strikes, {len(plan.clients)} clients, "
        f"<= {operations} operations, {plan.options.nodes} nodes"
    )


def _calm(plan: Plan, name: str) -> None:
    """Take a standing class of faults out of the world's options."""
    options = plan.options
    if name == "frames":
        options.net.frames = None
    elif name == "loss":
        options.net.loss = (0.0, 0.0)
    elif name == "wan":
        fresh = NetOptions(loss=options.net.loss, frames=options.net.frames)
        options.net = fresh
    elif name == "slow-cpu":
        options.clock.step_cost_ns = (0, 0)
    elif name == "skew":
        options.clock.rate_ppm = (1_000_000, 1_000_000)
        options.clock.wall_offset_ms = (-300, 300)
    elif name == "rot" and options.disk_faults is not None:
        options.disk_faults.lost_write = options.disk_faults.misdirected_write = 0.0
    elif name == "buggify":
        options.buggify = False
    elif name == "disk-slow":
        options.disk.spike = (0.0, 0.0)
