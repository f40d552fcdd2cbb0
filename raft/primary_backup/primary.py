"""What the primary does: take proposals, replicate, commit, prove reads, keep its leases, leave office.

Rule: the only place that advances commit by counting, and counts every effective member: the union of all sets of
in-sync members that may be in force. Entries of earlier reigns commit only under one of this reign. Nothing is sent
when it is proposed; emit() sends once per Ready, so whatever arrived since shares a message and an fsync.
"""

from raft.primary_backup import changes, transfer
from raft.primary_backup.errors import ChangeRefused, HandingOver, LeaseExpired, NoReplicas, NotPrimary, Overloaded
from raft.primary_backup.leases import (
    executor_stuck,
    extend,
    holder_valid,
    missing,
    promise_kept,
    serving,
)
from raft.primary_backup.messages import Beacon, BeaconOk, Prepare, PrepareOk, Relinquish, RenewCall
from raft.primary_backup.node import ChangeKind, Member, Peer
from raft.primary_backup.types import RequestId, ShardConfig
from raft.progress import ProgressState
from raft.storage import CompactedError, UnavailableError
from raft.types import Entry, EntryKind, Role

PROBE = ProgressState.PROBE
REPLICATE = ProgressState.REPLICATE
SNAPSHOT = ProgressState.SNAPSHOT


def take_office(r: Member, config: ShardConfig) -> None:
    """This run's own wish is in force: keep the whole log, and begin the reign with an entry of its own."""
    r.role = Role.LEADER
    r.leader = r.id
    r.term = config.epoch
    r.vote = r.id
    r.incoming = None
    r.armed = False
    r.isr = config.isr
    r.joining = 0
    r.resigned = False
    r.transferee = 0
    r.reign_term = config.epoch
    r.round = 0
    r.lease_floor = 1
    r.holder_ack_ns = 0
    r.renewals.clear()
    r.peers = {}
    r.rewire()
    r.noop_index = r.log.last + 1
    r.log.append(Entry(r.noop_index, r.term, 0, EntryKind.NOOP, b""))
    r.uncommitted.append((r.noop_index, 0, r.now_ns))
    r.beat_due = True
    r.send_needed = True
    r.renew_sent_ns = r.now_ns
    _renew(r)


def continue_reign(r: Member, config: ShardConfig) -> None:
    """A change this run asked for is in force: the reign goes on in its epoch."""
    r.term = config.epoch
    r.vote = r.id
    r.isr = config.isr
    r.joining = 0
    if r.resigned:
        # Back in office, with nothing left of the leases that were given away.
        r.resigned = False
        r.transferee = 0
        r.lease_floor = r.round + 1
    r.rewire()
    r.beat_due = True
    r.send_needed = True
    maybe_commit(r)


# Proposals and reads


def propose(r: Member, data: bytes) -> int:
    """Append one entry; see PrimaryBackup.propose."""
    if r.role != Role.LEADER:
        raise NotPrimary(r.leader)
    if r.transferee:
        raise HandingOver
    if r.sure_size < r.min_isr:
        raise NoReplicas(r.sure_size, r.min_isr)
    why = missing(r)
    if not why and not promise_kept(r):
        # Whoever relies on it may still serve reads, which must not miss what is acknowledged here.
        why = "a promise of this node to the former primary, or one it may have made before it started, is not over"
    if why:
        raise LeaseExpired(why)
    size = len(data)
    if r.uncommitted_bytes > 0 and r.uncommitted_bytes + size > r.config.max_uncommitted_bytes:
        raise Overloaded
    index = r.log.last + 1
    r.log.append(Entry(index, r.term, 0, EntryKind.NORMAL, data))
    r.uncommitted.append((index, size, r.now_ns))
    r.uncommitted_bytes += size
    r.send_needed = True
    return index


def add_read(r: Member, ctx: object) -> None:
    """A read at the commit index now, or when this primary may serve."""
    if r.role != Role.LEADER:
        raise NotPrimary(r.leader)
    if serving(r):
        r.proven_reads.append((ctx, r.log.commit))
    else:
        r.waiting_reads.append(ctx)


def prove_reads(r: Member) -> None:
    """Reads that waited for office are proven once it is sure."""
    if r.waiting_reads and serving(r):
        for ctx in r.waiting_reads:
            r.proven_reads.append((ctx, r.log.commit))
        r.waiting_reads = []


# Commit


def maybe_commit(r: Member) -> None:
    """Commit what every effective member holds durably, if they are as many as the shard demands.

    Alone, only while the holder forces nobody into this node's place: what is acknowledged then is known to it.
    """
    log = r.log
    index = log.stable
    for peer in r.counted:
        if peer.progress.match < index:
            index = peer.progress.match
    if index <= log.commit or index < r.noop_index or len(r.counted) + 1 < r.min_isr:
        return
    if r.maybe_alone and not holder_valid(r):
        return
    first_of_reign = log.commit < r.noop_index
    log.commit = index
    uncommitted = r.uncommitted
    while uncommitted and uncommitted[0][0] <= index:
        r.uncommitted_bytes -= uncommitted.popleft()[1]
    if first_of_reign or not r.config.lazy_commit:
        r.announce_due = True
        r.send_needed = True
    if first_of_reign:
        prove_reads(r)


