"""After the faults: a core of nodes is whole again for good, everything else stays broken for good. Does it go on?

Rule: the oracle speaks first: a core that holds a quorum of undamaged voters must elect, answer every client, catch up
and agree, with few new terms and nothing piled up (P10). What is judged is what a client of the core would notice.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from durakv.app import App
from durakv.keyspace.digest import digest
from jstyle.sim.client import Client
from jstyle.sim.cluster import Cluster
from jstyle.sim.machine import EXIT_BUG, Machine
from jstyle.sim.nemesis import Nemesis
from jstyle.sim.schedule import Plan
from jstyle.sim.shadow import Shadow
from jstyle.sim.timeline import MS, SECOND
from jstyle.sim.violation import Violation
from jstyle.sim.witness_invariants import WitnessInvariants
from jstyle.sim.witness_oracle import WitnessOracle
from raft.types import Membership

ELECTION_TIMEOUTS_MAX: Final = 10
TERM_GROWTH_MAX: Final = 3
_SETTLE_MS: Final = 15_000
_SETTLES_MAX: Final = 20
_HEARING_MS: Final = 120_000
_QUEUE_BYTES_MAX: Final = 1 << 20
# For how many election timeouts nobody leads a core that must not serve.
_LEADERLESS_TIMEOUTS: Final = 12


class _Spoilt(Exception):
    """A node of the core came upon the damage of its medium and stopped: nothing is promised any more."""


class Promises(Protocol):
    """What has to hold all the time: Invariants, or those of all groups together."""

    witness: WitnessInvariants | None

    def check(self) -> bool:
        """Look at everything that moved. Raises Violation; always False."""


class Liveness:
    """One run's last phase. ``expected`` is the oracle's word, ``leader_ms`` how long the election took."""

    def __init__(
        self, cluster: Cluster, plan: Plan, shadow: Shadow, invariants: Promises, nemesis: Nemesis,
        clients: list[Client],
    ) -> None:  # fmt: skip
        self.cluster = cluster
        self.plan = plan
        self.shadow = shadow
        self.invariants = invariants
        self.nemesis = nemesis
        self.clients = clients
        self.core: list[Machine] = []
        self._memberships: list[int] = []
        self.expected = True
        # In words, why no service is expected; "" when it is, or when a medium was damaged.
        self.barred = ""
        self.leader_ms = -1
        self.oracle: WitnessOracle | None = None
        # Whether somebody in the core may lead, and who led when that was first asked: (node, term).
        self._allowed = True
        self._leaders: list[tuple[int, int]] = []
        if invariants.witness is not None:
            self.oracle = WitnessOracle(invariants.witness)

    def run(self) -> None:
        """Heal and require. Raises Violation P9, P10 or R5."""
        self._require(self._run)

    def _barred_by_others(self) -> bool:
        """Whether a node outside the core, left as it was, has taken the witness's word from it and went."""
        if self.oracle is None or self.plan.rest_gone or self.oracle.may_serve(self._apps()):
            return False
        self.barred = "a node outside the core took the witness's record with it"
        return True

    def _run(self) -> None:
        nodes = self.plan.core or self.members()
        self.core = [self.cluster.machine(node) for node in nodes]
        self.nemesis.heal(nodes)
        for client in self.clients:
            client.restrict(nodes)
        self.begin_watching()
        self.await_recovery()
        if not self.expected:
            return
        self.await_hearing()
        if not self._may_serve():
            self.expected = False
            return
        self.await_leader()
        # How long the election itself may take is bounded by time: two voters that split their votes need more terms.
        terms_before = self.term()
        self._await_service()
        for client in self.clients:
            client.stop()
        self._settle()
        self.no_growth(terms_before)
        self.nothing_piled_up()

    def nodes(self) -> list[int]:
        """The ids of the core."""
        return [machine.node_id for machine in self.core]

    def members(self) -> list[int]:
        """Everybody that the newest committed membership counts, or one that may still replace it."""
        newest = max(self.shadow.memberships, default=0)
        found: dict[int, None] = {}
        if newest:
            found.update(dict.fromkeys(Membership.decode(self.shadow.memberships[newest]).members()))
        for machine in self.cluster.running():
            if machine.app is not None and self._may_come(machine.app, newest):
                found.update(dict.fromkeys(machine.app.node.core.membership.members()))
        return sorted(found)

    def _may_come(self, app: App, newest: int) -> bool:
        """Whether a node's membership is newer than the committed one and no other entry was committed in its place."""
        core, terms = app.node.core, self.shadow.terms
        at = core.conf_index
        if at < core.log.first_index() - 1:
            return at > newest
        return at > newest and (at >= len(terms) or core.log.term(at) == terms[at])

    # -- steps ---------------------------------------------------------------------------------------------------------

    def wait(self, ms: int, until: object) -> bool:
        assert callable(until)
        if until():
            return True

        def after_event() -> bool:
            self.invariants.check()
            self._watch_media()
            self._watch_elections()
            if not self.plan.core:
                self.drop_removed()
            return bool(until())

        return self.cluster.timeline.run_for(ms * MS, after_event)

    def _watch_media(self) -> None:
        """A bit that flipped long ago may lie where a node looks only now. It must stop there, as it must refuse to
        start on a damaged log. Raises _Spoilt.
        """
        for machine in self.core:
            if machine.app is None and machine.exits[-1:] == [EXIT_BUG]:
                faults = machine.disk.faults
                if faults is not None and faults.medium_damaged():
                    raise _Spoilt

    def drop_removed(self) -> None:
        """A membership was committed or rolled back: whom it leaves out, the core need not serve any more."""
        in_force = [machine.app.node.core.conf_index for machine in self.cluster.running() if machine.app is not None]
        in_force += [len(self.shadow.memberships), min(self.shadow.commit, max(in_force, default=0))]
        if in_force == self._memberships:
            return
        self._memberships = in_force
        members = self.members()
        self.core = [machine for machine in self.core if machine.node_id in members]
        for client in self.clients:
            client.restrict(self.nodes())

    def await_recovery(self) -> None:
        """Every core node runs; one that refuses its disk does so only because that was damaged."""
        self.wait(_SETTLE_MS, lambda: all(m.app is not None or m.refusals for m in self.core))
        for machine in self.core:
            if machine.app is not None:
                continue
            faults = machine.disk.faults
            if faults is None or not faults.medium_damaged():
                why = machine.refusals[-1] if machine.refusals else f"it ended with {machine.exits}"
                raise Violation("P9", f"{machine.name} does not start on an undamaged disk: {why}")
            self.expected = False

    def await_hearing(self) -> None:
        """A node in the middle of a slow call or write, or of what piled up in a pause, gets to its end first."""
        waiting: dict[str, int] = {}

        def heard(machine: Machine, error: OSError | None) -> None:
            del error
            waiting[machine.name] -= 1

        for machine in self.core:
            if machine.app is None:
                # It was asked to stop before, has done so while another group recovered, and starts again.
                continue
            assert machine.clock is not None
            waiting[machine.name] = 2
            machine.clock.enter(partial(heard, machine, None))
            machine.disk.submit(_nothing, partial(heard, machine))
        starts = [machine.starts for machine in self.core]

        def ready() -> bool:
            return not any(waiting.values()) or starts != [machine.starts for machine in self.core]

        if not self.wait(_HEARING_MS, ready):
            raise Violation("P10", f"{waiting} took no input within {_HEARING_MS} ms of being healed")

    def begin_watching(self) -> None:
        """From now on an election is held against what the oracle said just before it."""
        oracle = self.oracle
        if oracle is not None:
            oracle.look(reached=self.plan.core_witness)
            self._leaders = self._leading()
            self._allowed = oracle.may_serve(self._apps())

    def _leading(self) -> list[tuple[int, int]]:
        return [(app.node.node_id, app.node.core.term) for app in self._apps() if app.engine.leading]

    def _watch_elections(self) -> None:
        """Raises P6. Whoever may serve once may go on."""
        oracle = self.oracle
        if oracle is None or self._allowed:
            return
        if self.plan.rest_gone and any(one not in self._leaders for one in self._leading()):
            raise Violation("P6", f"core {self.nodes()} may lack what the others held: {self.picture()}")
        self._allowed = oracle.may_serve(self._apps())

    def _may_serve(self) -> bool:
        """What the oracle says; where it says no, time passes in which nobody may come to lead. Raises P6."""
        if self.oracle is None or self._allowed:
            return True
        if self.wait(_LEADERLESS_TIMEOUTS * self._timeout_ms(), lambda: self._allowed):
            return True
        if self.plan.rest_gone:
            self.barred = "the core must not serve without the nodes that are gone, and did not"
        else:
            # Somebody outside may still help; nothing is promised, nothing is forbidden.
            self.barred = "the core may not serve by itself, and the others are not gone"
        return False

    def _apps(self) -> list[App]:
        found = [machine.app for machine in self.core]
        return [app for app in found if app is not None]

    def term(self) -> int:
        return max((app.driver.core.term for app in self._apps()), default=0)

    def _led(self) -> bool:
        """All of the core follow one leader that serves."""
        leader = self.cluster.leader()
        if leader is None or leader.app is None or not self.cluster.leader_serves():
            return False
        term = leader.app.engine.term
        apps = self._apps()
        return len(apps) == len(self.core) and all(
            app.engine.leader_id == leader.node_id and app.engine.term == term for app in apps
        )

    def _timeout_ms(self) -> int:
        return int(self.plan.options.directives.get("election-timeout-ms", "1000"))

    def await_leader(self) -> None:
        limit_ms = ELECTION_TIMEOUTS_MAX * self._timeout_ms()
        began_ns = self.cluster.timeline.now_ns
        if not self.wait(limit_ms, self._led):
            raise Violation(
                "P10", f"core {self.nodes()} has no leader {limit_ms} ms after it was healed: {self.picture()}"
            )
        self.leader_ms = (self.cluster.timeline.now_ns - began_ns) // MS

    def _await_service(self) -> None:
        """Every client is served again."""
        before = [client.served for client in self.clients]
        began_ns = self.cluster.timeline.now_ns + SECOND
        limit_ms = _SETTLE_MS + 2 * max(client.plan.timeout_ms + 10 * client.plan.think_ms for client in self.clients)

        def served() -> bool:
            return all(
                client.served > served or client.turn >= client.plan.ops_max
                for client, served in zip(self.clients, before, strict=True)
            )

        if not self.wait(limit_ms, served):
            names = [c.plan.name for c, count in zip(self.clients, before, strict=True) if c.served == count]
            raise Violation("P10", f"clients {names} get no answer from core {self.nodes()}: {self.picture()}")
        if "wan" in self.plan.classes:
            return
        for client in self.clients:
            for at_ns, node in client.timeouts:
                if at_ns > began_ns and client.plan.timeout_ms >= 4000 and node in self.nodes():
                    raise Violation(
                        "P10", f"a request of {client.plan.name} at n{node} of a healthy core was never answered"
                    )

    def settle(self) -> None:
        """Let every open operation end and the core agree. Raises Violation P10 or R5."""
        self._require(self._settle)

    def _require(self, step: Callable[[], None]) -> None:
        try:
            step()
        except _Spoilt:
            self.expected = False
        except Violation as error:
            if error.invariant != "P10" or not (self._barred_by_others() or self._led_from_afar()):
                raise
            self.expected = False

    def _settle(self) -> None:
        slowest_ms = max((client.plan.timeout_ms for client in self.clients), default=0)
        if not self.wait(slowest_ms + _SETTLE_MS, lambda: not any(client.busy for client in self.clients)):
            raise Violation("P10", "client operations stay open")
        if not self._catches_up():
            raise Violation("P10", f"core {self.nodes()} does not catch up: {self.picture()}")
        expected = self.shadow.full_digest()
        for machine in self.core:
            if machine.app is not None and digest(machine.app.engine.ks) != expected:
                raise Violation(
                    "R5", f"{machine.name} holds another state at index {self.shadow.commit} than the log gives"
                )

    def _led_from_afar(self) -> bool:
        """Whether a node that was not healed leads, and some way between it and the core is broken for good."""
        leader, fabric = self.cluster.leader(), self.cluster.fabric
        if leader is None or leader.node_id in self.nodes():
            return False
        if not fabric.host(leader.name).refusing and not any(
            fabric.is_cut(*pair) for m in self.core for pair in ((m.name, leader.name), (leader.name, m.name))
        ):
            return False
        self.barred = "a leader outside the core cannot be reached by all of it"
        return True

    def _catches_up(self) -> bool:
        """A node that is far behind, one entry a message, may need long; but it must not stand still on the way."""
        held = -1
        for _ in range(_SETTLES_MAX):
            if self.wait(_SETTLE_MS, self._level):
                return True
            before, held = held, sum(app.driver.core.log.last + app.engine.applier.applied for app in self._apps())
            if held == before:
                return False
        return False

    def _level(self) -> bool:
        return all(app.engine.applier.applied == self.shadow.commit and not app.engine.proposed for app in self._apps())

    # -- bounds --------------------------------------------------------------------------------------------------------

    def no_growth(self, terms_before: int) -> None:
        grown = self.term() - terms_before
        if grown > TERM_GROWTH_MAX:
            raise Violation("P10", f"the healed core went through {grown} terms: {self.picture()}")

    def nothing_piled_up(self) -> None:
        if not self.wait(_SETTLE_MS, lambda: not any(_in_hand(app) for app in self._apps())):
            piles = [f"{app.driver.node_id}: {_in_hand(app)}" for app in self._apps()]
            raise Violation("P10", f"an idle core still has work in hand, by node: {'; '.join(piles)}")

    def picture(self) -> str:
        return "; ".join(_shown(machine) for machine in self.cluster.machines)


def _in_hand(app: App) -> str:
    """What a node has not finished, in words; empty when there is nothing."""
    requests, items = len(app.engine.waiting_for_leader), len(app.engine.batch.items)
    uncommitted = app.driver.uncommitted_bytes()
    if requests or items or uncommitted > _QUEUE_BYTES_MAX:
        return f"{requests} requests, {items} items, {uncommitted} uncommitted bytes"
    return ""


def _nothing() -> None:
    """A disk job that does nothing."""


def _shown(machine: Machine) -> str:
    app = machine.app
    if app is None:
        return f"{machine.name} down"
    core = app.driver.core
    paused = " paused" if machine.clock is not None and machine.clock.paused else ""
    return (
        f"{machine.name}{paused} term {core.term} role {core.role} leader {core.leader} commit {core.log.commit} "
        f"last {core.log.last} stable {core.log.stable} applied {app.engine.applier.applied}"
    )
