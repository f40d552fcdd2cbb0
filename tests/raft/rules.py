"""What several of the rule tests share."""

from raft import Entry, Role
from raft.messages import Append
from tests.raft.cluster import Cluster

WITNESS = 9
LEASE = {"lease_reads": True, "lease_ns": 80_000_000, "promise_ns": 90_000_000}


def sent(cluster, kind, **fields):
    return [m for m in cluster.sent if type(m) is kind and all(getattr(m, k) == v for k, v in fields.items())]


def append_to(core, prev, prev_term, entries, term=None, commit=0, from_=9):
    """An Append from a leader the test plays."""
    made = [Entry(prev + 1 + i, t, 0, 0, b"") for i, t in enumerate(entries)]
    core.step(Append(1, from_, core.id, term or core.term, prev, prev_term, commit, 0, 0, made))


def until_leader(cluster, node):
    """Elect `node` and stop before anything of its term is replicated."""
    core = cluster.core(node)
    core.campaign()
    while core.role != Role.LEADER:
        for server in cluster.servers.values():
            if server.core is None:
                continue
            while server.core.has_ready() and core.role != Role.LEADER:
                cluster.take(server.node)
            while server.pending and core.role != Role.LEADER:
                cluster.fsync(server.node)
        while cluster.wire and core.role != Role.LEADER:
            cluster.deliver()
    return core


def group(voters=(1, 2), **settings):
    """A group at rest: node 1 leads, everybody is in the set."""
    c = Cluster(voters=voters, witness=WITNESS, **settings)
    leader = c.elect(1)
    c.tick(4)
    assert leader.witness_state().replication_set == voters
    c.sent.clear()
    return c, leader


def pinned(**settings):
    c, leader = group(**settings)
    c.crash(2)
    c.tick(12)
    assert leader.witness_state().pinned
    c.sent.clear()
    return c, leader
