"""A client of several groups: it keeps a connection to each node, learns where slots are, and goes where it is sent.

Rule: an attempt that was refused for good (MOVED, TRYAGAIN, CLUSTERDOWN) is over and had no effect, and the operation
goes on with the next attempt; what is recorded is the operation. Attempts of an operation that has state of its own, as
one that watches, are not repeated: it fails, and the client has learned.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from durakv.keyspace.slots import slot_of
from jstyle.history.op import INFO
from jstyle.sim.client import CONNECT_TIMEOUT_MS, Client, ClientPlan, History, Link
from jstyle.sim.groups import Groups
from jstyle.sim.handoff_watch import HandoffWatch
from jstyle.sim.outcomes import CLOSED, ErrorText
from jstyle.sim.shadow import Shadow
from jstyle.sim.streams import stream
from jstyle.sim.violation import Violation
from jstyle.sim.workloads.action import Action, Command, Done, Once, Transaction
from jstyle.sim.workloads.slotted import SLOTTED

_ATTEMPTS_MAX: Final = 12
_AGAIN_MS: Final = 60
_RETRY_MS: Final = 100
_REDIRECTS: Final = ("MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN")
_KEYLESS: Final = (b"MULTI", b"EXEC", b"UNWATCH")


class ClusterClient(Client):
    """See the module's text. ``known`` maps slots to machines; ``hops`` counts redirections of the open operation."""

    def __init__(
        self, groups: Groups, shadow: Shadow, history: History, plan: ClientPlan, number: int, of: int,
        watch: HandoffWatch,
    ) -> None:  # fmt: skip
        super().__init__(groups, shadow, history, plan, number, of)
        self.groups = groups
        self.watch = watch
        self.workload = SLOTTED[plan.workload]()
        self.links: dict[int, Link] = {}
        self.calls: dict[int, None] = {}
        self.known: dict[int, int] = {}
        self.hops = 0
        # The healthy cluster of the end: redirections must arrive.
        self.strict = False
        self._attempts = 0
        # Where the open operation's next attempt goes once the connection is there; 0: an attempt is under way.
        self._heads_for = 0
        self._asked_ns = 0

    def restrict(self, nodes: list[int]) -> None:
        """See Client."""
        self.nodes = nodes
        self.known = {slot: node for slot, node in self.known.items() if node in nodes}
        for node, link in list(self.links.items()):
            if node not in nodes and (self.action is None or self._link is not link):
                link.drop()

    def forget(self) -> None:
        """Know nothing of slots."""
        self.known = {}
        self.dials += 1

    # -- connections ---------------------------------------------------------------------------------------------------

    def _call(self, node: int) -> None:
        if node not in self.calls and node not in self.links:
            self.calls[node] = None
            self.cluster.dial(self.plan.name, node, Link(self, node), CONNECT_TIMEOUT_MS)

    def opened(self, link: Link) -> None:
        """See Client."""
        self.calls.pop(link.node, None)
        self.links[link.node] = link
        if self.action is not None and self._heads_for == link.node:
            self._attempt(link)
        elif link.node not in self.nodes:
            link.drop()
        else:
            self._later(0, self._next)

    def closed(self, link: Link) -> None:
        """See Client."""
        self.calls.pop(link.node, None)
        if self.links.get(link.node) is link:
            del self.links[link.node]
        self._unlearn(link.node)
        if self.action is not None and self._heads_for == link.node:
            self._again(_RETRY_MS, 0)
        elif self._link is link:
            self._link = None
            if self.action is not None and not self._heads_for:
                self._silent(CLOSED)
        self._later(_RETRY_MS, self._next)

    def _unlearn(self, node: int) -> None:
        self.known = {slot: known for slot, known in self.known.items() if known != node}
        self.dials += 1

    # -- operations ----------------------------------------------------------------------------------------------------

    def _next(self) -> None:
        """See Client."""
        if self.action is not None:
            return
        action = self._pick()
        if action is None:
            return
        node = self._where(action)
        link = self.links.get(node)
        if link is None:
            self._call(node)
            return
        self._picked()
        self._link = link
        self._heads_for = self._attempts = self.hops = 0
        self._begin(action, link)

    def _where(self, action: Action) -> int:
        node = self.known.get(slot_of_action(action), 0)
        if node not in self.nodes:
            random = stream(self.cluster.seed, "dial", self.plan.name, self.dials)
            node = random.choice(self.nodes)
        return node

    def _send(self, action: Action, link: Link, commands: list[Command]) -> None:
        self._asked_ns = self.cluster.timeline.now_ns
        super()._send(action, link, commands)

    def answered(self, link: Link, replies: list[object]) -> None:
        """See Client."""
        action = self.action
        if action is None or link is not self._link or self._heads_for:
            raise Violation("K1", f"client {self.plan.name} got {replies!r}, which it did not ask for")
        slot = slot_of_action(action)
        error = next((one for one in replies if isinstance(one, ErrorText) and one.startswith(_REDIRECTS)), None)
        if error is None:
            # What watches has replies of its own kinds; its values are the checkers' to judge.
            if isinstance(action, Once | Transaction) and not any(isinstance(one, ErrorText) for one in replies):
                self.watch.answered(self.groups.group_of(link.node), slot, self._asked_ns)
                self.known[slot] = link.node
                if self.strict:
                    self.watch.arrived(slot, self.hops)
            super().answered(link, replies)
            return
        goal = self._learn(error, slot)
        if isinstance(action, Once | Transaction) and self._attempts < _ATTEMPTS_MAX:
            self._refused(action, error)
            self._again(0 if goal else _AGAIN_MS, goal)
        else:
            super().answered(link, replies)

    def _learn(self, error: str, slot: int) -> int:
        """The machine that an error names, 0 for none."""
        self.cluster.timeline.fold("redirect", self.plan.name, slot, error)
        if error.startswith("ASK "):
            raise Violation("S6", f"client {self.plan.name} was told {error!r}: slots move at once or not at all")
        if error.startswith("MOVED "):
            _, named, place = error.split(" ")
            node = self.groups.number_at(place.rpartition(":")[0])
            if int(named) != slot or not node:
                raise Violation("S6", f"client {self.plan.name} asked for slot {slot} and was told {error!r}")
            self.hops += 1
            if node in self.nodes:
                self.known[slot] = node
                return node
        if not error.startswith("TRYAGAIN"):
            self.known.pop(slot, None)
            self.dials += 1
        return 0

    def _refused(self, action: Action, error: str) -> None:
        if self._sent_effect:
            self._sent_effect = False
            self.shadow.refused(action.writes(), error)

    def _again(self, after_ms: int, goal: int) -> None:
        """Another attempt of the open operation, at ``goal`` or (0) where its slot may be."""
        self._attempts += 1
        self._heads_for = -1
        self._later(after_ms, partial(self._head, self._began, goal))

    def _head(self, began: int, goal: int) -> None:
        action = self.action
        if action is None or began != self._began or self._heads_for != -1:
            return
        node = goal if goal in self.nodes else self._where(action)
        self._heads_for = node
        link = self.links.get(node)
        if link is None:
            self._call(node)
        else:
            self._attempt(link)

    def _attempt(self, link: Link) -> None:
        action = self.action
        assert action is not None
        self._link = link
        self._heads_for = 0
        self._send(action, link, action.first())

    def _end(self, done: Done) -> None:
        heading, self._heads_for = self._heads_for, 0
        if heading and done.type != INFO:
            # Nothing is under way on the connection of the attempt before.
            self._link = None
        super()._end(done)


def slot_of_action(action: Action) -> int:
    """The one slot that an operation is about."""
    for argv in action.first():
        if argv[0] not in _KEYLESS:
            return slot_of(argv[1])
    raise AssertionError(f"{action.f} names no key")
