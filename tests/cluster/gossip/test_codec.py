"""Gossip's bytes: all that is encoded comes back, and no bytes do harm."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from durakv.cluster.gossip.codec import (
    ACK,
    BUCKET_SUMS,
    DELTA,
    DIGEST,
    MESSAGE_BYTES_MAX,
    NEWS,
    GossipError,
    Message,
    decode,
    encode,
    group_bytes,
)
from durakv.cluster.gossip.loads import LOAD_BYTES, GroupLoad
from durakv.cluster.gossip.peers import NodeState
from durakv.cluster.gossip.routing import GroupFacts, LeaderChange, Member, SlotRange
from tests.cluster.gossip.net import CLUSTER, described

u16, u32, u64 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
ids = st.integers(1, 2**32 - 1)
word = st.text(st.sampled_from("abz-.:/09[]_"), max_size=40)
members = st.builds(
    Member, ids, word, u16, u16, kind=st.integers(0, 2), health=st.integers(0, 2), tls_port=u16, hostname=word,
    zone=word, applied_index=u64,
)  # fmt: skip
groups = st.builds(GroupFacts, ids, u64, u64, u32, u32, st.lists(members, max_size=4))
ranges = st.builds(
    lambda a, b, epoch, group: SlotRange(min(a, b), max(a, b), epoch, group),
    st.integers(0, 16383), st.integers(0, 16383), st.integers(1, 2**64 - 1), ids,
)  # fmt: skip
leaders = st.builds(LeaderChange, ids, u64, u64, u32, u32, st.lists(st.integers(0, 2), max_size=5).map(bytes))


@st.composite
def group_loads(draw):
    load = GroupLoad(draw(ids), draw(u64), draw(u32))
    load.healthy, load.draining = draw(st.booleans()), draw(st.booleans())
    load.inbound, load.outbound = draw(u16), draw(u16)
    load.cpu, load.cpu_ten, load.network, load.network_ten, load.memory = [draw(u64) for _ in range(5)]
    load.capacity_cpu, load.capacity_network, load.capacity_memory = [draw(u64) for _ in range(3)]
    return load


states = st.builds(NodeState, ids, u32, st.integers(0, 2))


@st.composite
def messages(draw):
    m = Message(draw(st.sampled_from([DIGEST, ACK, BUCKET_SUMS, DELTA, NEWS])), draw(ids), draw(u32), draw(u32))
    if m.kind == DIGEST:
        m.digests = draw(st.tuples(u64, u64, u64))
    elif m.kind == BUCKET_SUMS:
        m.bucket_sums = tuple(draw(st.lists(u64, min_size=128, max_size=128)))
    elif m.kind == DELTA:
        m.wanted_slots, m.wanted_groups = draw(u64), draw(u64)
    m.slots = draw(st.lists(ranges, max_size=4))
    m.groups = draw(st.lists(groups, max_size=3))
    m.leaders = draw(st.lists(leaders, max_size=3))
    m.nodes = draw(st.lists(states, max_size=4))
    m.loads = draw(st.lists(group_loads(), max_size=2))
    return m


def plain(value):
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (Message, GroupFacts, GroupLoad, LeaderChange, Member, SlotRange, NodeState)):
        names = [name for name in type(value).__slots__ if name != "since_ms"]
        return [(name, plain(getattr(value, name))) for name in names]
    return value


@settings(max_examples=60, deadline=None)
@given(messages())
def test_round_trip(m):
    data = encode(m, CLUSTER)
    assert plain(decode(data, CLUSTER)) == plain(m)
    bare = Message(m.kind, m.sender, m.incarnation, m.sequence)
    bare.digests, bare.bucket_sums = m.digests, m.bucket_sums
    extra = len(data) - len(encode(bare, CLUSTER))
    changes = sum(29 + len(c.health) for c in m.leaders)
    loads = LOAD_BYTES * len(m.loads)
    assert extra == sum(group_bytes(g) for g in m.groups) + changes + 16 * len(m.slots) + 9 * len(m.nodes) + loads


@settings(max_examples=150, deadline=None)
@given(messages(), st.integers(0, 4000), st.integers(0, 255), st.integers(0, 60))
def test_damaged_bytes_are_a_message_or_an_error(m, at, byte, cut):
    data = bytearray(encode(m, CLUSTER))
    data[at % len(data)] = byte
    for mangled in (bytes(data), bytes(data[: len(data) - cut]), bytes(data) + bytes(cut)):
        # Any other exception fails the test.
        with contextlib.suppress(GossipError):
            again = decode(mangled, CLUSTER)
            assert encode(again, CLUSTER) == mangled


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
@example(b"")
def test_noise_is_refused(data):
    with pytest.raises(GossipError):
        decode(data, CLUSTER)


def an_ack():
    return Message(ACK, 3, 0, 0)


def test_other_clusters_are_refused_by_name():
    with pytest.raises(GossipError, match="node 3 belongs to cluster 0001"):
        decode(encode(an_ack(), CLUSTER), bytes(16))


@pytest.mark.parametrize("bad", ["a b", "a,b", "a\nb", "a\x00", "ä"])
def test_names_that_would_change_a_line_of_cluster_nodes(bad):
    m = an_ack()
    m.groups = [GroupFacts(1, 1, 1, 0, 1, [Member(1, "h", 1, 2, hostname=bad)])]
    with pytest.raises(GossipError, match="no name or address"):
        decode(encode(m, CLUSTER), CLUSTER)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.slots.append(SlotRange(5, 16384, 1, 1)),
        lambda m: m.slots.append(SlotRange(6, 5, 1, 1)),
        lambda m: m.slots.append(SlotRange(5, 6, 0, 1)),
        lambda m: m.slots.append(SlotRange(5, 6, 1, 0)),
        lambda m: m.nodes.append(NodeState(1, 0, 3)),
        lambda m: m.nodes.append(NodeState(0, 0, 1)),
        lambda m: m.groups.append(GroupFacts(0, 1, 1, 0, 1, [])),
        lambda m: m.groups.append(described(1, 65)),
        lambda m: m.groups.append(GroupFacts(1, 1, 1, 0, 1, [Member(1, "h", 1, 2, kind=3)])),
        lambda m: m.leaders.append(LeaderChange(1, 1, 1, 0, 1, b"\3")),
        lambda m: m.leaders.append(LeaderChange(0, 1, 1, 0, 1, b"")),
        lambda m: m.leaders.append(LeaderChange(1, 1, 1, 0, 1, bytes(65))),
        lambda m: setattr(m, "kind", 6),
        lambda m: setattr(m, "sender", 0),
    ],
)
def test_impossible_facts_are_refused(spoil):
    m = an_ack()
    spoil(m)
    with pytest.raises(GossipError):
        decode(encode(m, CLUSTER), CLUSTER)


def test_size_is_bounded_before_anything_is_read():
    with pytest.raises(GossipError, match="at most 65536"):
        decode(bytes(MESSAGE_BYTES_MAX + 1), CLUSTER)
