"""Gossip as bytes.

Rule: decode() is total: whatever the bytes, it returns a message or raises GossipError, and allocates no more than a
multiple of the input, which is bounded. Names and addresses it lets through fit into a line of CLUSTER NODES.

Layout, little-endian: magic u16, version u8, kind u8, cluster 16 bytes, sender u32, incarnation u32, sequence u32. Then
by kind: DIGEST three u64; BUCKETS 64 u64 of slots and 64 of groups; DELTA the two u64 bitmaps of buckets it covers.
Then counts u16 of slot ranges, groups, leader changes, node states and loads, and those.
"""

from __future__ import annotations

import struct
from typing import Final

from durakv.cluster.gossip.loads import LOAD_BYTES, GroupLoad, decode_load
from durakv.cluster.gossip.peers import DEAD, NodeState
from durakv.cluster.gossip.routing import BUCKETS, LOADING, WITNESS, GroupFacts, LeaderChange, Member, SlotRange
from durakv.keyspace.slots import SLOTS

DIGEST: Final = 1
ACK: Final = 2
BUCKET_SUMS: Final = 3
DELTA: Final = 4
NEWS: Final = 5

MESSAGE_BYTES_MAX: Final = 65_536
MEMBERS_MAX: Final = 64
CLUSTER_ID_BYTES: Final = 16

_MAGIC: Final = 0x4764
_VERSION: Final = 2
_HEAD: Final = struct.Struct("<HBB16sIII")
_THREE: Final = struct.Struct("<QQQ")
_TWO: Final = struct.Struct("<QQ")
_SUMS: Final = struct.Struct(f"<{2 * BUCKETS}Q")
_COUNTS: Final = struct.Struct("<HHHHH")
_RANGE: Final = struct.Struct("<HHQI")
_GROUP: Final = struct.Struct("<IQQIIBB")
_LEADER: Final = struct.Struct("<IQQIIB")
_MEMBER: Final = struct.Struct("<IBBHHHQBBB")
_NODE: Final = struct.Struct("<IIB")
# Blanks, commas and control characters would change what a line of CLUSTER NODES says.
_NO_NAME: Final = bytes(range(0x21)) + b",\x7f"
# What no message is without.
HEAD_BYTES: Final = _HEAD.size + _SUMS.size + _COUNTS.size


class GossipError(ValueError):
    """The bytes are no message for this node: close the link, and look at whoever sent them."""


class Message:
    """One message. ``digests`` are of slots, groups and node states; bitmaps have bit b set for bucket b."""

    __slots__ = ("bucket_sums", "digests", "groups", "incarnation", "kind", "leaders", "loads", "nodes", "sender",
                 "sequence", "slots", "wanted_groups", "wanted_slots")  # fmt: skip

    def __init__(self, kind: int, sender: int, incarnation: int, sequence: int) -> None:
        self.kind = kind
        self.sender = sender
        self.incarnation = incarnation
        self.sequence = sequence
        self.digests = (0, 0, 0)
        # Slots' buckets, then groups'.
        self.bucket_sums: tuple[int, ...] = ()
        self.wanted_slots = 0
        self.wanted_groups = 0
        self.slots: list[SlotRange] = []
        self.groups: list[GroupFacts] = []
        self.leaders: list[LeaderChange] = []
        self.nodes: list[NodeState] = []
        self.loads: list[GroupLoad] = []


def is_name(text: str) -> bool:
    """Whether gossip carries it as a host, a host name or a zone."""
    return text.isascii() and len(text) < 256 and text.encode().translate(None, _NO_NAME) == text.encode()


# -- sizes, for whoever fills a message ------------------------------------------------------------------------------

RANGE_BYTES: Final = _RANGE.size
NODE_BYTES: Final = _NODE.size


def group_bytes(facts: GroupFacts) -> int:
    """What the facts add to a message."""
    total = _GROUP.size
    for m in facts.members:
        total += _MEMBER.size + len(m.host.encode()) + len(m.hostname.encode()) + len(m.zone.encode())
    return total


def leader_bytes(facts: GroupFacts) -> int:
    """What a change of leader adds."""
    return _LEADER.size + len(facts.members)


# -- encoding --------------------------------------------------------------------------------------------------------


def encode(m: Message, cluster_id: bytes) -> bytes:
    """Bytes of a message; its numbers are within their fields' ranges, or struct.error is raised."""
    parts = [_HEAD.pack(_MAGIC, _VERSION, m.kind, cluster_id, m.sender, m.incarnation, m.sequence)]
    if m.kind == DIGEST:
        parts.append(_THREE.pack(*m.digests))
    elif m.kind == BUCKET_SUMS:
        parts.append(_SUMS.pack(*m.bucket_sums))
    elif m.kind == DELTA:
        parts.append(_TWO.pack(m.wanted_slots, m.wanted_groups))
    parts.append(_COUNTS.pack(len(m.slots), len(m.groups), len(m.leaders), len(m.nodes), len(m.loads)))
    parts += [_RANGE.pack(r.first, r.last, r.epoch, r.group) for r in m.slots]
    for facts in m.groups:
        _encode_group(facts, parts)
    for c in m.leaders:
        parts.append(_LEADER.pack(c.group, c.term, c.config_index, c.sequence, c.leader, len(c.health)))
        parts.append(c.health)
    parts += [_NODE.pack(s.node_id, s.incarnation, s.state) for s in m.nodes]
    parts += [load.encode() for load in m.loads]
    return b"".join(parts)


