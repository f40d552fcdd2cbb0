"""The dissertation's rules on snapshot transfer, one test each, named by section.

Ongaro, "Consensus: bridging theory and practice", 2014.
"""

import zlib

import pytest

from raft.messages import AppendResp, Heartbeat, Snapshot, SnapshotResp
from tests.raft.cluster import Cluster
from tests.raft.rules import sent


def lagging(chunk=64, **settings):
    """A cluster whose node 3 needs a snapshot of several chunks."""
    c = Cluster(snapshot_chunk_bytes=chunk, **settings)
    leader = c.elect(1)
    c.isolate(3)
    for i in range(20):
        leader.propose(b"value %d" % i)
    c.settle()
    c.snapshot(1)
    leader.propose(b"after")
    c.settle()
    c.heal()
    return c, leader


def test_5_a_follower_behind_the_log_gets_a_snapshot_then_the_rest():
    c, _ = lagging()
    c.tick(8)
    assert c.servers[3].app.digest == c.servers[1].app.digest
    assert c.servers[3].durable.log.first_index() > 20
    chunks = sent(c, Snapshot, to=3)
    assert len(chunks) > 3
    assert [m.offset for m in chunks] == sorted({m.offset for m in chunks})
    c.crash(3)
    c.start(3)
    c.tick(5)
    assert c.servers[3].app.digest == c.servers[1].app.digest
    assert c.core(3).membership == c.core(1).membership


def test_5_a_lost_chunk_is_sent_again_from_where_the_receiver_is():
    c, _ = lagging()
    dropped = []
    plain = c.post

    def lossy(server, m):
        if type(m) is Snapshot and m.offset == 128 and not dropped:
            dropped.append(m)
            return
        plain(server, m)

    c.post = lossy
    c.tick(40)
    assert dropped
    assert c.servers[3].app.digest == c.servers[1].app.digest
    assert [m.offset for m in sent(c, Snapshot, to=3)].count(0) == 1


def test_5_a_corrupt_chunk_is_refused_and_wanted_again():
    c, _ = lagging()
    spoiled = []
    plain = c.post

    def spoil(server, m):
        if type(m) is Snapshot and m.offset == 64 and not spoiled:
            spoiled.append(m)
            m = Snapshot(m.group, m.from_, m.to, m.term, m.meta, m.offset, m.done, m.crc, m.crc_total, m.data[::-1])
        plain(server, m)

    c.post = spoil
    c.tick(20)
    assert spoiled
    assert c.servers[3].app.digest == c.servers[1].app.digest
    offsets = [m.offset for m in sent(c, Snapshot, to=3)]
    assert (offsets.count(0), offsets.count(64)) == (1, 2)


def test_5_a_receiver_that_restarts_begins_again():
    c, _ = lagging()
    while not any(m.next_offset >= 128 for m in sent(c, SnapshotResp)):
        for node in (1, 2, 3):
            c.core(node).tick()
        c.settle(disk=False)
        for node in (1, 2, 3):
            while c.servers[node].pending and not any(m.next_offset >= 128 for m in sent(c, SnapshotResp)):
                c.fsync(node)
        if c.core(3).log.commit > 20:
            pytest.fail("installed before the restart")
        break
    c.crash(3)
    c.start(3)
    c.tick(30)
    assert c.servers[3].app.digest == c.servers[1].app.digest


def test_5_a_late_answer_that_wants_the_start_does_not_end_the_transfer():
    c, leader = lagging()
    late = []
    plain = c.post

    def repeat(server, m):
        plain(server, m)
        if type(m) is SnapshotResp and m.next_offset == 192 and not late:
            late.append(m)
            leader.step(SnapshotResp(m.group, m.from_, m.to, m.term, m.index, 0))

    c.post = repeat
    c.tick(40)
    assert late
    assert c.servers[3].app.digest == c.servers[1].app.digest


def test_5_a_snapshot_not_newer_than_the_commit_is_acknowledged_and_dropped():
    c = Cluster()
    leader = c.elect(1)
    leader.propose(b"x")
    c.settle()
    meta = c.snapshot(1, compact=False)
    follower = c.core(2)
    follower.step(Snapshot(1, 1, 2, follower.term, meta, 0, False, 0, 0, b"whatever"))
    rd = follower.ready()
    assert rd.snapshot is None
    assert rd.snapshot_chunks == []
    assert [(type(m), m.ok, m.match) for m in rd.after_persist] == [(AppendResp, True, meta.index)]


def test_5_a_new_term_abandons_a_transfer_half_done():
    c, leader = lagging()
    core = c.core(3)
    meta = c.servers[1].written.log.snapshot_meta()
    core.step(Heartbeat(1, 1, 3, leader.term, 0, 0, 0))
    data = c.servers[1].written.log.snapshot_chunk(meta.id, 0, 64)
    crc = zlib.crc32(data)
    core.step(Snapshot(1, 1, 3, leader.term, meta, 0, False, crc, crc, data))
    assert core.incoming == meta
    core.step(Heartbeat(1, 2, 3, leader.term + 1, 0, 0, 0))
    assert core.incoming is None