def announce_commit(r: Member) -> None:
    """Tell the others what is committed, where nothing else has."""
    if r.role != Role.LEADER:
        return
    for peer in r.peer_list:
        pr = peer.progress
        if pr.sent_commit < pr.match and pr.sent_commit < r.log.commit:
            r.announce_due = True
            r.send_needed = True


# Answers


def handle_prepare_ok(r: Member, m: PrepareOk) -> None:
    """A node acknowledged or refused entries; the hot path of a primary."""
    peer = r.peers.get(m.from_)
    if peer is None or m.match > r.log.last:
        return
    extend(r, peer, m.round, m.t_sent_ns)
    pr = peer.progress
    if not m.ok:
        if m.rebuild:
            # An answer from before a snapshot that has arrived since is behind what the peer acknowledged.
            if pr.state != SNAPSHOT and m.match >= pr.match:
                transfer.start_snapshot(r, peer)
                r.send_needed = True
        elif pr.state == SNAPSHOT and m.match == pr.snap_index:
            # The peer's own snapshot is newer: compare the logs where its ends, or where this one begins.
            pr.become_probe()
            pr.next = max(_next_after_reject(r, m), r.log.first_index(), pr.match + 1)
            r.send_needed = True
        elif pr.rejected(m.match, _next_after_reject(r, m)):
            r.send_needed = True
        return
    if pr.acked(m.match):
        if pr.state == PROBE:
            pr.become_replicate()
        if peer.in_sync and m.match > r.log.commit:
            maybe_commit(r)
        if pr.node == r.transferee:
            hand_over_when_ready(r, peer)
    elif pr.state == PROBE and m.match == pr.match:
        pr.become_replicate()
    if pr.state == SNAPSHOT and m.match >= pr.snap_index:
        pr.become_replicate()
    if r.waiting_reads:
        prove_reads(r)
    if pr.next <= r.log.last:
        r.send_needed = True
    elif pr.sent_commit < min(pr.match, r.log.commit) and not r.config.lazy_commit:
        r.announce_due = True
        r.send_needed = True


def _next_after_reject(r: Member, m: PrepareOk) -> int:
    """One past the largest index whose epoch is not above the other's there; skips one epoch per round trip."""
    index = min(m.hint_index, r.log.last)
    try:
        while index > 0 and r.log.term(index) > m.hint_term:
            index -= 1
    except CompactedError:
        return index + 1
    return index + 1


def handle_beacon_ok(r: Member, m: BeaconOk) -> None:
    """A node promised to help nobody else into office."""
    peer = r.peers.get(m.from_)
    if peer is None:
        return
    extend(r, peer, m.round, m.t_sent_ns)
    pr = peer.progress
    if pr.state == PROBE and pr.match < r.log.last:
        pr.probe_sent = False
        r.send_needed = True
    if r.waiting_reads:
        prove_reads(r)


def note_renewed(r: Member, call_id: int, ok: bool) -> bool:
    """The holder answered a renewal; False if it was no renewal of this office."""
    sent_ns = r.renewals.pop(call_id, -1)
    if sent_ns < 0:
        return False
    if ok and r.role == Role.LEADER and r.holder_ack_ns < sent_ns <= r.now_ns:
        r.holder_ack_ns = sent_ns
        maybe_commit(r)
        prove_reads(r)
    return True


# Time


def tick(r: Member) -> None:
    """Beacons and the holder's lease, but not for a node whose executor is stuck: a live loop must not keep it in."""
    # Noted while clocks can be trusted: a step of one later does not bring a former promise back.
    promise_kept(r)
    if executor_stuck(r):
        for peer in r.peer_list:
            # Their silence is this node's own doing.
            peer.since_ns = r.now_ns
        return
    if not r.resigned:
        if r.now_ns - r.beat_ns >= r.config.beacon_ns:
            r.beat_due = True
        if r.now_ns - r.renew_sent_ns >= r.config.holder_lease_ns // 3:
            _renew(r)
    if r.transferee and r.now_ns - r.transfer_ns >= r.config.transfer_timeout_ns:
        _transfer_failed(r)
    if r.waiting_reads:
        prove_reads(r)


def _renew(r: Member) -> None:
    r.renew_sent_ns = r.now_ns
    for call_id in [i for i, sent_ns in r.renewals.items() if r.now_ns - sent_ns >= r.config.holder_lease_ns]:
        del r.renewals[call_id]
    call_id = r.new_call_id()
    r.renewals[call_id] = r.now_ns
    # Renewing twice does no harm, so all renewals of a run share one name.
    request = RequestId(r.id, r.nonce, 0)
    r.calls.append(RenewCall(call_id, r.group, request, r.term, r.config.holder_grace_ns))


