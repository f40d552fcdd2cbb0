"""What gossip costs by size of the cluster: ``python -m tests.cluster.gossip.scale --groups 333 --size 3``.

Prints bytes a second for each node when nothing happens, what one move costs and how fast all know it, the same for a
zone's worth of leader changes, what a node costs that starts with nothing, what the loss of a zone costs, and what the
tables take.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc

from durakv.cluster.gossip.codec import DELTA, Message, decode, encode, group_bytes
from durakv.cluster.gossip.peers import DEAD
from durakv.cluster.gossip.routing import Routing
from tests.cluster.gossip.net import CLUSTER, TICK_MS, Net, described, run_of


class Figures:
    def __init__(self) -> None:
        self.nodes = 0
        self.steady_bytes_s = 0.0
        self.steady_messages_s = 0.0
        self.move_bytes = 0.0
        self.move_half_ms = 0
        self.move_all_ms = 0
        self.leaders_bytes = 0.0
        self.leaders_all_ms = 0
        self.join_bytes = 0
        self.join_ms = 0
        self.zone_ms = 0
        self.zone_bytes_s = 0.0
        self.table_bytes = 0
        self.fragmented_bytes = 0
        self.snapshot_bytes = 0


def measure(groups: int, size: int, *, steady_s: int = 20, seed: int = 1) -> Figures:
    out = Figures()
    net = Net(groups, size, seed)
    count = out.nodes = len(net.nodes)
    net.run(3_000)
    sent_bytes, sent = net.sent_bytes(), net.sent()
    net.run(steady_s * 1000)
    out.steady_bytes_s = (net.sent_bytes() - sent_bytes) / count / steady_s
    out.steady_messages_s = (net.sent() - sent) / count / steady_s
    _move(net, out)
    _leaders(net, out)
    _join(net, out)
    _zone(net, out)
    out.table_bytes, out.fragmented_bytes = tables(groups, size)
    out.snapshot_bytes = sum(group_bytes(f) for f in net.facts)
    return out


def _beyond(net: Net, sent_bytes: int, figures: Figures, took_ms: int) -> float:
    """Bytes for each node above what the calm would have cost."""
    return (net.sent_bytes() - sent_bytes) / figures.nodes - figures.steady_bytes_s * took_ms / 1000


def _move(net: Net, out: Figures) -> None:
    first, _ = run_of(1, net.groups)
    taker = net.groups
    for n in net.facts[taker - 1].members:
        net.nodes[n.node_id].learn_slots(first, first, 2, taker)

    def know() -> int:
        return sum(node.routing.groups[first] == taker for node in net.nodes.values())

    begun, sent_bytes = net.now_ms, net.sent_bytes()
    out.move_half_ms = net.until(lambda: know() >= out.nodes / 2, 60_000, 20)
    net.until(lambda: know() == out.nodes, 60_000, 20)
    out.move_all_ms = net.now_ms - begun
    net.run(5_000)
    out.move_bytes = _beyond(net, sent_bytes, out, net.now_ms - begun)


def _leaders(net: Net, out: Figures) -> None:
    begun, sent_bytes = net.now_ms, net.sent_bytes()
    for g in range(1, net.groups + 1, 3):
        facts = described(g, net.size, term=2, leader=net.facts[g - 1].members[1].node_id)
        net.facts[g - 1] = facts
        net.nodes[facts.leader].learn_group(facts, net.now_ms)
    net.until(net.agree, 120_000, 50)
    out.leaders_all_ms = net.now_ms - begun
    net.run(5_000)
    out.leaders_bytes = _beyond(net, sent_bytes, out, net.now_ms - begun)


def _join(net: Net, out: Figures) -> None:
    node_id = net.facts[0].members[-1].node_id
    net.down.add(node_id)
    net.queue = [row for row in net.queue if row[2] != node_id]
    net.down.discard(node_id)
    new = net.start(node_id, 1, known=False)
    for facts in list(new.routing.facts.values()):
        assert facts.group == 1
    out.join_ms = net.until(net.agree, 120_000, 50)
    out.join_bytes = net.received_bytes[node_id]


def _zone(net: Net, out: Figures) -> None:
    """A third of the nodes stop: until all others hold all of them for dead."""
    gone = [m.node_id for facts in net.facts for m in facts.members[2::3]]
    net.down |= set(gone)
    begun, sent_bytes = net.now_ms, net.sent_bytes()
    left = net.up()
    net.until(lambda: all(n.peers.state(g) == DEAD for n in left for g in gone), 300_000, 500)
    out.zone_ms = net.now_ms - begun
    out.zone_bytes_s = (net.sent_bytes() - sent_bytes) / len(left) / (out.zone_ms / 1000)


def tables(groups: int, size: int) -> tuple[int, int]:
    """Bytes of one routing table learnt from messages: with a run of slots a group, and with no two slots alike."""
    taken = []
    for runs in (True, False):
        tracemalloc.start()
        routing = Routing()
        for g in range(1, groups + 1):
            m = Message(DELTA, 1, 0, 0)
            m.groups.append(described(g, size))
            routing.learn_group(decode(encode(m, CLUSTER), CLUSTER).groups[0])
            if runs:
                routing.learn_slots(*run_of(g, groups), 1, g)
        if not runs:
            for slot in range(16384):
                routing.learn_slots(slot, slot, slot + 1000, 1 + slot % groups)
        taken.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    return taken[0], taken[1]


def report(figures: Figures) -> str:
    f = figures
    return "\n".join([
        f"nodes                          {f.nodes}",
        f"calm                           {f.steady_bytes_s:.0f} B/s, {f.steady_messages_s:.2f} messages/s sent a node",
        f"one move: half, all know       {f.move_half_ms} ms, {f.move_all_ms} ms (ticks of {TICK_MS} ms)",
        f"one move: beyond the calm      {f.move_bytes:.0f} B a node",
        f"a third of the leaders change  all know after {f.leaders_all_ms} ms, {f.leaders_bytes:.0f} B a node",
        f"a node that knows nothing      agrees after {f.join_ms} ms, received {f.join_bytes} B",
        f"a third of the nodes stop      all are known dead after {f.zone_ms} ms, {f.zone_bytes_s:.0f} B/s a node",
        f"routing table                  {f.table_bytes} B; with every slot different {f.fragmented_bytes} B",
        f"all groups as bytes            {f.snapshot_bytes} B",
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--groups", type=int, default=333)
    parser.add_argument("--size", type=int, default=3)
    parser.add_argument("--steady-s", type=int, default=20)
    args = parser.parse_args()
    begun = time.monotonic()
    print(report(measure(args.groups, args.size, steady_s=args.steady_s)))
    print(f"simulated in                   {time.monotonic() - begun:.0f} s")


if __name__ == "__main__":
    main()
