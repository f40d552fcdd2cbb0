"""Who serves which slot, as the proxy last heard. [compiled]

Rule: a picture and what follows from it; asking for it is refresher.py's. ``version`` grows whenever a slot gets
another leader, which is what clients watch to keep the order of their requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.keyspace.slots import SLOTS

if TYPE_CHECKING:
    from durakv.proxy.lane import Lane

# How much a new measurement counts in a node's latency.
_LATENCY_WEIGHT: Final = 0.2


class TopologyError(ValueError):
    """A node's answer about the slots cannot be read."""


class Node:
    """One server; the same object for the same address as long as the proxy runs, with its connections.

    ``lanes``: shared connections by profile number; ``pins``: idle exclusive ones. ``latency_us`` is an average over
    requests sent while none was out, 0 as long as there was none.
    """

    __slots__ = ("host", "lanes", "latency_us", "name", "pins", "port", "suspect_ns", "zone")

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.zone = ""
        self.lanes: dict[int, list[Lane]] = {}
        self.pins: dict[int, list[Lane]] = {}
        self.latency_us = 0.0
        # Not asked for reads before this time, since it could not be reached.
        self.suspect_ns = 0

    def measured(self, latency_us: float) -> None:
        """Take one more measurement into the average."""
        old = self.latency_us
        self.latency_us = latency_us if old == 0 else old + _LATENCY_WEIGHT * (latency_us - old)

    def outstanding(self) -> int:
        """Requests that wait for this node."""
        return sum(len(lane.pending) for lanes in self.lanes.values() for lane in lanes)


class Shard:
    """One group: slot ranges (inclusive), its leader if one is known, and the replicas that may serve reads."""

    __slots__ = ("leader", "ranges", "replicas")

    def __init__(self, ranges: list[tuple[int, int]], leader: Node | None, replicas: list[Node]) -> None:
        self.ranges = ranges
        self.leader = leader
        self.replicas = replicas


class Table:
    """``leaders[slot]`` is where requests for the slot go; None while nobody is known to serve it."""

    def __init__(self) -> None:
        self.version = 0
        self.leaders: list[Node | None] = [None] * SLOTS
        self.shards: list[Shard] = []
        self.nodes: dict[tuple[str, int], Node] = {}
        self._shard_of: list[Shard | None] = [None] * SLOTS
        self._homes: list[int] = []
        self._homes_version = -1

    def node(self, host: str, port: int) -> Node:
        """The node at this address."""
        found = self.nodes.get((host, port))
        if found is None:
            found = self.nodes[host, port] = Node(host, port)
        return found

    def member(self, host: str, port: int) -> Node | None:
        """The node at this address if the cluster's last answer named it."""
        found = self.nodes.get((host, port))
        for shard in self.shards:
            if found is not None and (found is shard.leader or found in shard.replicas):
                return found
        return None

    def replace(self, shards: list[Shard]) -> bool:
        """Take a newer picture; whether any slot changed its leader. Slots nobody names keep none."""
        leaders: list[Node | None] = [None] * SLOTS
        shard_of: list[Shard | None] = [None] * SLOTS
        for shard in shards:
            for first, last in shard.ranges:
                for slot in range(first, last + 1):
                    leaders[slot] = shard.leader
                    shard_of[slot] = shard
        changed = leaders != self.leaders
        self.shards = shards
        self._shard_of = shard_of
        if changed:
            # The list object stays: connections hold it.
            self.leaders[:] = leaders
            self.version += 1
        return changed

    def learn(self, slot: int, node: Node) -> None:
        """A node said that ``node`` serves the slot."""
        if self.leaders[slot] is not node:
            self.leaders[slot] = node
            self.version += 1

    def homes(self) -> list[int]:
        """One slot of each leader, its lowest, ascending."""
        if self._homes_version != self.version:
            seen: dict[Node, int] = {}
            for slot, leader in enumerate(self.leaders):
                if leader is not None and leader not in seen:
                    seen[leader] = slot
            self._homes = list(seen.values())
            self._homes_version = self.version
        return self._homes

    def complete(self) -> bool:
        """Whether every slot has a leader."""
        return None not in self.leaders

    def nearest(self, slot: int, zone: str, now_ns: int) -> Node | None:
        """The replica a read of the slot should go to: of ``zone`` if there is one, then the least busy, then nearest.

        None when the slot has no replica that could be reached lately.
        """
        shard = self._shard_of[slot]
        if shard is None:
            return None
        best: Node | None = None
        best_rank = (0, 0, 0.0)
        for node in shard.replicas:
            if node.suspect_ns > now_ns:
                continue
            rank = (0 if zone and node.zone == zone else 1, node.outstanding(), node.latency_us)
            if best is None or rank < best_rank:
                best, best_rank = node, rank
        return best


