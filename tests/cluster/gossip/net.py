"""A network of gossiping nodes in one process: seeded delays, losses, duplicates, partitions; every byte counted."""

from __future__ import annotations

import copy
import heapq
import random

from durakv.cluster.gossip.gossip import Gossip, GossipLimits
from durakv.cluster.gossip.routing import GroupFacts, Member, Routing
from durakv.keyspace.slots import SLOTS

CLUSTER = bytes(range(16))
TICK_MS = 200


class SeededRng:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def below(self, n: int) -> int:
        return self.dice.randrange(n)

    def bits64(self) -> int:
        return self.dice.getrandbits(64)

    def token(self, nbytes: int) -> bytes:
        return self.dice.randbytes(nbytes)


def member(node_id: int) -> Member:
    host = f"10.{node_id >> 16}.{node_id >> 8 & 255}.{node_id & 255}"
    return Member(node_id, host, 6379, 16379, zone=f"zone-{node_id % 3}", hostname=f"node-{node_id}.cluster.local")


def described(group: int, size: int, term: int = 1, sequence: int = 0, leader: int = 0) -> GroupFacts:
    ids = [(group - 1) * size + n for n in range(1, size + 1)]
    return GroupFacts(group, term, 7, sequence, leader or ids[0], [member(n) for n in ids])


def run_of(group: int, groups: int) -> tuple[int, int]:
    return SLOTS * (group - 1) // groups, SLOTS * group // groups - 1


class Net:
    """``known`` false: every node starts with its own group's facts and one seed only."""

    def __init__(
        self,
        groups: int,
        size: int,
        seed: int,
        *,
        known: bool = True,
        loss: float = 0.0,
        copies: float = 0.0,
        delay_ms: tuple[int, int] = (1, 3),
        limits: GossipLimits | None = None,
    ) -> None:
        self.dice = random.Random(seed)
        self.loss = loss
        self.copies = copies
        self.delay_ms = delay_ms
        self.limits = limits or GossipLimits()
        self.now_ms = 0
        self.groups, self.size = groups, size
        self.facts = [described(g, size) for g in range(1, groups + 1)]
        self.all_known = Routing()
        for g in range(1, groups + 1):
            self.all_known.learn_slots(*run_of(g, groups), 1, g)
        self.by_port: dict[str, int] = {}
        self.nodes: dict[int, Gossip] = {}
        self.down: set[int] = set()
        # Nodes of different sides hear nothing of each other.
        self.side: dict[int, int] = {}
        self.queue: list[tuple[int, int, int, bytes]] = []
        self.order = 0
        self.received_bytes: dict[int, int] = {}
        for g in range(1, groups + 1):
            for m in self.facts[g - 1].members:
                self.start(m.node_id, g, known=known)

    def start(self, node_id: int, group: int, *, known: bool) -> Gossip:
        routing = copy.deepcopy(self.all_known) if known else Routing()
        if not known:
            routing.learn_slots(*run_of(group, self.groups), 1, group)
        for g in range(1, self.groups + 1) if known else [group]:
            routing.learn_group(self.facts[g - 1])
        seed = member(1 if node_id != 1 else 2)
        node = Gossip(self.limits, CLUSTER, node_id, routing, SeededRng(self.dice.getrandbits(32)),
                      [(seed.host, seed.peer_port)])  # fmt: skip
        # Nodes do not tick in step.
        node.next_digest_ms = self.now_ms + self.dice.randrange(self.limits.digest_ms)
        self.nodes[node_id] = node
        self.received_bytes[node_id] = 0
        self.by_port[member(node_id).host] = node_id
        self._push(self.now_ms + self.dice.randrange(TICK_MS), node_id, b"")
        return node

    def _push(self, at_ms: int, node_id: int, data: bytes) -> None:
        self.order += 1
        heapq.heappush(self.queue, (at_ms, self.order, node_id, data))

    def run(self, for_ms: int) -> Net:
        end_ms = self.now_ms + for_ms
        while self.queue and self.queue[0][0] <= end_ms:
            self.now_ms, _, node_id, data = heapq.heappop(self.queue)
            if not data:
                self._push(self.now_ms + TICK_MS, node_id, b"")
            if node_id in self.down:
                continue
            node = self.nodes[node_id]
            if data:
                self.received_bytes[node_id] += len(data)
            self.deliver(node_id, node.receive(data, self.now_ms) if data else node.tick(self.now_ms))
        self.now_ms = end_ms
        return self

    def deliver(self, sender: int, out) -> None:
        for o in out:
            assert len(o.data) <= self.limits.delta_bytes + 2048, "a message without bound"
            to = o.node_id or self.by_port[o.host]
            if self.side.get(sender, 0) != self.side.get(to, 0) or to not in self.nodes:
                continue
            for _ in range(1 + (self.dice.random() < self.copies)):
                if self.dice.random() >= self.loss:
                    self._push(self.now_ms + self.dice.randint(*self.delay_ms), to, o.data)

    # -- what all should know ----------------------------------------------------------------------------------------

    def up(self) -> list[Gossip]:
        return [node for n, node in self.nodes.items() if n not in self.down]

    def agree(self) -> bool:
        digests = {(n.routing.slots_digest(), n.routing.groups_digest(), n.peers.digest) for n in self.up()}
        return len(digests) == 1

    def until(self, done, limit_ms: int, step_ms: int = 100) -> int:
        """Milliseconds until ``done()``; fails after ``limit_ms``."""
        begun = self.now_ms
        while not done():
            assert self.now_ms - begun < limit_ms, f"not within {limit_ms} ms"
            self.run(step_ms)
        return self.now_ms - begun

    def sent_bytes(self) -> int:
        return sum(node.sent_bytes for node in self.nodes.values())

    def sent(self) -> int:
        return sum(node.sent for node in self.nodes.values())
