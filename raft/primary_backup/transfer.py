"""How the primary sends a snapshot to a node that the log no longer serves: chunk by chunk, each when the last arrived.

Rule: the only place that starts, continues or ends a snapshot transfer on the sending side, and the same fields and
rules as raft.snapshots, so that the same driver stores, sends and installs them.
"""

import zlib

from raft.messages import Snapshot, SnapshotResp
from raft.primary_backup.node import Member, Peer
from raft.progress import ProgressState
from raft.storage import UnavailableError

SNAPSHOT = ProgressState.SNAPSHOT


def start_snapshot(r: Member, peer: Peer) -> None:
    """The log does not serve the peer: send a snapshot, if it is there, a sender is free and the peer answers."""
    pr = peer.progress
    sending = 0
    for other in r.peer_list:
        if other.progress.state == SNAPSHOT:
            sending += 1
    meta = r.log.storage.snapshot_meta()
    r.snapshot_wanted = r.snapshot_wanted or meta is None
    alive = r.now_ns - peer.heard_ns < r.config.lease_ns
    if meta is None or not alive or sending >= r.config.max_snapshot_sends:
        pr.become_probe()
        pr.probe_sent = True
        return
    pr.become_snapshot(meta)


def send_chunk(r: Member, peer: Peer) -> None:
    """The next chunk the peer wants."""
    pr = peer.progress
    meta = pr.snap_meta
    assert meta is not None
    size = r.config.snapshot_chunk_bytes
    try:
        data = r.log.storage.snapshot_chunk(meta.id, pr.snap_offset, size)
    except UnavailableError:
        # Replaced by a newer one meanwhile; the next probe starts that.
        pr.become_probe()
        pr.probe_sent = True
        return
    crc_total = zlib.crc32(data, pr.snap_crc)
    r.deliver(
        Snapshot(
            r.group, r.id, pr.node, r.term, meta, pr.snap_offset, len(data) < size, zlib.crc32(data), crc_total, data
        )
    )
    pr.snap_sent = pr.snap_offset + len(data)
    pr.snap_crc_sent = crc_total
    pr.snap_ticks = 0
    pr.resend = False


def beat(r: Member, peer: Peer) -> None:
    """A beacon goes out: send the chunk again that nobody answered, or free the place of a peer that is gone."""
    pr = peer.progress
    pr.snap_ticks += 1
    if r.now_ns - peer.heard_ns >= r.config.lease_ns:
        pr.become_probe()
    elif pr.snap_ticks >= 4:
        pr.resend = True


def handle_snapshot_resp(r: Member, m: SnapshotResp) -> None:
    """The receiver says which byte it wants next."""
    peer = r.peers.get(m.from_)
    if peer is None:
        return
    peer.heard_ns = r.now_ns
    pr = peer.progress
    if pr.state != SNAPSHOT or m.index != pr.snap_index:
        return
    if m.next_offset >= pr.snap_sent > pr.snap_offset:
        # Further than what was sent: an old "from the start" made us go back, and the receiver waits where it was.
        pr.snap_offset = pr.snap_sent
        pr.snap_crc = pr.snap_crc_sent
    elif m.next_offset == 0:
        pr.restart_snapshot()
    elif m.next_offset != pr.snap_offset:
        return
    pr.snap_ticks = 0
    pr.resend = True
    r.send_needed = True


def report_snapshot(r: Member, node: int, ok: bool) -> None:
    """A snapshot moved outside the core arrived or failed; without it, chunks report for themselves."""
    peer = r.peers.get(node)
    if peer is None or peer.progress.state != SNAPSHOT:
        return
    pr = peer.progress
    index = pr.snap_index
    pr.become_probe()
    if ok:
        pr.next = max(pr.next, index + 1)
    pr.probe_sent = True
