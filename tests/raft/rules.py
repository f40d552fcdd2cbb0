"""What several of the rule tests share."""

from raft import Entry, Role
from raft.messages import Append

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
            while server.core.has_ready() and core.role != Role.LEADER:
                cluster.take(server.node)
            while server.pending and core.role != Role.LEADER:
                cluster.fsync(server.node)
        while cluster.wire and core.role != Role.LEADER:
            cluster.deliver()
    return core