# Handing over


def transfer_to(r: Member, to: int) -> None:
    """Start handing over; see PrimaryBackup.transfer_leader."""
    if r.role != Role.LEADER:
        raise NotPrimary(r.leader)
    if to == r.id:
        return
    peer = r.peers.get(to)
    if peer is None or to not in r.isr:
        raise ChangeRefused(f"node {to} is not in sync; choose one of {[n for n in r.isr if n != r.id]}")
    if r.resigned:
        raise ChangeRefused(f"node {r.transferee} is taking over; retry when that has succeeded or failed")
    if r.change is not None:
        raise ChangeRefused("a change of the members is under way; retry when it is done")
    if not serving(r):
        raise ChangeRefused("this node is not sure of its own office; retry shortly")
    r.joining = 0
    r.rewire()
    r.transferee = to
    r.transfer_ns = r.now_ns
    hand_over_when_ready(r, peer)
    r.send_needed = True


def hand_over_when_ready(r: Member, peer: Peer) -> None:
    """Leave office once the successor has everything on its disk.

    From here on this node serves nothing in this epoch, and a run that comes after it never would: so nothing has to
    be written. The successor may serve at once, because only a primary whose own promise is over can hand over.
    """
    if r.resigned or peer.progress.match < r.log.last or not serving(r):
        return
    r.resigned = True
    for other in r.peer_list:
        other.progress.ack_sent_ns = 0
    r.lease_floor = r.round + 1
    r.deliver(Relinquish(r.group, r.id, peer.node, r.term))


def _transfer_failed(r: Member) -> None:
    if not r.resigned:
        r.transferee = 0
        return
    r.transfer_ns = r.now_ns
    if r.change is None:
        changes.ask_same(r, ChangeKind.REACQUIRE)


# Sending


def emit(r: Member) -> None:
    """Send what is due to every peer; called when a Ready is taken."""
    beat = r.beat_due and not r.resigned
    announce = r.announce_due or beat
    r.beat_due = False
    r.announce_due = False
    r.send_needed = False
    if beat:
        r.beat_ns = r.now_ns
        r.round += 1
        for peer in r.peer_list:
            _beat(r, peer)
    for peer in r.peer_list:
        _send_entries(r, peer)
    commit = r.log.commit
    for peer in r.peer_list:
        pr = peer.progress
        if beat:
            pr.sent_commit = min(pr.match, commit)
            r.deliver(Beacon(r.group, r.id, pr.node, r.term, pr.sent_commit, r.round, r.now_ns))
        elif announce and pr.sent_commit < pr.match and pr.sent_commit < commit:
            pr.sent_commit = min(pr.match, commit)
            r.deliver(Beacon(r.group, r.id, pr.node, r.term, pr.sent_commit, 0, 0))


def _beat(r: Member, peer: Peer) -> None:
    pr = peer.progress
    pr.probe_sent = False
    if pr.state == REPLICATE:
        pr.verify = len(pr.inflight) > 0
    elif pr.state == SNAPSHOT:
        transfer.beat(r, peer)


def _send_entries(r: Member, peer: Peer) -> None:
    """Entries or a snapshot chunk, as the peer's state and window allow."""
    pr = peer.progress
    last = r.log.last
    if pr.state == REPLICATE:
        verify = pr.verify
        pr.verify = False
        while pr.next <= last and not pr.window_full():
            if not _send_prepare(r, peer, True):
                return
            verify = False
        if verify:
            _send_prepare(r, peer, False)
    elif pr.state == PROBE and not pr.probe_sent:
        _send_prepare(r, peer, True)
    if pr.state == SNAPSHOT and pr.resend:
        transfer.send_chunk(r, peer)


def _send_prepare(r: Member, peer: Peer, with_entries: bool) -> bool:
    log = r.log
    pr = peer.progress
    first = pr.next
    prev = first - 1
    entries: list[Entry] = []
    try:
        prev_term = log.term(prev)
        if with_entries and first <= log.last:
            entries = log.entries(first, log.last + 1, r.config.max_size_per_msg)
    except CompactedError:
        transfer.start_snapshot(r, peer)
        return False
    except UnavailableError:
        # Storage cannot read it just now; the next beat asks again.
        return False
    size = 0
    for entry in entries:
        size += len(entry.data)
    last = prev + len(entries)
    # Entries serve as beacons too, under the same conditions; round 0 asks for no promise.
    round_ = 0 if r.resigned or executor_stuck(r) else r.round
    known = r.known
    forced = 0 if known is None else known.forced_epoch
    r.deliver(Prepare(r.group, r.id, pr.node, r.term, prev, prev_term, log.commit, round_, r.now_ns, forced, entries))
    if with_entries:
        pr.sent(last, size)
        pr.sent_commit = max(pr.sent_commit, min(log.commit, last))
    return True
