"""After the faults, in lease mode: a core is whole again for good, everybody else is gone. Does it go on?

Rule: the oracle speaks first: a core with a quorum of the config holder and a member that is in sync must get a primary
that serves, take all of the core in sync, answer every client, and begin no epoch more than that needs (P10). Who leads
by term in Raft mode is here whom all follow, for a reign goes on through its epochs.
"""

from __future__ import annotations

from typing import Final

from jstyle.sim.client import Client
from jstyle.sim.cluster import Cluster
from jstyle.sim.lease_invariants import LeaseInvariants, serves
from jstyle.sim.liveness import ELECTION_TIMEOUTS_MAX, Liveness
from jstyle.sim.nemesis import Nemesis
from jstyle.sim.schedule import Plan
from jstyle.sim.shadow import Shadow
from jstyle.sim.timeline import MS
from jstyle.sim.violation import Violation

# What nodes that are gone asked of the holder may still be on its way.
_CALLS_MS: Final = 4000
# Who was put out, or failed to catch up, is left alone for three leases; a few may come one after another.
_IN_SYNC_MS: Final = 60_000


class LeaseLiveness(Liveness):
    """See the module's text and Liveness. ``leader_ms``: until a primary served."""

    def __init__(
        self, cluster: Cluster, plan: Plan, shadow: Shadow, invariants: LeaseInvariants, nemesis: Nemesis,
        clients: list[Client],
    ) -> None:  # fmt: skip
        super().__init__(cluster, plan, shadow, invariants, nemesis, clients)
        self.leases = invariants

    def _run(self) -> None:
        nodes = self.plan.core or [machine.node_id for machine in self.cluster.machines]
        self.core = [self.cluster.machine(node) for node in nodes]
        self.nemesis.heal(nodes)
        self.nemesis.end_rest(nodes)
        for client in self.clients:
            client.restrict(nodes)
        self.await_recovery()
        if not self.expected:
            return
        self.await_hearing()
        if len(self.core) < self.cluster.options.nodes:
            self.wait(_CALLS_MS, _never)
            if not self._in_sync_here():
                self.expected = False
                self.barred = "no in-sync member is left"
                return
        self.await_leader()
        self._await_service()
        self._await_in_sync()
        epoch = self.leases.holder.epoch
        for client in self.clients:
            client.stop()
        self._settle()
        # Terms are epochs.
        self.no_growth(epoch)
        self.nothing_piled_up()

    def _drop_removed(self) -> None:
        """Nobody is removed."""

    def _in_sync_here(self) -> bool:
        config = self.leases.holder.config
        return config is not None and any(node in config.isr for node in self.nodes())

    def _timeout_ms(self) -> int:
        return int(self.plan.options.directives["lease-grace-ms"])

    def _led(self) -> bool:
        """All of the core follow one primary that serves."""
        leader = self.cluster.leader()
        if leader is None or leader.app is None or not self.cluster.leader_serves() or not serves(leader.app):
            return False
        apps = self._apps()
        return len(apps) == len(self.core) and all(app.engine.leader_id == leader.node_id for app in apps)

    def await_leader(self) -> None:
        """See Liveness; also the config holder has to elect."""
        limit_ms = ELECTION_TIMEOUTS_MAX * self._timeout_ms() + _CALLS_MS
        began_ns = self.cluster.timeline.now_ns
        if not self.wait(limit_ms, self._led):
            raise Violation(
                "P10", f"core {self.nodes()} has no primary that serves {limit_ms} ms after it was healed; in force is "
                f"{self.leases.holder.config!r}: {self.picture()}",
            )  # fmt: skip
        self.leader_ms = (self.cluster.timeline.now_ns - began_ns) // MS

    def _await_in_sync(self) -> None:
        wanted = tuple(self.nodes())

        def all_in() -> bool:
            config = self.leases.holder.config
            return config is not None and tuple(n for n in config.isr if n in wanted) == wanted and self._led()

        if not self.wait(_IN_SYNC_MS, all_in):
            raise Violation(
                "P10", f"not all of core {wanted} are in sync {_IN_SYNC_MS} ms after it served; in force is "
                f"{self.leases.holder.config!r}: {self.picture()}",
            )  # fmt: skip


def _never() -> bool:
    return False