def read_shards(reply: object, asked_host: str, tls: bool, table: Table) -> list[Shard]:
    """CLUSTER SHARDS, as decoded from RESP2 (maps are flat lists), as shards. Raises TopologyError when unreadable.

    A node without an endpoint is reached at the host that was asked. Nodes that fail or load serve no reads.
    """
    if not isinstance(reply, list):
        raise TopologyError("CLUSTER SHARDS did not answer an array")
    shards: list[Shard] = []
    for item in reply:
        fields = _fields(item)
        slots = fields.get(b"slots")
        members = fields.get(b"nodes")
        if not isinstance(slots, list) or not isinstance(members, list) or len(slots) % 2:
            raise TopologyError("CLUSTER SHARDS names a shard without slots or nodes")
        ranges = [(_slot(slots[i]), _slot(slots[i + 1])) for i in range(0, len(slots), 2)]
        leader: Node | None = None
        replicas: list[Node] = []
        for member in members:
            facts = _fields(member)
            node = _member(facts, asked_host, tls, table)
            if node is None:
                continue
            online = facts.get(b"health", b"online") == b"online"
            if facts.get(b"role") in (b"master", b"primary"):
                # One that fails is still named: no other can be asked, and it may be back.
                if leader is None or online:
                    leader = node
            elif online:
                replicas.append(node)
        shards.append(Shard(ranges, leader, replicas))
    return shards


def read_slots(reply: object, asked_host: str, table: Table) -> list[Shard]:
    """CLUSTER SLOTS, for servers that do not know SHARDS. Raises TopologyError when unreadable."""
    if not isinstance(reply, list):
        raise TopologyError("CLUSTER SLOTS did not answer an array")
    shards: dict[Node, Shard] = {}
    for item in reply:
        if not isinstance(item, list) or len(item) < 3:
            raise TopologyError("CLUSTER SLOTS names a range without a node")
        found: list[Node] = []
        for entry in item[2:]:
            if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[1], int):
                raise TopologyError("CLUSTER SLOTS names a node without a port")
            found.append(table.node(_host(entry[0], asked_host), entry[1]))
        shard = shards.setdefault(found[0], Shard([], found[0], found[1:]))
        shard.ranges.append((_slot(item[0]), _slot(item[1])))
    return list(shards.values())


def _fields(item: object) -> dict[bytes, object]:
    if not isinstance(item, list) or len(item) % 2:
        raise TopologyError("CLUSTER SHARDS has an unreadable entry")
    fields: dict[bytes, object] = {}
    for i in range(0, len(item), 2):
        name = item[i]
        if isinstance(name, bytes):
            fields[name] = item[i + 1]
    return fields


def _member(facts: dict[bytes, object], asked_host: str, tls: bool, table: Table) -> Node | None:
    port = facts.get(b"tls-port" if tls else b"port")
    if not isinstance(port, int) or not 0 < port < 65536:
        return None
    node = table.node(_host(facts.get(b"endpoint") or facts.get(b"ip"), asked_host), port)
    zone = facts.get(b"availability-zone")
    if isinstance(zone, bytes):
        node.zone = zone.decode("utf-8", "replace")
    return node


def _host(endpoint: object, asked_host: str) -> str:
    if isinstance(endpoint, bytes) and endpoint not in (b"", b"?"):
        return endpoint.decode("utf-8", "replace")
    return asked_host


def _slot(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value < SLOTS:
        raise TopologyError(f"a slot cannot be {value!r}")
    return value
