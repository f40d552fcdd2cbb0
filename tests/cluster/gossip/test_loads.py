"""How loaded groups are: told to everybody, the newest only, and forgotten when nobody says so any more."""

from __future__ import annotations

import pytest

from durakv.cluster.gossip.codec import NEWS, GossipError, Message, decode, encode
from durakv.cluster.gossip.loads import LOAD_BYTES, GroupLoad, Loads
from tests.cluster.gossip.net import CLUSTER, Net


def load(group: int, term: int, sequence: int, cpu: int = 0) -> GroupLoad:
    made = GroupLoad(group, term, sequence)
    made.cpu = cpu
    return made


def test_everybody_hears_of_a_load_and_of_the_newest_only() -> None:
    net = Net(6, 3, seed=5)
    net.run(2000)
    net.nodes[1].learn_load(load(1, 3, 1, 100), net.now_ms)
    net.nodes[2].learn_load(load(1, 2, 9, 999), net.now_ms)
    net.run(4000)
    assert [node.loads.known[1].cpu for node in net.nodes.values()] == [100] * len(net.nodes)
    net.nodes[1].learn_load(load(1, 3, 2, 50), net.now_ms)
    net.run(4000)
    assert [node.loads.known[1].cpu for node in net.nodes.values()] == [50] * len(net.nodes)
    # It is news for a while and no difference ever after: a calm cluster says nothing of it.
    assert all(not node.news for node in net.nodes.values())


def test_old_ones_are_forgotten() -> None:
    loads = Loads()
    assert loads.learn(load(2, 1, 1), 1000)
    assert not loads.learn(load(2, 1, 1), 2000)
    assert loads.learn(load(1, 1, 1), 5000)
    assert [known.group for known in loads.fresh(6000, 5000)] == [1, 2]
    assert [known.group for known in loads.fresh(7000, 5000)] == [1]
    assert loads.learn(load(2, 1, 1), 8000)


def test_amounts_beyond_their_fields_are_cut_off() -> None:
    made = load(1, 1, 1, 1 << 70)
    made.inbound, made.memory = 1 << 20, -5
    m = Message(NEWS, 1, 0, 0)
    m.loads = [made]
    back = decode(encode(m, CLUSTER), CLUSTER).loads[0]
    assert (back.cpu, back.inbound, back.memory) == ((1 << 64) - 1, 0xFFFF, 0)


def test_a_load_that_cannot_be_is_refused() -> None:
    m = Message(NEWS, 1, 0, 0)
    m.loads = [load(7, 1, 1)]
    data = bytearray(encode(m, CLUSTER))
    at = len(data) - LOAD_BYTES
    assert data[at] == 7
    for place, value in ((at, 0), (at + 16, 0xFF)):
        damaged = bytearray(data)
        damaged[place] = value
        with pytest.raises(GossipError, match="load of group"):
            decode(bytes(damaged), CLUSTER)
    with pytest.raises(GossipError, match="cut off"):
        decode(bytes(data[:-1]), CLUSTER)
