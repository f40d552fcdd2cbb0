"""After the faults, with several groups: each core is whole, and all that was on its way arrives somewhere.

Rule: what one group alone owes is liveness.py's. Here is what groups owe each other: clients are served wherever their
slots are, every migration ends, every slot has its one owner, and redirections lead to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from jstyle.sim.groups import Groups
from jstyle.sim.groups_client import ClusterClient
from jstyle.sim.handoff_watch import HandoffWatch
from jstyle.sim.liveness import Liveness
from jstyle.sim.nemesis import Nemesis
from jstyle.sim.nemesis_groups import GroupsNemesis
from jstyle.sim.schedule import Plan
from jstyle.sim.timeline import MS, SECOND
from jstyle.sim.violation import Violation

# A session that cannot begin is given up after 30 s, a target that hears nothing asks after 5 s, and a fence waits for
# a decision as long; a stream behind slow writers is given up after a minute.
_ENDS_MS: Final = 120_000
_SERVED_MS: Final = 20_000


class GroupsLiveness:
    """One run's last phase. ``parts[g - 1]`` is group ``g``'s own."""

    def __init__(
        self, groups: Groups, plan: Plan, watch: HandoffWatch, parts: list[Liveness], nemeses: list[Nemesis],
        nemesis: GroupsNemesis, clients: list[ClusterClient],
    ) -> None:  # fmt: skip
        self.groups = groups
        self.plan = plan
        self.watch = watch
        self.parts = parts
        self.nemeses = nemeses
        self.nemesis = nemesis
        self.clients = clients
        # How long the last migration took to end.
        self.ended_ms = -1

    def nodes(self) -> list[int]:
        """The ids of all cores; where groups changed their members, of those who are."""
        return [node for part in self.parts for node in part.nodes()]

    def run(self) -> None:
        """Heal and require. Raises Violation P9, P10, R5, S5."""
        self._heal()
        for part in self.parts:
            part.begin_watching()
            part.await_recovery()
        for part in self.parts:
            part.await_hearing()
        for part in self.parts:
            part.await_leader()
        terms = [part.term() for part in self.parts]
        self._await_service()
        self._await_ends()
        for client in self.clients:
            client.stop()
        self.settle()
        for part, before in zip(self.parts, terms, strict=True):
            part.no_growth(before)
            part.nothing_piled_up()

    def wait(self, ms: int, until: Callable[[], bool]) -> bool:
        """Let time pass for all groups; whether ``until`` came true."""
        if self.plan.core:
            return self.parts[0].wait(ms, until)

        def after_event() -> bool:
            before = self.nodes()
            for part in self.parts:
                part.drop_removed()
            if self.nodes() != before:
                for client in self.clients:
                    client.restrict(self.nodes())
            return until()

        return self.parts[0].wait(ms, after_event)

    def _heal(self) -> None:
        self.nemesis.end()
        for part in self.parts:
            wanted = self.plan.core or part.members()
            part.core = [machine for machine in part.cluster.machines if machine.node_id in wanted]
        core = self.nodes()
        for part, nemesis in zip(self.parts, self.nemeses, strict=True):
            mine = part.core
            nemesis.heal([machine.node_id for machine in mine])
            nemesis.end_rest(core)
        names = [self.groups.machine(node).name for node in core]
        for link in self.groups.fabric.links():
            if link.source in names and link.target in names:
                self.groups.fabric.heal(link.source, link.target)
        for client in self.clients:
            client.restrict(core)

    def _await_service(self) -> None:
        """Every client is served again, wherever its slots are."""
        before = [client.served for client in self.clients]
        slowest_ms = max((client.plan.timeout_ms + 10 * client.plan.think_ms for client in self.clients), default=0)
        # A slot may wait for a decision first.
        limit_ms = _SERVED_MS + 2 * slowest_ms

        def served() -> bool:
            return all(
                client.served > count or client.turn >= client.plan.ops_max
                for client, count in zip(self.clients, before, strict=True)
            )

        if not self.wait(limit_ms, served):
            names = [c.plan.name for c, count in zip(self.clients, before, strict=True) if c.served == count]
            raise Violation("P10", f"clients {names} get no answer from {self.nodes()}: {self.picture()}")

    def _await_ends(self) -> None:
        """Every migration ends, on both sides."""
        timeline = self.groups.timeline
        began_ns = timeline.now_ns
        last_ns = began_ns
        ongoing = self.watch.ongoing()

        def ended() -> bool:
            nonlocal last_ns, ongoing
            # Looked at once in a while: most events have nothing to do with it.
            if ongoing and timeline.now_ns - last_ns >= SECOND // 10:
                last_ns, ongoing = timeline.now_ns, self.watch.ongoing()
            return not ongoing

        if not self.wait(_ENDS_MS, ended):
            raise Violation("P10", f"migrations do not end: {self.watch.ongoing()}: {self.picture()}")
        self.ended_ms = (timeline.now_ns - began_ns) // MS

    def settle(self) -> None:
        """Let every open operation end and each core agree. Raises Violation P10, R5, S5."""
        slowest_ms = max((client.plan.timeout_ms for client in self.clients), default=0)
        if not self.wait(slowest_ms + _SERVED_MS, lambda: not any(client.busy for client in self.clients)):
            raise Violation("P10", "client operations stay open")
        for part in self.parts:
            part.settle()
        self.watch.judge_cover()

    def picture(self) -> str:
        """All machines in words."""
        return "; ".join(part.picture() for part in self.parts)
