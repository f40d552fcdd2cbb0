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
from jstyle.sim.guard import RealWorldTouched, no_real_world
from jstyle.sim.invariants import Invariants
from jstyle.sim.liveness import Liveness
from jstyle.sim.nemesis import Nemesis
from jstyle.sim.schedule import Plan
from jstyle.sim.shadow import Shadow
from jstyle.sim.timeline import MS, START_NS, Trace
from jstyle.sim.violation import Violation
from jstyle.sim.workloads.action import Action, Command, Once
from jstyle.sim.workloads.catalogue import WORKLOADS

_BOOT_MS: Final = 60_000
_FINAL_MS: Final = 30_000
HARNESS: Final = "HARNESS"
# Where in a run something happened.
BOOT: Final = "boot"
SAFETY: Final = "safety"
LIVENESS: Final = "liveness"

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
    # What a witness was good for: how often a leader was pinned, votes it gave and refused, and the like.
    witness: dict[str, int] = field(default_factory=dict)
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


class Stopped(Exception):
    """The run reached the event or the end of the phase at which it was to stop; the text says which."""


class _FinalRead(Once):
    """A read whose answer the shadow knows (K2)."""

    def __init__(self, argv: Command, shadow: Shadow, *, ordered: bool) -> None:
        super().__init__("final", argv, self._compare, key=argv[1].decode(), effect=False)
        self.shadow = shadow
        self.expected: object = None
        self.ordered = ordered

    def _compare(self, reply: object) -> None:
        """A request whose client gave up long ago may still arrive while this one is on its way."""
        expected = [self.expected, self.shadow.read(self.argv)]
        if not self.ordered and isinstance(reply, list):
            reply, expected = sorted(reply), [sorted(one) if isinstance(one, list) else one for one in expected]
        if reply not in expected:
            raise Violation("K2", f"the final {self.argv!r} answers {reply!r}, the log gives {self.expected!r}")

    def first(self) -> list[Command]:
        """See Action."""
        self.expected = self.shadow.read(self.argv)
        return super().first()


_READS: Final[dict[bytes, tuple[bytes, list[bytes]]]] = {
    b"string": (b"GET", []),
    b"list": (b"LRANGE", [b"0", b"-1"]),
    b"set": (b"SMEMBERS", []),
}


