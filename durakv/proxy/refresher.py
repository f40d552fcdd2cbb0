"""Keeps the table: asks one node after the other for CLUSTER SHARDS, now and then and whenever something went wrong.

Rule: the only place that asks. A wrong answer does no harm, since nodes refuse what is not theirs; it costs a
redirection.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import hiredis

from durakv.proxy.profile import Profile
from durakv.proxy.request import Owner, Request, request_wire
from durakv.proxy.topology import Node, Shard, TopologyError, read_shards, read_slots
from durakv.world.ports import Timer

if TYPE_CHECKING:
    from durakv.proxy.hub import Hub

_SHARDS: Final = [b"CLUSTER", b"SHARDS"]
_SLOTS: Final = [b"CLUSTER", b"SLOTS"]
# After the first question at once, further ones at most so often.
_APART_MS: Final = 50
_ANSWER_MS: Final = 1_000
_LAST_SLOT: Final = 16383


class Refresher(Owner):
    """``profile`` is who the proxy is when it asks; the requests of clients never use it."""

    def __init__(self, hub: Hub, profile: Profile) -> None:
        self._hub = hub
        self._profile = profile
        self._number = 0
        self._asked: Request | None = None
        self._timer: Timer | None = None
        self._deadline: Timer | None = None
        self._last_ns = 0
        self._turn = 0
        self._trouble = ""
        self._stopped = False

    def start(self) -> None:
        """Ask for the first time."""
        self._ask()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped = True
        for timer in (self._timer, self._deadline):
            if timer is not None:
                timer.cancel()

    def soon(self) -> None:
        """Something is not as the table says."""
        if self._timer is None and self._asked is None and not self._stopped:
            passed_ms = (self._hub.clock.monotonic_ns() - self._last_ns) // 1_000_000
            self._timer = self._hub.clock.call_later(max(_APART_MS - passed_ms, 0), self._ask)

    def tick(self) -> None:
        """Ask again after ``refresh_ms``, sooner while slots have no leader."""
        hub = self._hub
        passed_ms = (hub.clock.monotonic_ns() - self._last_ns) // 1_000_000
        if passed_ms >= (hub.settings.refresh_ms if hub.table.complete() else min(hub.settings.refresh_ms, 500)):
            self.soon()

    # -- Owner -----------------------------------------------------------------------------------------------------

    def on_reply(self, request: Request, wire: bytes) -> None:
        """Take the answer into the table."""
        if request is not self._asked or request.node is None:
            return
        node = request.node
        self._answered()
        if wire[:1] == b"-":
            self._error(node, request, wire)
            return
        reader = hiredis.Reader()
        reader.feed(wire)
        hub = self._hub
        try:
            reply = reader.gets()
            if request.argv is _SHARDS:
                shards = read_shards(reply, node.host, hub.settings.tls_nodes, hub.table)
            else:
                shards = read_slots(reply, node.host, hub.table)
        except (TopologyError, hiredis.HiredisError) as e:
            self._failed(f"{node.name}: {e}")
            return
        self._take(shards)

    def on_lost(self, request: Request, sent: bool, why: str) -> None:
        """The next node, then."""
        if request is self._asked:
            self._answered()
            self._failed(f"{request.node.name if request.node else 'a node'}: {why}")

    # -- asking ----------------------------------------------------------------------------------------------------

    def _ask(self, argv: list[bytes] = _SHARDS, node: Node | None = None) -> None:
        self._timer = None
        if self._stopped or self._asked is not None:
            return
        hub = self._hub
        if node is None:
            candidates = self._candidates()
            node = candidates[self._turn % len(candidates)]
            self._turn += 1
        self._number += 1
        # The plan is only read when a client's request is sent again.
        request = Request(self._number, False, self, argv, hub.plans.by_name[b"PING"], -1)
        request.node = node
        self._asked = request
        self._deadline = hub.clock.call_later(_ANSWER_MS, lambda: self._silent(request))
        hub.lanes.shared(node, self._profile, 0).send(request, request_wire(argv))

    def _candidates(self) -> list[Node]:
        table = self._hub.table
        found: dict[Node, None] = {}
        for shard in table.shards:
            for node in [shard.leader, *shard.replicas]:
                if node is not None:
                    found[node] = None
        for host, port in self._hub.settings.seeds:
            found[table.node(host, port)] = None
        return list(found)

    def _answered(self) -> None:
        self._asked = None
        self._last_ns = self._hub.clock.monotonic_ns()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _silent(self, request: Request) -> None:
        if request is self._asked:
            self._answered()
            self._failed(f"{request.node.name if request.node else 'a node'} did not answer within {_ANSWER_MS} ms")

    def _error(self, node: Node, request: Request, wire: bytes) -> None:
        text = wire[1:].rstrip().decode("utf-8", "replace")
        lowered = text.lower()
        if "cluster support disabled" in lowered:
            # A lone server: it serves everything.
            self._take([Shard([(0, _LAST_SLOT)], node, [])])
        elif request.argv is _SHARDS and lowered.startswith("err unknown"):
            self._ask(_SLOTS, node)
        else:
            advice = "; give the proxy --user and --password-file" if text.startswith("NOAUTH") else ""
            self._failed(f"{node.name}: {text}{advice}")

    def _take(self, shards: list[Shard]) -> None:
        hub = self._hub
        changed = hub.table.replace(shards)
        if self._trouble or changed:
            self._trouble = ""
            hub.tell("table", f"{len(hub.table.homes())} leaders, {hub.table.leaders.count(None)} slots without one")
        if changed:
            for client in list(hub.clients.values()):
                if client.tracking is not None:
                    client.tracking.leaders_changed()

    def _failed(self, trouble: str) -> None:
        """Told once per kind of trouble; the next node is asked soon."""
        if trouble != self._trouble:
            self._trouble = trouble
            self._hub.tell("table-trouble", trouble)
        self.soon()
