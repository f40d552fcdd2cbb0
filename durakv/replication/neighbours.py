"""This node among all nodes of a cluster of groups: what it tells of its own group, and what it hears of others.

Gossip spreads hints: who owns a slot, who leads a group, who is alive. What this node's log says goes in, redirections
and the tables of CLUSTER come out. Rule: nothing here decides anything, and only a leader describes its group.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final

from durakv.cluster.gossip.about import About, decode_about
from durakv.cluster.gossip.gossip import Gossip, GossipLimits, Outgoing
from durakv.cluster.gossip.routing import FAIL, LEARNER, LOADING, ONLINE, VOTER, WITNESS, GroupFacts, Member, Routing
from durakv.cluster.gossip.tables import TableCache, Tables, Viewer
from durakv.cluster.handoff.entries import Runs
from durakv.cluster.handoff.jobs import Target
from durakv.cluster.names import node_name, shard_name
from durakv.replication.rebalancing import Rebalancing
from durakv.replication.transport import (
    ANYBODY,
    KIND_ABOUT,
    KIND_GOSSIP,
    KIND_SHOUT,
    KIND_SLOTS,
    LANE_BULK,
    LANE_CONTROL,
    frame,
)
from durakv.resp.errors import CommandError

if TYPE_CHECKING:
    from durakv.replication.lease_node import LeaseNode
    from durakv.replication.node import GroupNode
    from durakv.world.ports import Rng, Stream

_TICK_MS: Final = 200
_SHOUT: Final = Struct("<I")
_ABOUT_MS: Final = 1000
# What a group's leader knows of its members' progress is told with the next change of something else.
_LOADING_LAG: Final = 1024


class Neighbours:
    """One node's. ``seeds``: host and peer port of nodes to ask as long as only the own group is known."""

    def __init__(self, node: GroupNode | LeaseNode, rng: Rng, seeds: list[tuple[str, int]]) -> None:
        self.node = node
        self.routing = Routing()
        transport = node.transport
        self.gossip = Gossip(GossipLimits(), transport.cluster_id, node.node_id, self.routing, rng, seeds)
        self.tables = TableCache()
        self.rebalancing = Rebalancing(self)
        transport.on_gossip = self._heard
        transport.on_shout = self._heard_shout
        transport.on_about = self._heard_about
        # What other members said of themselves, for when this node leads; and when to say so to the leader again.
        self._about: dict[int, About] = {}
        self._next_about_ms = 0
        node.engine.pubsub.shout = self._shout
        # Messages that could not be sent to a node of another group.
        self.shouts_lost = 0
        node.engine.places.elsewhere = self.elsewhere
        node.engine.places.handoff.cluster_id = transport.cluster_id
        node.engine.moving.cluster = self
        # What was told last: the slots, and the group as of which version.
        self._slots_told: Runs = ()
        self._group_told: tuple[object, ...] = ()
        self._sequence = 0

    def start(self) -> None:
        """Begin."""
        self._tick()

    def elsewhere(self, slot: int) -> tuple[str, int] | None:
        """See Places."""
        there = self.routing.leader_of(slot)
        if there is None or self.routing.groups[slot] == self.node.engine.places.state.group:
            return None
        return there.host, there.port

    def tables_for(self, tls: bool) -> Tables:
        """The tables of CLUSTER as this node sees them now."""
        node = self.node
        settings = node.engine.settings
        self._tell()
        viewer = Viewer(node.transport.cluster_id.hex(), node.node_id, node.engine.places.state.group)
        viewer.endpoint_type = str(settings.cluster_preferred_endpoint_type)
        viewer.tls = tls
        viewer.up = node.leader_id != 0
        viewer.leader = node.leader_id
        viewer.applied = {node.node_id: node.engine.applier.applied}
        if node.leading:
            for peer in node.core.status().peers:
                viewer.applied.setdefault(peer.node, peer.match)
        viewer.health = {node.node_id: LOADING if node.loading_from else ONLINE}
        viewer.messages_sent, viewer.messages_received = self.gossip.sent, self.gossip.received
        return self.tables.get(self.routing, self.gossip.peers, viewer)

    # -- slots that move -----------------------------------------------------------------------------------------------

    def send_slots(self, group: int, blob: bytes) -> None:
        """See engine/moving.py."""
        facts = self.routing.facts.get(group)
        for member in () if facts is None else facts.members:
            assert facts is not None
            if member.node_id == facts.leader and facts.leader:
                address = (member.host, member.peer_port)
                self.node.transport.send_other(member.node_id, address, LANE_BULK, KIND_SLOTS, blob)

    def slots_moved(self, group: int, runs: Runs, epochs_up: int) -> None:
        """See engine/moving.py."""
        for first, last, epoch in runs:
            self.gossip.learn_slots(first, last, epoch + epochs_up, group)

    def owner_of(self, slot: int) -> int:
        """See engine/moving.py."""
        return self.routing.groups[slot]

    def node_named(self, name: bytes) -> Target | None:
        """See engine/moving.py."""
        self._tell()
        cluster_id = self.node.transport.cluster_id.hex()
        for group, facts in self.routing.facts.items():
            for member in facts.members:
                if node_name(cluster_id, member.node_id).encode() == name.lower():
                    return Target(group, witness=member.kind == WITNESS)
        return None

    def leader_name(self, group: int) -> bytes:
        """See engine/moving.py."""
        facts = self.routing.facts.get(group)
        leader = 0 if facts is None else facts.leader
        return node_name(self.node.transport.cluster_id.hex(), leader).encode() if leader else b""

    def forget_shard(self, name: bytes) -> None:
        """A group that owns nothing is gone for good: tell everybody. Raises CommandError."""
        self._tell()
        cluster_id = self.node.transport.cluster_id.hex()
        for group, facts in self.routing.facts.items():
            if shard_name(cluster_id, group).encode() != name.lower() or facts.removed:
                continue
            if group == self.node.engine.places.state.group:
                raise CommandError("ERR this node belongs to that shard; ask a node of a shard that stays")
            count = sum(1 for owner in self.routing.groups if owner == group)
            if count:
                raise CommandError(f"ERR the shard owns {count} slots; move them with CLUSTER MIGRATESLOTS first")
            gone = GroupFacts(group, facts.term, facts.config_index, facts.sequence, 0, [], removed=True)
            self.gossip.learn_group(gone, self.now_ms())
            return
        raise CommandError(f"ERR Unknown shard {name.decode('utf-8', 'backslashreplace')}; CLUSTER SHARDS lists all")

    # -- what this node knows first-hand -------------------------------------------------------------------------------

    def _tell(self) -> None:
        places = self.node.engine.places
        if not places.is_known():
            return
        state = places.state
        runs = state.owned_runs()
        # The same object as long as nothing moved, however much of a migration is applied; then what is new of it.
        if runs is not self._slots_told:
            told = dict.fromkeys(self._slots_told)
            self._slots_told = runs
            for run in runs:
                if run not in told:
                    self.gossip.learn_slots(*run, state.group)
        self._tell_group(state.group)

    def _tell_group(self, group: int) -> None:
        node = self.node
        known = self.routing.facts.get(group)
        if not node.leading:
            # At first every node knows no more than what its log says; whoever leads knows better.
            if known is None and node.members.book:
                self.gossip.learn_group(self._facts(group, 0, 0, []), self.now_ms())
            self._group_told = ()
            return
        health = self._health()
        described = tuple(self._about_of(node_id).key() for node_id in node.members.book)
        term, config_index = node.reign()
        told: tuple[object, ...] = (term, config_index, tuple(health), described)
        if told == self._group_told:
            return
        if not self._group_told or self._group_told[0] != term:
            self._sequence = 0
        self._sequence += 1
        self._group_told = told
        self.gossip.learn_group(self._facts(group, self._sequence, node.node_id, health), self.now_ms())

    def _facts(self, group: int, sequence: int, leader: int, health: list[tuple[int, int]]) -> GroupFacts:
        node = self.node
        membership = node.membership()
        state = dict(health)
        members: list[Member] = []
        for node_id, address in sorted(node.members.book.items()):
            if node_id not in membership.members():
                continue
            about = self._about_of(node_id)
            members.append(Member(
                node_id, address.host, address.client_port, address.peer_port,
                kind=LEARNER if node_id in membership.learners else VOTER, health=state.get(node_id, ONLINE),
                tls_port=about.tls_port, hostname=about.hostname, zone=about.zone,
            ))  # fmt: skip
        witness = node.members.witness
        if witness is not None:
            members.append(Member(witness[0], witness[1], 0, 0, kind=WITNESS))
        if not leader:
            # Whatever a leader ever said is newer: a node that starts from its checkpoint counts that as its last
            # change of members, and would be believed rather than the leader of its term.
            return GroupFacts(group, 0, 0, sequence, 0, members)
        term, config_index = node.reign()
        return GroupFacts(group, term, config_index, sequence, leader, members)

    def _about_of(self, node_id: int) -> About:
        """What a member says of itself, or what an earlier leader was told of it."""
        if node_id == self.node.node_id:
            settings = self.node.engine.settings
            tls_port = int(settings.cluster_announce_tls_port or settings.tls_port)
            return About(tls_port, str(settings.cluster_announce_hostname), str(settings.availability_zone))
        said = self._about.get(node_id)
        if said is not None:
            return said
        known = self.routing.members.get(node_id)
        return About() if known is None else About(known.tls_port, known.hostname, known.zone)

    def _tell_leader(self) -> None:
        """The leader describes this node otherwise than it is: tell it, until it does."""
        node = self.node
        known = self.routing.members.get(node.node_id)
        if node.leading or known is None or node.leader_id not in node.transport.lanes:
            return
        about = self._about_of(node.node_id)
        now_ms = self.now_ms()
        if about.key() != (known.tls_port, known.hostname, known.zone) and now_ms >= self._next_about_ms:
            self._next_about_ms = now_ms + _ABOUT_MS
            node.transport.send(node.leader_id, LANE_CONTROL, KIND_ABOUT, about.encode())

    def _heard_about(self, from_id: int, payload: bytes) -> None:
        self._about[from_id] = decode_about(payload)

    def _health(self) -> list[tuple[int, int]]:
        """Of each full member, as its leader sees it."""
        node = self.node
        out: list[tuple[int, int]] = []
        lag = {peer.node: node.core.log.commit - peer.match for peer in node.core.status().peers}
        for node_id in sorted(node.members.book):
            if node_id == node.node_id:
                out.append((node_id, ONLINE))
            elif not node.transport.connected(node_id):
                out.append((node_id, FAIL))
            else:
                learning = node_id in node.membership().learners and lag.get(node_id, 0) > _LOADING_LAG
                out.append((node_id, LOADING if learning else ONLINE))
        return out

    # -- what is published -----------------------------------------------------------------------------------------

    def _shout(self, channel: bytes, message: bytes) -> None:
        """To every node of every other group, as far as its link can take it."""
        group = self.node.engine.places.state.group
        data = b""
        for node_id, member in self.routing.members.items():
            if self.routing.group_of_node[node_id] == group or node_id in self.node.transport.lanes:
                continue
            data = data or frame(KIND_SHOUT, _SHOUT.pack(len(channel)) + channel + message)
            if not self.node.transport.shout(node_id, (member.host, member.peer_port), data):
                self.shouts_lost += 1

    def _heard_shout(self, payload: bytes) -> None:
        (size,) = _SHOUT.unpack_from(payload)
        at = _SHOUT.size + size
        if at > len(payload):
            raise ValueError(f"a channel of {size} bytes in a frame of {len(payload)}")
        self.node.engine.pubsub.deliver(payload[_SHOUT.size : at], payload[at:])

    # -- messages ------------------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        """Of a clock that never steps back."""
        return self.node.clock.monotonic_ns() // 1_000_000

    def _tick(self) -> None:
        self.node.clock.call_later(_TICK_MS, self._tick)
        if self.node.stopped:
            return
        self._tell()
        self._tell_leader()
        self.rebalancing.tick(self.now_ms())
        self._send(self.gossip.tick(self.now_ms()), None)

    def _heard(self, payload: bytes, stream: Stream | None) -> None:
        self._send(self.gossip.receive(payload, self.now_ms()), stream)

    def _send(self, messages: list[Outgoing], stream: Stream | None) -> None:
        transport = self.node.transport
        for message in messages:
            if not message.host:
                if stream is not None:
                    stream.write(frame(KIND_GOSSIP, message.data))
            elif message.node_id in transport.lanes:
                transport.send(message.node_id, LANE_CONTROL, KIND_GOSSIP, message.data)
            else:
                address = (message.host, message.port)
                transport.send_other(message.node_id or ANYBODY, address, LANE_CONTROL, KIND_GOSSIP, message.data)
