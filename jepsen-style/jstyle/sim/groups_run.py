"""One simulated run of several groups between which slots move, from its plan up to the checkers.

Rule: the only place that puts such a run together. Its checks are those of every group by itself, and those of
handoff_watch.py for what groups owe each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from durakv.keyspace.slots import slot_of
from jstyle.history.op import Op
from jstyle.sim.client import ClientPlan, History
from jstyle.sim.groups import TAGS, Groups, slot_of_tag
from jstyle.sim.groups_client import ClusterClient
from jstyle.sim.groups_liveness import GroupsLiveness
from jstyle.sim.handoff_watch import HandoffWatch
from jstyle.sim.invariants import Invariants
from jstyle.sim.liveness import Liveness
from jstyle.sim.nemesis import Nemesis
from jstyle.sim.nemesis_groups import SHARED_KINDS, GroupsNemesis
from jstyle.sim.phases import BOOT_MS, LIVENESS, SAFETY, Part, Phases, Stopped, reads_of
from jstyle.sim.schedule import Plan, Strike
from jstyle.sim.shadow import Shadow
from jstyle.sim.timeline import Trace
from jstyle.sim.violation import Violation
from jstyle.sim.witness_invariants import WitnessInvariants
from jstyle.sim.workloads.action import Command, Once, get
from jstyle.sim.workloads.slotted import SLOTTED, THE_SET, SlotAppends, tagged

_GOSSIP_MS: Final = 3000


class _AllInvariants:
    """The promises of all groups as one. Implements Promises."""

    def __init__(self, parts: list[Invariants]) -> None:
        self.parts = parts
        self.witness: WitnessInvariants | None = None

    def check(self) -> bool:
        """See Promises."""
        for part in self.parts:
            part.check()
        return False


class GroupsRun(Phases):
    """A run in progress; ``groups`` and ``watch`` may be looked at afterwards."""

    def __init__(
        self, plan: Plan, trace: Trace | None = None, until_event: int = 0, *, only_safety: bool = False
    ) -> None:
        self.only_safety = only_safety
        groups = self.groups = Groups(plan.seed, plan.options)
        groups.timeline.trace = trace
        shadows: list[Shadow] = []
        for _ in groups.clusters:
            shadows.append(Shadow(shadows[0] if shadows else None))
        self.watch = HandoffWatch(groups, shadows)
        history = History(groups)
        pairs = list(zip(groups.clusters, shadows, strict=True))
        invariants = [Invariants(cluster, shadow) for cluster, shadow in pairs]
        self.all = _AllInvariants(invariants)
        plans = [_plan_of(plan, group) for group in groups.numbers()]
        nemeses = [Nemesis(cluster, one) for cluster, one in zip(groups.clusters, plans, strict=True)]
        for one, nemesis in zip(invariants, nemeses, strict=True):
            one.on_process = nemesis.on_process
        self.nemesis = GroupsNemesis(groups, plan, self.watch, nemeses, invariants)
        count = len(plan.clients) + 1
        self.clients = [
            ClusterClient(groups, shadows[0], history, client, n, count, self.watch)
            for n, client in enumerate(plan.clients)
        ]
        helper = ClientPlan("helper", "unique-register", think_ms=1, timeout_ms=4000)
        self.helper = ClusterClient(groups, shadows[0], history, helper, len(plan.clients), count, self.watch)
        self.helper.label = "helper"
        self.helper.stop()
        livenesses = [
            Liveness(cluster, plan, shadow, self.all, nemesis, [])
            for (cluster, shadow), nemesis in zip(pairs, nemeses, strict=True)
        ]
        self.liveness = GroupsLiveness(groups, plan, self.watch, livenesses, nemeses, self.nemesis, self.clients)
        parts = [
            Part(cluster, shadow, one, nemesis, liveness)
            for (cluster, shadow), one, nemesis, liveness in zip(pairs, invariants, nemeses, livenesses, strict=True)
        ]
        super().__init__(plan, parts, history, self.all, until_event)

    def go(self) -> None:
        """See Phases."""
        if not self.wait(BOOT_MS, lambda: all(cluster.leader_serves() for cluster in self.groups.clusters)):
            raise Violation("P10", f"a group has no leader within {BOOT_MS} ms of a first start")
        setups: list[Command] = []
        for name in sorted({client.workload for client in self.plan.clients}):
            setups += SLOTTED[name]().setup()
        self.finals(self.helper, [Once("setup", argv, lambda _: None) for argv in setups])
        self.phase = SAFETY
        for part in self.parts:
            part.nemesis.begin()
        self.nemesis.begin()
        for client in self.clients:
            client.start()
        self.wait(self.plan.safety_ms)
        if self.only_safety:
            raise Stopped("stopped when the faults ended")
        self.phase = LIVENESS
        self.liveness.run()
        self._final_reads()

    def _final_reads(self) -> None:
        first: dict[str, ClusterClient] = {}
        for client in self.clients:
            first.setdefault(client.plan.workload, client)
        for client in first.values():
            self.finals(client, list(client.workload.final()))
        self._find_slots()
        self.helper.restrict(self.liveness.nodes())
        for part in self.parts:
            self.finals(self.helper, reads_of(part.shadow))
        self.liveness.settle()

    def _find_slots(self) -> None:
        """Whomever a client asks first, redirections lead to the owner (S6)."""
        # Who leads now has to get around first.
        self.wait(_GOSSIP_MS)
        self.helper.strict = True
        for node in self.liveness.nodes():
            for tag in TAGS:
                self.helper.restrict(self.liveness.nodes())
                self.helper.forget()
                self.helper.known[slot_of_tag(tag)] = node
                self.finals(self.helper, [get(f"{{{tag}}}nothing", "find")])

    # -- results -------------------------------------------------------------------------------------------------------

    def judged(self, name: str, ops: list[Op]) -> list[Op]:
        """See Phases. What was done to slots that an operator took back by force may be lost, as documented."""
        if not self.watch.forced:
            return list(ops)
        return [op for op in ops if not any(slot in self.watch.forced for slot in _slots_of(name, op))]

    def handoffs(self) -> dict[str, int]:
        """See Phases."""
        counts = self.watch.counts
        ended = counts["moved"] + counts["unfenced"] + counts["cancelled"] + counts["forced"]
        return {"ended": ended, **dict(sorted(counts.items()))}

    def injected(self) -> dict[str, int]:
        """See Phases."""
        return {**super().injected(), **self.nemesis.injected}


def _plan_of(plan: Plan, group: int) -> Plan:
    """What concerns one group's machines only."""
    strikes = [one for one in plan.strikes if one.kind not in SHARED_KINDS and _group_of(plan, one) == group]
    return replace(plan, strikes=strikes, rest_gone=True)


def _group_of(plan: Plan, strike: Strike) -> int:
    return int(strike.params.get("group", 0)) % plan.options.groups + 1


def _slots_of(name: str, op: Op) -> list[int]:
    """The slots of the keys that an operation of a workload here is about."""
    if name == SlotAppends.name:
        assert isinstance(op.value, list)
        return [slot_of(str(step[1]).encode()) for step in op.value if isinstance(step, list)]
    key = op.key if isinstance(op.key, str) else tagged(THE_SET)
    return [slot_of(key.encode())]
