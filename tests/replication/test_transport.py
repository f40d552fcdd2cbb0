"""Frames and peer links: damage, strangers and half frames close a stream; links come back by themselves."""

from __future__ import annotations

from random import Random
from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durakv.replication.transport import (
    ANYBODY,
    FRAME_BYTES_MAX,
    KIND_GOSSIP,
    KIND_HELLO,
    KIND_RAFT,
    KIND_SHOUT,
    KIND_SLOTS,
    LANE_BULK,
    LANE_CONTROL,
    REMOVED,
    SHOUT_BYTES_QUEUED,
    SHOUT_BYTES_WAITING,
    FrameReader,
    Transport,
    frame,
)
from durakv.world.ports import Stream
from tests.replication.sim import Fabric, HostNetwork, NodeClock, Time

CLUSTER = b"c" * 16


@given(st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=8), st.integers(0, 2**32))
def test_frames_survive_any_cutting(frames: list[tuple[int, bytes]], seed: int) -> None:
    data = b"".join(frame(kind, payload) for kind, payload in frames)
    random, reader, out = Random(seed), FrameReader(), []
    while data:
        size = random.randint(1, len(data))
        out += reader.feed(data[:size])
        data = data[size:]
    assert out == frames


@given(st.binary(min_size=1, max_size=30), st.data())
def test_any_changed_byte_is_noticed(payload: bytes, data: st.DataObject) -> None:
    wire = bytearray(frame(KIND_RAFT, payload))
    at = data.draw(st.integers(4, len(wire) - 1))
    wire[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="checksum"):
        FrameReader().feed(bytes(wire))


def test_half_a_frame_waits_and_an_oversize_one_is_refused_at_once() -> None:
    reader = FrameReader()
    wire = frame(KIND_RAFT, b"payload")
    assert reader.feed(wire[:-1]) == []
    assert reader.feed(wire[-1:] + wire[:3]) == [(KIND_RAFT, b"payload")]
    assert reader.feed(wire[3:]) == [(KIND_RAFT, b"payload")]
    with pytest.raises(ValueError, match="frame of"):
        reader.feed(pack("<IIB", FRAME_BYTES_MAX + 1, 0, 1))


class Peer:
    """A Transport and what it reported."""

    def __init__(self, fabric: Fabric, node_id: int, cluster: bytes = CLUSTER, group: int = 1) -> None:
        self.frames: list[tuple[int, int, bytes]] = []
        self.down: list[int] = []
        self.refused: list[str] = []
        clock = NodeClock(fabric.time, 0)
        self.transport = Transport(
            HostNetwork(fabric, f"n{node_id}"), clock, cluster, node_id,
            lambda from_id, kind, payload: self.frames.append((from_id, kind, payload)),
            self.down.append, self.refused.append, group=group,
        )  # fmt: skip
        self.transport.listen("any", 1)


def fabric() -> Fabric:
    return Fabric(Time(), Random(1))


def test_a_node_that_knows_no_addresses_yet_dials_its_callers_back() -> None:
    net = fabric()
    a, b = Peer(net, 1), Peer(net, 2)
    a.transport.set_peers({1: ("n1", 1), 2: ("n2", 1)})
    net.time.run(200)
    assert a.transport.connected(2) and b.transport.connected(1)


def test_a_caller_whom_the_membership_does_not_name_is_dialled_back_while_it_calls() -> None:
    """A node whose log ends before its leader joined could never answer that leader otherwise."""
    net = fabric()
    a, b, c = Peer(net, 1), Peer(net, 2), Peer(net, 3)
    b.transport.set_peers({2: ("n2", 1), 3: ("n3", 1)})
    a.transport.set_peers({1: ("n1", 1), 2: ("n2", 1)})
    net.time.run(200)
    assert b.transport.connected(1)
    b.transport.set_peers({2: ("n2", 1), 3: ("n3", 1)})
    net.time.run(200)
    assert b.transport.connected(1), "another membership that does not name it changes nothing"
    b.transport.set_peers({1: ("n1", 1), 2: ("n2", 1)})
    b.transport.set_peers({2: ("n2", 1)})
    net.time.run(200)
    assert not b.transport.connected(1), "once named, it goes with the membership"
    c.transport.set_peers({2: ("n2", 1)})
    b.transport.set_peers({})
    net.time.run(1000)
    assert b.transport.connected(3)
    c.transport.set_peers({})
    net.time.run(3000)
    assert 3 not in b.transport.lanes, "who no longer calls is not dialled"


def test_lanes_connect_deliver_and_come_back() -> None:
    net = fabric()
    a, b = Peer(net, 1), Peer(net, 2)
    assert not a.transport.send(2, LANE_BULK, KIND_RAFT, b"nobody")
    a.transport.set_peers({1: ("n1", 1), 2: ("n2", 1)})
    net.time.run(50)
    assert a.transport.connected(2) and b.transport.connected(1)
    assert a.transport.send(2, LANE_CONTROL, KIND_RAFT, b"x" * 100)
    net.time.run(50)
    assert b.frames == [(1, KIND_RAFT, b"x" * 100)]
    net.reset(lambda end: end.host == "n1")
    net.time.run(2000)
    assert set(a.down) == {2} and set(b.down) == {1}
    assert a.transport.connected(2)
    b.transport.cut(1)
    net.time.run(20)
    assert a.down.count(2) >= 2 and not a.transport.connected(2)
    net.time.run(2000)
    assert a.transport.connected(2)
    a.transport.set_peers({})
    net.time.run(100)
    downs = len(a.down)
    net.time.run(5000)
    assert not net.ends and len(a.down) == downs, "a peer that is not wanted is not dialled"


