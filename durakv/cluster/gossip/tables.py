"""CLUSTER SLOTS, SHARDS, NODES and INFO for any number of groups, from routing and what the node sees of its own.

Rule: pure; shapes and words are the cluster protocol's, and tools parse them. A witness is never shown: clients would
dial it. Sources: cluster.c addNodeToNodeReply(), cluster_legacy.c clusterGenNodeDescription(), genClusterInfoString().
"""

from __future__ import annotations

from typing import Final

from durakv.cluster.gossip.peers import ALIVE, DEAD, SUSPECT, Peers
from durakv.cluster.gossip.routing import FAIL, LEARNER, LOADING, ONLINE, VOTER, WITNESS, GroupFacts, Member, Routing
from durakv.cluster.names import node_name, shard_name
from durakv.keyspace.slots import SLOTS
from durakv.resp.types import Map, Reply

_HEALTH: Final = {ONLINE: b"online", FAIL: b"fail", LOADING: b"loading"}
# A host name asked for and not configured.
_NO_HOSTNAME: Final = b"?"


class Viewer:
    """Who is shown the tables, and what this node knows better than its routing does.

    ``endpoint_type``: ip, hostname or unknown-endpoint. ``tls``: the client came over TLS, so it is told TLS ports.
    ``health`` and ``applied``: of members of the own group, by node, as they are now. ``moving``: slot, whether it
    leaves this group, and the name of the other group's leader. ``up``: whether this node's group can serve.
    ``leader``: the own group's by its log's protocol, which knows before gossip does and is what MOVED names; 0 when
    there is none.
    """

    def __init__(self, cluster_id: str, node_id: int, group: int) -> None:
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.group = group
        self.endpoint_type = "ip"
        self.tls = False
        self.up = True
        self.leader = 0
        self.health: dict[int, int] = {}
        self.applied: dict[int, int] = {}
        self.moving: list[tuple[int, bool, str]] = []
        self.messages_sent = 0
        self.messages_received = 0

    def key(self) -> tuple[object, ...]:
        """Equal keys show equal tables, but for how far members have applied."""
        return (self.node_id, self.endpoint_type, self.tls, self.up, self.leader, tuple(sorted(self.health.items())),
                tuple(self.moving))  # fmt: skip


class TableCache:
    """Tables for as long as they show the same: in a large cluster all clients ask at once when something moves.

    Holds one for each kind of client (over TLS or not).
    """

    def __init__(self) -> None:
        self.made: dict[bool, tuple[tuple[object, ...], Tables]] = {}
        self.misses = 0

    def get(self, routing: Routing, peers: Peers, viewer: Viewer) -> Tables:
        """Tables as of now."""
        key = (routing.changes, peers.digest, viewer.key())
        held = self.made.get(viewer.tls)
        if held is not None and held[0] == key:
            held[1].viewer = viewer
            return held[1]
        self.misses += 1
        tables = Tables(routing, peers, viewer)
        self.made[viewer.tls] = (key, tables)
        return tables


