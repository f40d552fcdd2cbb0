"""One simulated run from its plan to its verdict: boot, faults and work, a healed core, final reads, checkers.

Rule: the only place that puts a run's parts together and the only one that decides what a failure is: a Violation or
an exception out of durakv or raft is the system's, any other exception is the harness's own.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from durakv.storage.errors import StorageError
from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, Verdict, worst
from jstyle.history.op import Op
from jstyle.sim.client import Client, ClientPlan, History
from jstyle.sim.cluster import Cluster
from jstyle.sim.groups_run import GroupsRun
from jstyle.sim.guard import RealWorldTouched, no_real_world
from jstyle.sim.invariants import Invariants
from jstyle.sim.lease_invariants import LeaseInvariants
from jstyle.sim.lease_liveness import LeaseLiveness
from jstyle.sim.liveness import Liveness
from jstyle.sim.nemesis import Nemesis
from jstyle.sim.phases import BOOT, BOOT_MS, LIVENESS, SAFETY, Part, Phases, Stopped, reads_of
from jstyle.sim.schedule import Plan
from jstyle.sim.shadow import Shadow
from jstyle.sim.timeline import MS, START_NS, Trace
from jstyle.sim.violation import Violation
from jstyle.sim.workloads.action import Command, Once
from jstyle.sim.workloads.catalogue import WORKLOADS

HARNESS: Final = "HARNESS"

# The checkers of a run: (workload, its history) -> verdicts.
Judge = Callable[[str, list[Op]], list[Verdict]]


@dataclass
class Result:
    """What came of a run. ``valid`` is a verdict; ``invariant`` names the promise that broke, HARNESS for our own."""

    seed: int
    valid: str = TRUE
    invariant: str = ""
    text: str = ""
    event: int = 0
    # How far it came: BOOT, SAFETY (while faults struck) or LIVENESS (everything after).
    phase: str = BOOT
    digest: str = ""
    sim_ms: int = 0
    cpu_s: float = 0.0
    elections: int = 0
    commits: int = 0
    certificates: int = 0
    digests_compared: int = 0
    recoveries: int = 0
    leader_ms: int = -1
    # Of several groups: what became of migrations of slots, and how many fences there were.
    handoffs: dict[str, int] = field(default_factory=dict)
    # What a witness was good for: how often a leader was pinned, votes it gave and refused, and the like.
    witness: dict[str, int] = field(default_factory=dict)
    # Of lease mode: how often another epoch began and why, how often somebody began to serve.
    lease: dict[str, int] = field(default_factory=dict)
    # Classes of faults that the plan allowed, and "class/kind" -> how often one struck.
    classes: list[str] = field(default_factory=list)
    injected: dict[str, int] = field(default_factory=dict)
    # BUGGIFY site -> how often it fired; 0: asked in this run and never did.
    sites: dict[str, int] = field(default_factory=dict)
    # "workload f outcome" -> how many.
    ops: dict[str, int] = field(default_factory=dict)
    # checker -> verdict.
    verdicts: dict[str, str] = field(default_factory=dict)
    # Why parts of it are unknown.
    why: list[str] = field(default_factory=list)


class Run(Phases):
    """A run of one group in progress; ``history``, ``cluster`` and ``shadow`` may be looked at afterwards."""

    def __init__(
        self, plan: Plan, trace: Trace | None = None, until_event: int = 0, *, only_safety: bool = False
    ) -> None:
        self.only_safety = only_safety
        self.cluster = Cluster(plan.seed, plan.options)
        self.cluster.timeline.trace = trace
        self.shadow = Shadow()
        history = History(self.cluster)
        leased = LeaseInvariants(self.cluster, self.shadow) if plan.options.lease else None
        self.invariants = leased or Invariants(self.cluster, self.shadow)
        self.nemesis = Nemesis(self.cluster, plan)
        self.invariants.on_process = self.nemesis.on_process
        count = len(plan.clients) + 1
        self.clients = [
            Client(self.cluster, self.shadow, history, client, n, count) for n, client in enumerate(plan.clients)
        ]
        helper = ClientPlan("helper", "unique-register", think_ms=1, timeout_ms=4000)
        self.helper = Client(self.cluster, self.shadow, history, helper, len(plan.clients), count)
        self.helper.label = "helper"
        # It does what it is told and no work of its own.
        self.helper.stop()
        self.liveness = Liveness(self.cluster, plan, self.shadow, self.invariants, self.nemesis, self.clients)
        if leased is not None:
            self.liveness = LeaseLiveness(self.cluster, plan, self.shadow, leased, self.nemesis, self.clients)
        part = Part(self.cluster, self.shadow, self.invariants, self.nemesis, self.liveness)
        super().__init__(plan, [part], history, self.invariants, until_event)

    def go(self) -> None:
        """See Phases."""
        if not self.wait(BOOT_MS, self.cluster.leader_serves):
            raise Violation("P10", f"no leader within {BOOT_MS} ms of a first start")
        setups: list[Command] = []
        for name in sorted({client.workload for client in self.plan.clients}):
            setups += WORKLOADS[name]().setup()
        self.finals(self.helper, [Once("setup", argv, lambda _: None) for argv in setups])
        self.phase = SAFETY
        self.nemesis.begin()
        for client in self.clients:
            client.start()
        self.wait(self.plan.safety_ms)
        if not self.clients:
            return
        if self.only_safety:
            raise Stopped("stopped when the faults ended")
        self.phase = LIVENESS
        self.liveness.run()
        if self.liveness.expected:
            self._final_reads()

    def judged(self, name: str, ops: list[Op]) -> list[Op]:
        """See Phases. With clocks beyond the bound reads may be old, as documented."""
        return [] if self.plan.options.beyond_bound else super().judged(name, ops)

    def _final_reads(self) -> None:
        first: dict[str, Client] = {}
        for client in self.clients:
            first.setdefault(client.plan.workload, client)
        for client in first.values():
            self.finals(client, list(client.workload.final()))
        self.helper.restrict(self.liveness.nodes())
        self.finals(self.helper, reads_of(self.shadow))
        self.liveness.settle()


def run(
    plan: Plan, judge: Judge | None = None, trace: Trace | None = None, until_event: int = 0, *,
    only_safety: bool = False,
) -> Result:  # fmt: skip
    """Carry out a plan and judge it. ``judge`` None: no history checkers. ``only_safety``: end with the faults."""
    return run_and_keep(plan, judge, trace, until_event, only_safety=only_safety)[0]


def run_and_keep(
    plan: Plan, judge: Judge | None = None, trace: Trace | None = None, until_event: int = 0, *,
    only_safety: bool = False,
) -> tuple[Result, Phases | None]:  # fmt: skip
    """As ``run``; also gives the run itself, None when not even its world could be made."""
    result = Result(plan.seed)
    began_s = time.process_time()
    with no_real_world():
        current = _start(plan, trace, until_event, result, only_safety=only_safety)
        if current is not None:
            try:
                current.go()
            except Stopped as stopped:
                result.valid = UNKNOWN
                result.why.append(str(stopped))
            except Exception as error:  # noqa: BLE001 - every failure of a run becomes its result
                _blame(result, error)
    if current is not None:
        _collect(result, current)
        if judge is not None and result.valid != FALSE and not result.invariant:
            for name, history in sorted(current.history.by_workload.items()):
                ops = current.judged(name, history) if name in WORKLOADS else []
                if ops:
                    _judge(result, name, ops, judge)
            result.valid = worst([result.valid, *result.verdicts.values()])
    result.cpu_s = time.process_time() - began_s
    return result, current


def prepared(plan: Plan, trace: Trace | None = None, until_event: int = 0, *, only_safety: bool = False) -> Phases:
    """A run that has its world and has not begun, of one group or of several. Raises what a first start raises."""
    kind = GroupsRun if plan.options.groups else Run
    return kind(plan, trace, until_event, only_safety=only_safety)


def _start(plan: Plan, trace: Trace | None, until_event: int, result: Result, *, only_safety: bool) -> Phases | None:
    try:
        return prepared(plan, trace, until_event, only_safety=only_safety)
    except Exception as error:  # noqa: BLE001 - every failure of a run becomes its result
        _blame(result, error)
        return None


def _blame(result: Result, error: Exception) -> None:
    result.valid = FALSE
    notes = "; ".join(getattr(error, "__notes__", ()))
    if isinstance(error, Violation):
        result.invariant, result.text = error.invariant, error.text
        return
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    ours = last is not None and ("/jstyle/" in last.filename or "\\jstyle\\" in last.filename)
    if ours and not isinstance(error, RealWorldTouched):
        result.invariant, result.valid = HARNESS, UNKNOWN
    else:
        # A start that was refused on a disk that nobody damaged breaks the promise about recovery.
        result.invariant = "P9" if isinstance(error, StorageError) else f"CRASH:{type(error).__name__}"
    where = f"{last.filename.rpartition('/')[2]}:{last.lineno} {last.name}" if last is not None else "nowhere"
    result.text = f"{type(error).__name__}: {error} at {where}; {notes}"
    if result.invariant == HARNESS:
        result.why.append("".join(traceback.format_exception(error)))


def _collect(result: Result, current: Phases) -> None:
    timeline = current.timeline
    result.event = timeline.events
    result.phase = current.phase
    result.digest = timeline.digest()
    result.sim_ms = (timeline.now_ns - START_NS) // MS
    result.classes = list(current.plan.classes)
    result.injected = current.injected()
    result.handoffs = current.handoffs()
    for part in current.parts:
        _collect_part(result, part)
    for (workload, f, outcome), count in sorted(current.history.counts.items()):
        result.ops[f"{workload} {f} {outcome}"] = count


def _collect_part(result: Result, part: Part) -> None:
    invariants, liveness = part.invariants, part.liveness
    result.elections += invariants.elections
    result.commits += part.shadow.commit
    result.certificates += invariants.certificates
    result.digests_compared += invariants.digests_compared
    result.recoveries += invariants.recoveries
    result.leader_ms = max(result.leader_ms, liveness.leader_ms)
    if invariants.witness is not None:
        result.witness = dict(sorted(invariants.witness.counts.items()))
        result.witness["records"] = invariants.witness.records.changes
        result.witness["barred"] = int(bool(liveness.barred))
    if isinstance(invariants, LeaseInvariants):
        result.lease = dict(sorted(invariants.counts.items()))
    for machine in part.cluster.machines:
        faults = machine.disk.faults
        for name, count in (faults.injected if faults is not None else {}).items():
            result.injected[f"medium/{name}"] = result.injected.get(f"medium/{name}", 0) + count
        for name, count in (machine.buggify.counts() if machine.buggify is not None else {}).items():
            result.sites[name] = result.sites.get(name, 0) + count
    if not liveness.expected:
        why = liveness.barred or "the oracle expects no service"
        result.why.append(f"{why}: final reads left out")


def _judge(result: Result, name: str, history: list[Op], judge: Judge) -> None:
    for verdict in judge(name, history):
        label = f"{name}/{verdict.checker}"
        result.verdicts[label] = verdict.valid
        if verdict.valid == FALSE and not result.invariant:
            result.invariant = "K1"
            found = verdict.anomalies[0] if verdict.anomalies else None
            result.text = f"{label}: {found.name}: {found.text}" if found is not None else f"{label} says false"
        elif verdict.valid == UNKNOWN:
            result.why.append(f"{label}: {verdict.why}")


__all__ = ["BOOT", "HARNESS", "LIVENESS", "SAFETY", "Judge", "Result", "Run", "Stopped", "prepared", "run"]
__all__ += ["run_and_keep"]