def _encode_group(g: GroupFacts, parts: list[bytes]) -> None:
    parts.append(_GROUP.pack(g.group, g.term, g.config_index, g.sequence, g.leader, g.removed, len(g.members)))
    for m in g.members:
        host, hostname, zone = m.host.encode(), m.hostname.encode(), m.zone.encode()
        parts.append(_MEMBER.pack(
            m.node_id, m.kind, m.health, m.port, m.tls_port, m.peer_port, m.applied_index, len(host), len(hostname),
            len(zone),
        ))  # fmt: skip
        parts += [host, hostname, zone]


# -- decoding --------------------------------------------------------------------------------------------------------


def decode(data: bytes, cluster_id: bytes) -> Message:
    """The message. Raises GossipError."""
    if len(data) > MESSAGE_BYTES_MAX:
        raise GossipError(f"a message of {len(data)} bytes, at most {MESSAGE_BYTES_MAX}")
    try:
        return _Reader(data).message(cluster_id)
    except struct.error as e:
        raise GossipError(f"cut off after {len(data)} bytes") from e


class _Reader:
    """A walk over one message."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        values = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return values

    def raw(self, size: int) -> bytes:
        raw = self.data[self.at : self.at + size]
        self.at += size
        if len(raw) != size:
            raise GossipError("cut off within a text")
        return raw

    def text(self, size: int) -> str:
        raw = self.raw(size)
        if not raw.isascii() or len(raw.translate(None, _NO_NAME)) != size:
            raise GossipError(f"{raw!r} is no name or address")
        return raw.decode("ascii")

    def message(self, cluster_id: bytes) -> Message:
        magic, version, kind, cluster, sender, incarnation, sequence = _HEAD.unpack_from(self.data, 0)
        self.at = _HEAD.size
        if magic != _MAGIC:
            raise GossipError("not gossip")
        if version != _VERSION:
            raise GossipError(f"gossip version {version}, this node speaks {_VERSION}: upgrade one of the two")
        if cluster != cluster_id:
            raise GossipError(f"node {sender} belongs to cluster {cluster.hex()}, this is {cluster_id.hex()}")
        if not DIGEST <= kind <= NEWS or not sender:
            raise GossipError(f"kind {kind} from node {sender}")
        m = Message(kind, sender, incarnation, sequence)
        if kind == DIGEST:
            slots, groups, nodes = self.take(_THREE)
            m.digests = (slots, groups, nodes)
        elif kind == BUCKET_SUMS:
            m.bucket_sums = self.take(_SUMS)
        elif kind == DELTA:
            m.wanted_slots, m.wanted_groups = self.take(_TWO)
        range_count, group_count, leader_count, node_count, load_count = self.take(_COUNTS)
        for _ in range(range_count):
            m.slots.append(self.slot_range())
        for _ in range(group_count):
            m.groups.append(self.group())
        for _ in range(leader_count):
            m.leaders.append(self.leader())
        for _ in range(node_count):
            node_id, heard, state = self.take(_NODE)
            if state > DEAD or not node_id:
                raise GossipError(f"state {state} of node {node_id}")
            m.nodes.append(NodeState(node_id, heard, state))
        for _ in range(load_count):
            m.loads.append(self.load())
        if self.at != len(self.data):
            raise GossipError(f"{len(self.data) - self.at} bytes too many")
        return m

    def slot_range(self) -> SlotRange:
        first, last, epoch, group = self.take(_RANGE)
        if not first <= last < SLOTS or not epoch or not group:
            raise GossipError(f"slots {first}-{last} of group {group} at epoch {epoch}")
        return SlotRange(first, last, epoch, group)

    def group(self) -> GroupFacts:
        group, term, config_index, sequence, leader, removed, count = self.take(_GROUP)
        if not group or removed > 1 or count > MEMBERS_MAX or (removed and count):
            raise GossipError(f"group {group} with {count} members")
        members = [self.member() for _ in range(count)]
        return GroupFacts(group, term, config_index, sequence, leader, members, removed=bool(removed))

    def load(self) -> GroupLoad:
        try:
            load = decode_load(self.data, self.at)
        except ValueError as e:
            raise GossipError(str(e)) from None
        self.at += LOAD_BYTES
        return load

    def leader(self) -> LeaderChange:
        group, term, config_index, sequence, leader, count = self.take(_LEADER)
        health = self.raw(count)
        if not group or count > MEMBERS_MAX or any(state > LOADING for state in health):
            raise GossipError(f"leader of group {group}")
        return LeaderChange(group, term, config_index, sequence, leader, health)

    def member(self) -> Member:
        node_id, kind, health, port, tls, peer_port, applied, host_size, name_size, zone_size = self.take(_MEMBER)
        if not node_id or kind > WITNESS or health > LOADING:
            raise GossipError(f"node {node_id} of kind {kind} and health {health}")
        host = self.text(host_size)
        hostname = self.text(name_size)
        zone = self.text(zone_size)
        return Member(node_id, host, port, peer_port, kind=kind, health=health, tls_port=tls, hostname=hostname,
                      zone=zone, applied_index=applied)  # fmt: skip