class Tables:
    """All tables at one moment. Get them from a TableCache."""

    def __init__(self, routing: Routing, peers: Peers, viewer: Viewer) -> None:
        self.routing = routing
        self.peers = peers
        self.viewer = viewer
        self.runs = routing.slots_by_group()
        self.groups = [routing.facts[g] for g in sorted(routing.facts) if not routing.facts[g].removed]
        self.shown = {facts.group: self._shown(facts) for facts in self.groups}
        self._names: dict[int, str] = {}
        self._slots: list[Reply] | None = None
        self._nodes = b""

    # -- facts -------------------------------------------------------------------------------------------------------

    def leader(self, facts: GroupFacts) -> int:
        """Whom this node shows as the group's leader, by node; 0 when it has no members."""
        mine = self.viewer.leader
        if facts.group == self.viewer.group and any(m.node_id == mine for m in facts.members):
            return mine
        return leader_shown(facts)

    def _shown(self, facts: GroupFacts) -> list[Member]:
        leader = self.leader(facts)
        full = [m for m in facts.members if m.kind != WITNESS]
        return sorted(full, key=lambda m: (m.node_id != leader, m.node_id))

    def name(self, node_id: int) -> str:
        """40 hex digits."""
        name = self._names.get(node_id)
        if name is None:
            name = self._names[node_id] = node_name(self.viewer.cluster_id, node_id)
        return name

    def health(self, m: Member) -> int:
        """ONLINE, FAIL or LOADING: what this node sees itself, else what the member's leader says."""
        seen = self.viewer.health.get(m.node_id)
        if seen is not None:
            return seen
        if m.node_id != self.viewer.node_id and self.peers.state(m.node_id) == DEAD:
            return FAIL
        return m.health

    def port(self, m: Member) -> int:
        """The port for this client; the other kind when there is but that."""
        if self.viewer.tls:
            return m.tls_port or m.port
        return m.port or m.tls_port

    def endpoint(self, m: Member) -> bytes | None:
        """What clients should connect to; None: the host they already use."""
        kind = self.viewer.endpoint_type
        if kind == "unknown-endpoint":
            return None
        if kind == "hostname":
            return m.hostname.encode() or _NO_HOSTNAME
        return m.host.encode()

    # -- replies -----------------------------------------------------------------------------------------------------

    def slots(self) -> Reply:
        """CLUSTER SLOTS: [start, end, [endpoint, port, name, metadata], ...], leaders first; failed nodes left out.

        Not to be changed by the caller.
        """
        if self._slots is None:
            self._slots = self._make_slots()
        return self._slots

    def _make_slots(self) -> list[Reply]:
        out: list[Reply] = []
        nodes: dict[int, list[Reply]] = {}
        for facts in self.groups:
            leader = self.leader(facts)
            serving = [m for m in self.shown[facts.group] if m.node_id == leader or self.health(m) == ONLINE]
            nodes[facts.group] = [self._slots_node(m) for m in serving]
        runs = [(first, last, group) for group, owned in self.runs.items() for first, last in owned]
        for first, last, group in sorted(runs):
            serving_nodes = nodes.get(group)
            if serving_nodes:
                out.append([first, last, *serving_nodes])
        return out

    def _slots_node(self, m: Member) -> Reply:
        kind = self.viewer.endpoint_type
        metadata: list[Reply] = []
        if kind != "ip":
            metadata += [b"ip", m.host.encode()]
        if kind != "hostname" and m.hostname:
            metadata += [b"hostname", m.hostname.encode()]
        return [self.endpoint(m), self.port(m), self.name(m.node_id).encode(), Map(metadata)]

    def shards(self) -> Reply:
        """CLUSTER SHARDS: a map for each group, one without slots included."""
        out: list[Reply] = []
        for facts in self.groups:
            flat: list[Reply] = []
            for first, last in self.runs.get(facts.group, []):
                flat += [first, last]
            leader = self.leader(facts)
            nodes: list[Reply] = [self._shards_node(m, leader) for m in self.shown[facts.group]]
            name = shard_name(self.viewer.cluster_id, facts.group)
            out.append(Map([b"slots", flat, b"nodes", nodes, b"id", name.encode()]))
        return out

    def _shards_node(self, m: Member, leader: int) -> Reply:
        endpoint = self.endpoint(m)
        flat: list[Reply] = [b"id", self.name(m.node_id).encode()]
        if m.port:
            flat += [b"port", m.port]
        if m.tls_port:
            flat += [b"tls-port", m.tls_port]
        flat += [b"ip", m.host.encode(), b"endpoint", b"" if endpoint is None else endpoint]
        if m.hostname:
            flat += [b"hostname", m.hostname.encode()]
        role = b"master" if m.node_id == leader else b"replica"
        applied = self.viewer.applied.get(m.node_id, m.applied_index)
        flat += [b"role", role, b"replication-offset", applied, b"health", _HEALTH[self.health(m)]]
        if m.zone:
            flat += [b"availability-zone", m.zone.encode()]
        return Map(flat)

    def nodes(self) -> bytes:
        """CLUSTER NODES: a line for each node, groups ascending, leaders first."""
        if not self._nodes:
            lines = [self.node_line(m, facts) for facts in self.groups for m in self.shown[facts.group]]
            self._nodes = "".join(line + "\n" for line in lines).encode()
        return self._nodes

    def node_line(self, m: Member, facts: GroupFacts) -> str:
        """A line of CLUSTER NODES. The epoch is the group's term."""
        leader = self.leader(facts)
        me = m.node_id == self.viewer.node_id
        failed = self.health(m) == FAIL
        flags = ("myself," if me else "") + ("master" if m.node_id == leader else "slave")
        if failed:
            flags += ",fail"
        elif not me and self.peers.state(m.node_id) == SUSPECT:
            flags += ",fail?"
        of = "-" if m.node_id == leader or not leader else self.name(leader)
        link = "disconnected" if failed else "connected"
        address = f"{m.host}:{self.port(m)}@{m.peer_port}" + (f",{m.hostname}" if m.hostname else "")
        line = f"{self.name(m.node_id)} {address} {flags} {of} 0 0 {facts.term} {link}"
        if m.node_id == leader:
            for first, last in self.runs.get(facts.group, []):
                line += f" {first}" if first == last else f" {first}-{last}"
        if me:
            for slot, leaves, other in self.viewer.moving:
                line += f" [{slot}->-{other}]" if leaves else f" [{slot}-<-{other}]"
        return line

    def info(self) -> list[tuple[str, object]]:
        """CLUSTER INFO, name and value."""
        counted = {ALIVE: 0, SUSPECT: 0, DEAD: 0}
        serving = 0
        for group, runs in self.runs.items():
            count = sum(last - first + 1 for first, last in runs)
            counted[self._group_state(group)] += count
            serving += 1
        assigned = sum(counted.values())
        complete = assigned == SLOTS and counted[DEAD] == 0
        mine = self.routing.facts.get(self.viewer.group)
        return [
            ("cluster_state", "ok" if self.viewer.up and complete else "fail"), ("cluster_slots_assigned", assigned),
            ("cluster_slots_ok", counted[ALIVE]), ("cluster_slots_pfail", counted[SUSPECT]),
            ("cluster_slots_fail", counted[DEAD]),
            ("cluster_known_nodes", sum(len(members) for members in self.shown.values())), ("cluster_size", serving),
            ("cluster_current_epoch", self.routing.highest_epoch()),
            ("cluster_my_epoch", 0 if mine is None else mine.term),
            ("cluster_stats_messages_sent", self.viewer.messages_sent),
            ("cluster_stats_messages_received", self.viewer.messages_received),
            ("total_cluster_links_buffer_limit_exceeded", 0),
        ]  # fmt: skip

    def _group_state(self, group: int) -> int:
        """Of the slots of a group: in doubt without a leader that seems alive, failed without a majority of voters."""
        if group == self.viewer.group:
            return ALIVE if self.viewer.up else SUSPECT
        facts = self.routing.facts.get(group)
        if facts is None or facts.removed:
            return DEAD
        voters = [m for m in facts.members if m.kind != LEARNER]
        living = [m for m in voters if self.peers.state(m.node_id) != DEAD and m.health != FAIL]
        if 2 * len(living) <= len(voters):
            return DEAD
        known = any(m.node_id == facts.leader for m in living)
        return ALIVE if known and self.peers.state(facts.leader) == ALIVE else SUSPECT


def leader_shown(facts: GroupFacts) -> int:
    """The leader; without one the lowest voter, so that clients have somebody to ask and all nodes name the same."""
    full = sorted(m.node_id for m in facts.members if m.kind != WITNESS)
    if facts.leader in full:
        return facts.leader
    voters = sorted(m.node_id for m in facts.members if m.kind == VOTER) or full
    return voters[0] if voters else 0
