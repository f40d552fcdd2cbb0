"""How a leader sends a snapshot to a peer that the log no longer serves: chunk by chunk, each when the last arrived.

Rule: the only place that starts, continues or ends a snapshot transfer on the sending side; when it is time for a
chunk is decided with everything else that is sent, in leader.py.
"""

import zlib

from raft.messages import Message, Snapshot, SnapshotResp
from raft.node import Node
from raft.progress import Progress, ProgressState
from raft.storage import UnavailableError

SNAPSHOT = ProgressState.SNAPSHOT


def start_snapshot(r: Node, pr: Progress) -> None:
    """The log no longer reaches back to what the peer needs: send a snapshot, if it is there and a sender is free."""
    if not pr.recent_active:
        return
    sending = 0
    for other in r.peer_list:
        if other.state == SNAPSHOT:
            sending += 1
    meta = r.log.storage.snapshot_meta()
    if meta is None or sending >= r.config.max_snapshot_sends:
        pr.become_probe()
        pr.probe_sent = True
        return
    pr.become_snapshot(meta)


def send_chunk(r: Node, pr: Progress) -> None:
    """The next chunk the peer wants."""
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


def handle_snapshot_resp(r: Node, m: Message) -> None:
    """The receiver says which byte it wants next."""
    assert isinstance(m, SnapshotResp)
    pr = r.peers.get(m.from_)
    if pr is None:
        return
    pr.recent_active = True
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


def report_snapshot(r: Node, peer: int, ok: bool) -> None:
    """A snapshot moved outside the core arrived or failed; without it, chunks report for themselves."""
    pr = r.peers.get(peer)
    if pr is None or pr.state != SNAPSHOT:
        return
    index = pr.snap_index
    pr.become_probe()
    if ok:
        pr.next = max(pr.next, index + 1)
    pr.probe_sent = True