class Run:
    """A run in progress; ``history``, ``cluster`` and ``shadow`` may be looked at afterwards."""

    def __init__(
        self, plan: Plan, trace: Trace | None = None, until_event: int = 0, *, only_safety: bool = False
    ) -> None:
        self.plan = plan
        self.until_event = until_event
        self.only_safety = only_safety
        self.phase = BOOT
        self.cluster = Cluster(plan.seed, plan.options)
        self.cluster.timeline.trace = trace
        self.shadow = Shadow()
        self.history = History(self.cluster)
        self.invariants = Invariants(self.cluster, self.shadow)
        self.nemesis = Nemesis(self.cluster, plan)
        self.invariants.on_process = self.nemesis.on_process
        count = len(plan.clients) + 1
        self.clients = [
            Client(self.cluster, self.shadow, self.history, client, n, count) for n, client in enumerate(plan.clients)
        ]
        helper = ClientPlan("helper", "unique-register", think_ms=1, timeout_ms=4000)
        self.helper = Client(self.cluster, self.shadow, self.history, helper, len(plan.clients), count)
        self.helper.label = "helper"
        # It does what it is told and no work of its own.
        self.helper.stop()
        self.liveness = Liveness(self.cluster, plan, self.shadow, self.invariants, self.nemesis, self.clients)

    def go(self) -> None:
        """All phases up to the checkers. Raises Violation, Stopped, or what a node or the harness raised."""
        if not self._wait(_BOOT_MS, self.cluster.leader_serves):
            raise Violation("P10", f"no leader within {_BOOT_MS} ms of a first start")
        setups: list[Command] = []
        for name in sorted({client.workload for client in self.plan.clients}):
            setups += WORKLOADS[name]().setup()
        self._finals(self.helper, [Once("setup", argv, lambda _: None) for argv in setups])
        self.phase = SAFETY
        self.nemesis.begin()
        for client in self.clients:
            client.start()
        self._wait(self.plan.safety_ms, _never)
        if not self.clients:
            return
        if self.only_safety:
            raise Stopped("stopped when the faults ended")
        self.phase = LIVENESS
        self.liveness.run()
        if self.liveness.expected:
            self._final_reads()

    def _wait(self, ms: int, until: Callable[[], bool]) -> bool:
        check = self.invariants.check
        stop_at = self.until_event
        timeline = self.cluster.timeline

        def after_event() -> bool:
            check()
            if stop_at and timeline.events >= stop_at:
                raise Stopped(f"stopped at event {timeline.events}")
            return until()

        if until is _never and not stop_at:
            return timeline.run_for(ms * MS, check)
        return until() or timeline.run_for(ms * MS, after_event)

    def _finals(self, client: Client, actions: list[Action]) -> None:
        """Have a client run actions, again and again until each has succeeded."""
        deadline_ns = self.cluster.timeline.now_ns + _FINAL_MS * MS
        for action in actions:
            ok = client.ok
            while client.ok == ok:
                client.run_finals([action])
                self._wait(_FINAL_MS, lambda: not client.finals and not client.busy)
                if client.ok == ok and self.cluster.timeline.now_ns > deadline_ns:
                    raise Violation("P10", f"{action.f} operations on a healthy group do not succeed")

    def _final_reads(self) -> None:
        first: dict[str, Client] = {}
        for client in self.clients:
            first.setdefault(client.plan.workload, client)
        for client in first.values():
            self._finals(client, list(client.workload.final()))
        reads: list[Action] = []
        for key, kind in self.shadow.lasting_keys():
            known = _READS.get(kind)
            if known is not None:
                argv = [known[0], key, *known[1]]
                reads.append(_FinalRead(argv, self.shadow, ordered=kind != b"set"))
        self.helper.restrict(self.liveness.nodes())
        self._finals(self.helper, reads)
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
) -> tuple[Result, Run | None]:  # fmt: skip
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
                if name in WORKLOADS:
                    _judge(result, name, list(history), judge)
            result.valid = worst([result.valid, *result.verdicts.values()])
    result.cpu_s = time.process_time() - began_s
    return result, current


def _start(plan: Plan, trace: Trace | None, until_event: int, result: Result, *, only_safety: bool) -> Run | None:
    try:
        return Run(plan, trace, until_event, only_safety=only_safety)
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


def _collect(result: Result, current: Run) -> None:
    timeline, invariants = current.cluster.timeline, current.invariants
    result.event = timeline.events
    result.phase = current.phase
    result.digest = timeline.digest()
    result.sim_ms = (timeline.now_ns - START_NS) // MS
    result.elections = invariants.elections
    result.commits = current.shadow.commit
    result.certificates = invariants.certificates
    result.digests_compared = invariants.digests_compared
    result.recoveries = invariants.recoveries
    result.leader_ms = current.liveness.leader_ms
    if invariants.witness is not None:
        result.witness = dict(sorted(invariants.witness.counts.items()))
        result.witness["records"] = invariants.witness.records.changes
        result.witness["barred"] = int(bool(current.liveness.barred))
    result.classes = list(current.plan.classes)
    result.injected = dict(current.nemesis.injected)
    for machine in current.cluster.machines:
        faults = machine.disk.faults
        for name, count in (faults.injected if faults is not None else {}).items():
            result.injected[f"medium/{name}"] = result.injected.get(f"medium/{name}", 0) + count
        for name, count in (machine.buggify.counts() if machine.buggify is not None else {}).items():
            result.sites[name] = result.sites.get(name, 0) + count
    for (workload, f, outcome), count in sorted(current.history.counts.items()):
        result.ops[f"{workload} {f} {outcome}"] = count
    if not current.liveness.expected:
        why = current.liveness.barred or "the oracle expects no service"
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


def _never() -> bool:
    return False
