"""A shard of lease mode in the simulated world, with a register as its config holder that may be away or slow."""

from __future__ import annotations

from durakv.app import ConnectHolder
from durakv.replication.lease_holder import HolderLink
from durakv.replication.lease_node import LeaseNode
from raft.primary_backup.codec import decode_answer, encode_call
from raft.primary_backup.messages import HolderAnswer, HolderCall, Outcome
from raft.primary_backup.register import Register
from tests.replication.sim import MS, Machine, NodeClock, SimCluster


class SimHolder:
    """The register, reached over a path of its own; the node of ``cut`` hosts does not reach it."""

    def __init__(self, cluster: LeaseCluster) -> None:
        self.cluster = cluster
        self.register = Register()
        self.down = False
        self.cut: dict[str, None] = {}
        self.delay_ms = 3.0
        self.calls = 0

    def take(self, call: HolderCall, host: str, answer: Port) -> None:
        time, random = self.cluster.time, self.cluster.random

        def arrive() -> None:
            if self.down or host in self.cut:
                return
            self.calls += 1
            said = decode_answer(self.register.apply(encode_call(call), time.now_ns))
            time.at(int(random.random() * self.delay_ms * MS) + 1, lambda: answer.answered(said))

        time.at(int(random.random() * self.delay_ms * MS) + 1, arrive)


class Port:
    """Implements HolderPort for one run of a node."""

    def __init__(self, holder: SimHolder, machine: Machine, clock: NodeClock, link: HolderLink) -> None:
        self.holder = holder
        self.machine = machine
        self.clock = clock
        self.link = link

    def submit(self, call: HolderCall) -> None:
        self.holder.take(call, self.machine.host, self)

    def answered(self, answer: HolderAnswer) -> None:
        if self.holder.down or self.machine.host in self.holder.cut:
            answer = HolderAnswer(answer.call_id, Outcome.UNKNOWN, 0, None)
        if self.clock.alive:
            self.clock.call_soon(lambda: self.link.answered(answer))


class LeaseCluster(SimCluster):
    """Three machines of lease mode; L = 1 s, G = 1.5 s unless told otherwise."""

    min_isr = 2

    def __init__(self, seed: int, **directives: str) -> None:
        self.holder = SimHolder(self)
        super().__init__(seed, replication_mode="lease", **directives)

    def connect_holder(self, machine: Machine, clock: NodeClock) -> ConnectHolder:
        def connect(link: HolderLink) -> None:
            link.port = Port(self.holder, machine, clock, link)

        return connect


def node_of(machine: Machine) -> LeaseNode:
    assert machine.app is not None
    node = machine.app.driver
    assert isinstance(node, LeaseNode)
    return node


def settled(cluster: LeaseCluster) -> bool:
    """Whether all three are in sync under one primary that serves."""
    leader = cluster.leader()
    if leader is None:
        return False
    node = node_of(leader)
    return node.core.known is not None and len(node.core.known.isr) == 3 and not node.not_serving()