@pytest.mark.parametrize(("cluster", "node_id", "text"), [(b"d" * 16, 3, "belongs to cluster"), (CLUSTER, 2, "calls")])
def test_strangers_are_refused(cluster: bytes, node_id: int, text: str) -> None:
    net = fabric()
    right = Peer(net, 2)
    stranger = Peer(net, 9, cluster)
    stranger.transport.node_id = 9 if node_id == 3 else 2
    stranger.transport.set_peers({2 if node_id == 3 else 7: ("n2", 1)})
    net.time.run(40)
    assert right.refused and text in right.refused[0]
    assert not right.frames and not right.down


@pytest.mark.parametrize("first", [frame(KIND_RAFT, b"x"), frame(KIND_HELLO, b"short"), b"GET / HTTP/1.1\r\n\r\n" * 9])
def test_a_stream_that_does_not_say_hello_is_closed(first: bytes) -> None:
    net = fabric()
    right = Peer(net, 2)

    class Raw:
        opened: Stream | None = None
        closed = False

        def on_open(self, stream: Stream) -> None:
            self.opened = stream
            stream.write(first)

        def on_data(self, data: bytes) -> None: ...

        def on_close(self, error: Exception | None) -> None:
            self.closed = True

    raw = Raw()
    net.connect("x", "n2", 1, raw, 100)
    net.time.run(100)
    assert raw.opened is not None and raw.closed and right.refused and not right.frames


def test_groups_hear_of_each_other_what_concerns_both() -> None:
    net = fabric()
    a, b = Peer(net, 1), Peer(net, 2, group=2)
    heard: list[tuple[int, bytes]] = []

    def gossip(payload: bytes, stream: Stream | None) -> None:
        heard.append((2, payload))
        assert stream is not None
        stream.write(frame(KIND_GOSSIP, b"answer"))

    b.transport.on_gossip = gossip
    a.transport.on_gossip = lambda payload, _: heard.append((1, payload))
    # By its address alone, and before the link is open.
    assert not a.transport.send_other(ANYBODY, ("n2", 1), LANE_CONTROL, KIND_GOSSIP, b"hello")
    net.time.run(200)
    assert heard == [(2, b"hello"), (1, b"answer")]
    # Nobody is dialled back for that, and nobody counts as a peer.
    assert b.transport.lanes == {}
    assert not a.transport.connected(2)
    assert a.transport.send_other(2, ("n2", 1), LANE_BULK, KIND_SLOTS, b"x") is False
    net.time.run(200)
    assert b.frames == [(1, KIND_SLOTS, b"x")]
    assert a.transport.send_other(2, ("n2", 1), LANE_BULK, KIND_RAFT, b"not for other groups")
    net.time.run(200)
    assert b.frames == [(1, KIND_SLOTS, b"x")]
    assert any("frame of kind 1 from group 1" in text for text in b.refused)
    # Members only are told that they are no members any more.
    b.transport.answer_strangers((2,), REMOVED.pack(7))
    net.time.run(200)
    assert a.frames == []
    assert a.refused == []
    a.transport.leave_other(("n2", 1))
    net.time.run(200)
    assert not a.transport.others


def test_what_is_published_waits_for_a_link_that_opens_within_bounds() -> None:
    net = fabric()
    a, b = Peer(net, 1), Peer(net, 2, group=2)
    heard: list[bytes] = []
    b.transport.on_shout = heard.append
    place = ("n2", 1)
    sent = [b"%d" % n + b"x" * 1000 for n in range(1200)]
    taken = [payload for payload in sent if a.transport.shout(2, place, frame(KIND_SHOUT, payload))]
    assert taken == sent[: len(taken)] and sum(map(len, taken)) <= SHOUT_BYTES_WAITING < sum(map(len, sent))
    net.time.run(200)
    assert heard == taken
    assert a.transport.shout(2, place, frame(KIND_SHOUT, b"later"))
    net.time.run(200)
    assert heard[-1] == b"later"
    assert b.frames == [] and b.refused == []

    # Of a node that cannot be reached nothing is kept.
    net.cut("n1", "n2")
    net.reset(lambda end: end.host == "n1")
    net.time.run(200)
    assert a.transport.shout(2, place, frame(KIND_SHOUT, b"lost"))
    net.time.run(5000)
    net.heal()
    net.time.run(5000)
    assert heard[-1] == b"later"
    assert a.transport.shout(2, place, frame(KIND_SHOUT, b"again"))
    net.time.run(200)
    assert heard[-1] == b"again"


def test_a_node_that_does_not_read_loses_what_is_published(monkeypatch: pytest.MonkeyPatch) -> None:
    net = fabric()
    a, b = Peer(net, 1), Peer(net, 2, group=2)
    b.transport.on_shout = lambda payload: None
    a.transport.shout(2, ("n2", 1), frame(KIND_SHOUT, b"first"))
    net.time.run(200)
    stream = a.transport.others["n2", 1][LANE_CONTROL].stream
    assert stream is not None
    monkeypatch.setattr(type(stream), "write_buffer_bytes", lambda self: SHOUT_BYTES_QUEUED)
    sent = a.transport.sent
    assert not a.transport.shout(2, ("n2", 1), frame(KIND_SHOUT, b"too much"))
    assert a.transport.sent == sent
