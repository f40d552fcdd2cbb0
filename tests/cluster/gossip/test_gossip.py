"""News reaches all through losses, duplicates, disorder and partitions; the dead are noticed, the living refute."""

from __future__ import annotations

import pytest

from durakv.cluster.gossip.codec import ACK, BUCKET_SUMS, DIGEST, GossipError, Message, decode, encode
from durakv.cluster.gossip.gossip import Gossip, GossipLimits
from durakv.cluster.gossip.peers import ALIVE, DEAD, SUSPECT, NodeState
from durakv.cluster.gossip.routing import GroupFacts, Member, Routing
from tests.cluster.gossip.net import CLUSTER, Net, SeededRng, described, member, run_of
from tests.cluster.gossip.scale import measure


class Truth:
    """Moves slots and leaders about as the groups' logs would, and watches that no node's table goes back."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.owner: dict[int, tuple[int, int]] = {}
        self.terms = dict.fromkeys(range(1, net.groups + 1), 1)
        self.seen: dict[tuple[int, int], int] = {}

    def move(self) -> None:
        dice, net = self.net.dice, self.net
        first = dice.randrange(16384)
        last = min(16383, first + dice.choice([0, 1, 40, 700]))
        epoch = 1 + max((self.owner.get(s, (1, 0))[0] for s in range(first, last + 1)), default=1)
        group = dice.randint(1, net.groups)
        for slot in range(first, last + 1):
            self.owner[slot] = (epoch, group)
        for m in net.facts[group - 1].members:
            if m.node_id not in net.down:
                net.nodes[m.node_id].learn_slots(first, last, epoch, group)

    def elect(self) -> None:
        dice, net = self.net.dice, self.net
        group = dice.randint(1, net.groups)
        living = [m.node_id for m in net.facts[group - 1].members if m.node_id not in net.down]
        self.terms[group] += 1
        leader = dice.choice(living)
        facts = net.facts[group - 1] = described(group, net.size, term=self.terms[group], leader=leader)
        net.nodes[leader].learn_group(facts, net.now_ms)

    def watch(self) -> None:
        for n, node in self.net.nodes.items():
            for slot in self.owner:
                epoch = node.routing.epochs[slot]
                assert epoch >= self.seen.get((n, slot), 0), "an epoch went back"
                self.seen[n, slot] = epoch

    def check(self) -> None:
        for node in self.net.up():
            assert {s: (node.routing.epochs[s], node.routing.groups[s]) for s in self.owner} == self.owner
            assert {g: node.routing.facts[g].term for g in self.terms} == self.terms
            assert node.routing.conflicts == 0


@pytest.mark.parametrize("seed", range(4))
def test_convergence_under_loss_duplicates_and_reordering(seed):
    net = Net(5, 3, seed, known=False, loss=0.25, copies=0.2, delay_ms=(1, 900))
    truth = Truth(net)
    for _ in range(12):
        truth.move()
        truth.elect()
        net.run(400)
        truth.watch()
    net.loss = 0.0
    net.until(net.agree, 60_000)
    truth.watch()
    truth.check()
    assert all(node.peers.state(n) == ALIVE for node in net.up() for n in net.nodes)


@pytest.mark.parametrize("seed", range(3))
def test_two_halves_find_each_other_again(seed):
    net = Net(4, 3, seed)
    truth = Truth(net)
    net.run(3_000)
    for n in net.nodes:
        net.side[n] = n % 2
    for _ in range(10):
        truth.move()
        net.run(4_000)
        truth.watch()
    assert any(node.peers.state(n) == DEAD for node in net.nodes.values() for n in net.nodes)
    net.side.clear()
    net.until(net.agree, 120_000)
    truth.watch()
    truth.check()
    assert all(node.peers.state(n) == ALIVE for node in net.up() for n in net.nodes)


def test_a_move_reaches_all_within_a_few_ticks():
    net = Net(20, 3, 1).run(3_000)
    net.nodes[58].learn_slots(0, 5, 2, 20)
    took_ms = net.until(lambda: all(n.routing.groups[3] == 20 for n in net.nodes.values()), 5_000, 50)
    assert took_ms <= 1_500
    leader = net.nodes[1].routing.leader_of(3)
    assert leader is not None and leader.node_id == 58


def test_digests_alone_repair_what_news_missed():
    net = Net(6, 3, 1)
    # Learnt by the table behind gossip's back: no news is told.
    net.nodes[1].routing.learn_slots(100, 200, 9, 1)
    net.nodes[18].routing.learn_group(described(6, 3, term=5))
    net.until(net.agree, 60_000)
    assert all(n.routing.epochs[150] == 9 and n.routing.facts[6].term == 5 for n in net.nodes.values())


def test_a_dead_node_is_suspected_then_dead_then_alive_again():
    net = Net(4, 3, 3).run(2_000)
    net.down.add(5)

    def all_say(state):
        return all(n.peers.state(5) == state for n in net.up() if n.node_id != 5)

    net.until(lambda: any(n.peers.state(5) == SUSPECT for n in net.up()), 60_000)
    net.until(lambda: all_say(DEAD), 60_000)
    net.down.discard(5)
    net.until(lambda: all_say(ALIVE), 60_000)
    assert net.nodes[5].incarnation > 0
    net.until(net.agree, 60_000)


def test_a_restarted_node_outranks_its_last_life():
    net = Net(3, 3, 4).run(1_000)
    for node in net.nodes.values():
        node.peers.claim(5, 7, DEAD, net.now_ms)
    net.queue = [row for row in net.queue if row[2] != 5]
    net.start(5, 2, known=False)
    net.until(lambda: all(n.peers.state(5) == ALIVE for n in net.up()), 60_000)
    assert net.nodes[5].incarnation == 8


def test_nobody_dies_of_lost_messages():
    net = Net(4, 3, 5, loss=0.1).run(120_000)
    assert not any(n.peers.state(other) == DEAD for n in net.nodes.values() for other in net.nodes)


def test_removed_nodes_and_groups_are_forgotten_and_stay_so():
    limits = GossipLimits()
    limits.forget_removed_ms = 60_000
    net = Net(3, 3, 6, limits=limits).run(1_000)
    # Node 6 leaves its group; group 3 ends, unseen by node 2, which sleeps meanwhile.
    net.down |= {2, 6, 7, 8, 9}
    net.run(40_000)
    smaller = GroupFacts(2, 3, 9, 0, 4, [member(4), member(5)])
    net.nodes[4].learn_group(smaller, net.now_ms)
    net.nodes[4].learn_slots(*run_of(3, 3), 2, 2)
    net.nodes[4].learn_group(GroupFacts(3, 0, 0, 0, 0, [], removed=True), net.now_ms)
    net.run(20_000)
    assert all(6 not in n.routing.members and 7 not in n.routing.members for n in net.up())
    net.down.discard(2)
    net.until(net.agree, 60_000)
    assert 3 not in net.nodes[2].routing.facts or net.nodes[2].routing.facts[3].removed
    for node in net.up():
        assert 6 not in node.peers.states and 9 not in node.peers.states
    net.run(200_000)
    assert all(3 not in n.routing.facts and n.removed_ms == {} for n in net.up())
    assert net.agree()


def alone(node_id=1, seeds=None):
    routing = Routing()
    routing.learn_group(described(1, 3))
    return Gossip(GossipLimits(), CLUSTER, node_id, routing, SeededRng(1), seeds or [])


def test_a_lone_node_asks_its_seeds():
    node = Gossip(GossipLimits(), CLUSTER, 9, Routing(), SeededRng(1), [("10.0.0.1", 16379)])
    (out,) = node.tick(0)
    assert (out.node_id, out.host, out.port) == (0, "10.0.0.1", 16379)
    assert node.tick(100) == []
    # The answer to somebody unknown goes back the way it came.
    other = alone()
    (answer,) = other.receive(out.data, 0)
    assert (answer.node_id, answer.host) == (9, "") and decode(answer.data, CLUSTER).kind == BUCKET_SUMS


def test_equal_tables_exchange_two_short_messages():
    a, b = alone(1), alone(2)
    digest = next(o for o in a.tick(0) if o.node_id)
    m = decode(digest.data, CLUSTER)
    assert m.kind == DIGEST
    # Whoever it went to, b answers for the same table.
    (answer,) = b.receive(digest.data, 0)
    assert decode(answer.data, CLUSTER).kind == ACK
    assert len(digest.data) + len(answer.data) <= 120
    assert a.receive(answer.data, 1) == []


def test_only_differences_travel():
    a, b = alone(1), alone(2)
    for node in (a, b):
        node.routing.learn_slots(0, 16383, 1, 1)
    b.routing.learn_slots(300, 310, 2, 2)
    digest = next(o for o in a.tick(0) if o.node_id)
    (sums,) = b.receive(digest.data, 0)
    (delta,) = a.receive(sums.data, 0)
    (back,) = b.receive(delta.data, 0)
    m = decode(back.data, CLUSTER)
    assert [(r.first, r.last, r.epoch, r.group) for r in m.slots] == [(300, 310, 2, 2)] and not m.groups
    assert len(back.data) < 100
    assert a.receive(back.data, 0) == [] and a.routing.epochs[305] == 2


def test_foreign_messages_raise_and_own_echoes_are_ignored():
    node = alone()
    with pytest.raises(GossipError, match="belongs to cluster"):
        node.receive(encode(Message(ACK, 2, 0, 0), bytes(16)), 0)
    assert node.receive(encode(Message(DIGEST, 1, 0, 0), CLUSTER), 0) == []


def test_a_claim_about_a_stranger_is_not_kept():
    node = alone()
    m = Message(ACK, 2, 0, 0)
    m.nodes = [NodeState(77, 3, DEAD), NodeState(3, 1, SUSPECT)]
    node.receive(encode(m, CLUSTER), 0)
    assert sorted(node.peers.states) == [3]


def test_a_bucket_too_large_for_a_message_still_gets_across():
    limits = GossipLimits()
    limits.delta_bytes = 2_000
    pair = [Gossip(limits, CLUSTER, n, Routing(), SeededRng(n), []) for n in (1, 2)]
    for node in pair:
        node.routing.learn_group(described(1, 3))
    # All of these fall into one bucket.
    for group in range(2, 20):
        members = [Member(group * 10 + n, f"h{group}", 1, 2, hostname="x" * 150, zone="z" * 100) for n in (1, 2, 3)]
        pair[0].routing.learn_group(GroupFacts(group * 64, 1, 1, 0, 0, members))
    # In turn, and addressed to each other whomever they would have picked.
    for turn in range(800):
        due = pair[turn % 2].tick(10**9 * (1 + turn))
        digest = next(o for o in due if decode(o.data, CLUSTER).kind == DIGEST)
        todo = [(1 - turn % 2, digest.data)]
        while todo:
            to, data = todo.pop()
            assert len(data) <= 3_100
            todo += [(1 - to, o.data) for o in pair[to].receive(data, 0)]
        if pair[0].routing.groups_digest() == pair[1].routing.groups_digest():
            break
    assert pair[0].routing.groups_digest() == pair[1].routing.groups_digest()


def test_cost_of_a_small_cluster():
    figures = measure(20, 3, steady_s=10)
    assert figures.steady_bytes_s <= 130 and figures.steady_messages_s <= 2.2
    assert figures.move_all_ms <= 2_000 and figures.move_bytes <= 1_500
    assert figures.leaders_all_ms <= 20_000 and figures.join_ms <= 20_000
    assert figures.zone_ms <= 60_000 and figures.zone_bytes_s <= 1_000
    assert figures.fragmented_bytes < 1 << 20
