"""What a leader does: take proposals, replicate, commit, prove reads, hand over, step down.

Rule: nothing is sent when it is proposed; emit() sends once per Ready, so whatever arrived since the last one shares
an Append, a round and an fsync. The only place that advances commit by counting, and only for the leader's own term.
"""

from raft import pin
from raft.errors import (
    ConfChangePending,
    NotLeader,
    Overloaded,
    TransferRefused,
    Transferring,
)
from raft.lease import abandon_transfer
from raft.membership import already_holds, changed, settled
from raft.messages import (
    Append,
    AppendResp,
    Heartbeat,
    HeartbeatResp,
    Message,
    ReadIndexReq,
    ReadIndexResp,
    TimeoutNow,
    WitnessAppendResp,
)
from raft.node import Node
from raft.progress import Progress, ProgressState
from raft.quorum import WON, joint_vote, majority_value
from raft.reads import RemoteRead
from raft.snapshots import send_chunk, start_snapshot
from raft.storage import CompactedError, UnavailableError
from raft.types import ConfChange, Entry, EntryKind, Membership, Role

PROBE = ProgressState.PROBE
REPLICATE = ProgressState.REPLICATE
SNAPSHOT = ProgressState.SNAPSHOT


def become_leader(r: Node) -> None:
    """Elected: start from nothing known of the peers, and append an entry of the new term (dissertation 6.4, 3.6.2)."""
    votes = r.votes
    r.role = Role.LEADER
    r.leader = r.id
    r.votes = {}
    r.heartbeat_elapsed = 0
    r.election_elapsed = 0
    r.round = 1
    r.lease_floor = 0
    r.subterm = 0
    r.peers = {}
    _join_peers(r)
    r.noop_index = r.log.last + 1
    r.log.append(Entry(r.noop_index, r.term, 0, EntryKind.NOOP, b""))
    pin.lead(r, votes)
    r.send_needed = True


def _join_peers(r: Node) -> None:
    config = r.config
    for node in r.membership.members():
        if node != r.id and node not in r.peers:
            r.peers[node] = Progress(node, r.log.last + 1, config.max_inflight_msgs, config.max_inflight_bytes)
    for node, pr in r.peers.items():
        pr.is_learner = not r.membership.is_voter(node)
    r.rewire()


# Proposals


def propose(r: Node, data: bytes) -> int:
    """Append one entry; see Raft.propose."""
    if r.role != Role.LEADER:
        raise NotLeader(r.leader)
    if r.transferee:
        raise Transferring("leadership is being transferred")
    size = len(data)
    if r.uncommitted_bytes > 0 and r.uncommitted_bytes + size > r.config.max_uncommitted_bytes:
        raise Overloaded(f"{r.uncommitted_bytes} bytes are uncommitted; retry when some have committed")
    log = r.log
    index = log.last + 1
    log.append(Entry(index, r.term, r.subterm, EntryKind.NORMAL, data))
    r.uncommitted.append((index, size))
    r.uncommitted_bytes += size
    r.send_needed = True
    return index


def propose_conf(r: Node, change: ConfChange) -> int:
    """Append a membership; see Raft.propose_conf."""
    if r.role != Role.LEADER:
        raise NotLeader(r.leader)
    if r.transferee:
        raise Transferring("leadership is being transferred")
    current = r.membership
    leaving = change.is_empty() and current.is_joint() and not current.auto_leave
    if not leaving and already_holds(current, change):
        return r.conf_index
    if r.log.commit < r.noop_index:
        raise ConfChangePending("this leader has not committed in its term yet; retry shortly")
    if r.conf_index > r.log.commit:
        raise ConfChangePending(f"the change at index {r.conf_index} is not committed yet; retry when it is")
    if leaving:
        return _append_membership(r, settled(current))
    if current.is_joint():
        raise ConfChangePending("a joint change is not finished yet; retry when it is")
    rs = r.replication
    if change.edits_witness() and rs is not None and rs.has_witness:
        raise ConfChangePending(f"the witness stands in for node {rs.outside}; retry when that node has caught up")
    return _append_membership(r, changed(current, change))


def _append_membership(r: Node, membership: Membership) -> int:
    index = r.log.last + 1
    # A new subterm per membership: equal (term, subterm) then implies equal membership.
    r.subterm += 1
    r.log.append(Entry(index, r.term, r.subterm, EntryKind.CONFIG, membership.encode()))
    r.push_membership(index, membership)
    members = membership.members()
    for node, pr in r.peers.items():
        if node in members:
            pr.leaving_index = 0
        elif pr.leaving_index == 0:
            pr.leaving_index = index
            pr.leaving_ticks = 0
    _join_peers(r)
    pin.membership_changed(r, index)
    r.send_needed = True
    # A smaller quorum may already hold what the larger one did not.
    maybe_commit(r)
    return index


# Commit


def maybe_commit(r: Node) -> None:
    """Commit what a quorum of each half holds durably, this node included only through its own durable index."""
    log = r.log
    index = _held_index(r) if r.replication is None else pin.held_index(r, r.replication)
    # Entries of former terms commit only under one of this term (dissertation 3.6.2); those start at noop_index.
    if index > log.commit and index >= r.noop_index:
        _commit(r, index)


def _held_index(r: Node) -> int:
    log = r.log
    half = r.incoming_half
    if r.self_incoming and len(half) == 2:
        # The middle of three, which is most groups and every acknowledgement of theirs.
        a = half[0].match
        b = half[1].match
        if a > b:
            a, b = b, a
        index = max(a, min(b, log.stable))
    else:
        values = [pr.match for pr in half]
        if r.self_incoming:
            values.append(log.stable)
        index = majority_value(values)
    if r.membership.voters_outgoing:
        values = [pr.match for pr in r.outgoing_half]
        if r.self_outgoing:
            values.append(log.stable)
        index = min(index, majority_value(values))
    return index


def _commit(r: Node, index: int) -> None:
    first_of_term = r.log.commit < r.noop_index
    membership_committed = r.log.commit < r.conf_index <= index
    r.log.commit = index
    uncommitted = r.uncommitted
    while uncommitted and uncommitted[0][0] <= index:
        r.uncommitted_bytes -= uncommitted.popleft()[1]
    if membership_committed or first_of_term or not r.config.lazy_commit:
        r.announce_due = True
        r.send_needed = True
    if first_of_term:
        prove_reads(r)
    if r.conf_index <= index:
        if r.membership.is_joint():
            if r.membership.auto_leave:
                _append_membership(r, settled(r.membership))
        elif not r.self_incoming:
            r.retire_due = True


def announce_commit(r: Node) -> None:
    """Tell followers what is committed, where nothing else has."""
    if r.role != Role.LEADER:
        return
    for pr in r.peer_list:
        if pr.sent_commit < pr.match and pr.sent_commit < r.log.commit:
            r.announce_due = True
            r.send_needed = True


# Answers from peers


def handle_append_resp(r: Node, m: Message) -> None:
    """A peer acknowledged or refused an Append; the hot path of a leader."""
    assert isinstance(m, AppendResp)
    pr = r.peers.get(m.from_)
    if pr is None or m.match > r.log.last:
        return
    pr.recent_active = True
    if m.round > pr.round:
        _note_round(r, pr, m.round, m.t_sent_ns)
    if not m.ok:
        if pr.rejected(m.match, _next_after_reject(r, m)):
            r.send_needed = True
        return
    if pr.acked(m.match):
        if pr.state == PROBE or (pr.state == SNAPSHOT and m.match >= pr.snap_index):
            pr.become_replicate()
        if m.match > r.log.commit:
            maybe_commit(r)
        if pr.node == r.transferee:
            _hand_over_when_ready(r, pr)
    elif pr.state == PROBE and m.match == pr.match:
        pr.become_replicate()
    if pr.next <= r.log.last:
        r.send_needed = True
    elif pr.sent_commit < min(pr.match, r.log.commit) and not r.config.lazy_commit:
        r.announce_due = True
        r.send_needed = True


def _next_after_reject(r: Node, m: AppendResp) -> int:
    """One past the largest index whose term is not above the follower's there; skips one term per round trip."""
    index = min(m.hint_index, r.log.last)
    try:
        while index > 0 and r.log.term(index) > m.hint_term:
            index -= 1
    except CompactedError:
        return index + 1
    return index + 1


def handle_heartbeat_resp(r: Node, m: Message) -> None:
    """A peer is alive and answers a round."""
    assert isinstance(m, HeartbeatResp)
    pr = r.peers.get(m.from_)
    if pr is None:
        return
    pr.recent_active = True
    if m.round > pr.round:
        _note_round(r, pr, m.round, m.t_sent_ns)
    if pr.state == PROBE and pr.match < r.log.last:
        pr.probe_sent = False
        r.send_needed = True


def handle_witness_append_resp(r: Node, m: Message) -> None:
    """The witness recorded a subterm, or refused to."""
    assert isinstance(m, WitnessAppendResp)
    if not pin.recorded(r, m):
        return
    maybe_commit(r)
    if r.reads.waiting:
        prove_reads(r)
    if r.reads.unsent or r.reads.waiting:
        r.send_needed = True


def _note_round(r: Node, pr: Progress, round_: int, t_sent_ns: int) -> None:
    if round_ > r.round:
        return
    pr.round = round_
    if round_ >= r.lease_floor and t_sent_ns > pr.ack_sent_ns:
        pr.ack_sent_ns = t_sent_ns
    if r.reads.waiting:
        prove_reads(r)


def prove_reads(r: Node) -> None:
    """Reads whose round a quorum answered are proven, once an entry of this term is committed."""
    if r.log.commit < r.noop_index:
        return
    round_ = _answered_round(r) if r.replication is None else pin.proven_round(r, r.replication)
    for ctx, index in r.reads.prove(round_):
        _proven(r, ctx, index)
    if r.reads.unsent and not r.reads.waiting:
        r.send_needed = True


def _answered_round(r: Node) -> int:
    values = [pr.round for pr in r.incoming_half]
    if r.self_incoming:
        values.append(r.round)
    round_ = majority_value(values)
    if r.membership.voters_outgoing:
        values = [pr.round for pr in r.outgoing_half]
        if r.self_outgoing:
            values.append(r.round)
        round_ = min(round_, majority_value(values))
    return round_


def _proven(r: Node, ctx: object, index: int) -> None:
    if isinstance(ctx, RemoteRead):
        r.deliver(ReadIndexResp(r.group, r.id, ctx.node, r.term, ctx.read_id, True, index))
    else:
        r.reads.add_proven(ctx, index)


def add_read(r: Node, ctx: object) -> None:
    """Register a read at what is committed now, or at this term's first entry if that is not committed yet."""
    if r.replication is not None and pin.pinned(r) and r.log.commit >= r.noop_index:
        _proven(r, ctx, r.log.commit)
        return
    r.reads.unsent.append((ctx, max(r.log.commit, r.noop_index)))
    if not r.reads.waiting:
        r.send_needed = True


def handle_read_index_req(r: Node, m: Message) -> None:
    """A follower asks for an index."""
    assert isinstance(m, ReadIndexReq)
    if r.role == Role.LEADER:
        add_read(r, RemoteRead(m.from_, m.read_id))
    else:
        r.deliver(ReadIndexResp(r.group, r.id, m.from_, r.term, m.read_id, False, 0))


# Sending


def emit(r: Node) -> None:
    """Send what is due to every peer; called when a Ready is taken."""
    beat = r.beat_due
    announce = r.announce_due or beat
    r.beat_due = False
    r.announce_due = False
    r.send_needed = False
    before = r.round
    if r.reads.unsent and (beat or not r.reads.waiting):
        _open_round(r)
    elif beat:
        r.round += 1
    for pr in r.peer_list:
        _send_entries(r, pr)
    log_commit = r.log.commit
    for pr in r.peer_list:
        if r.round > before and pr.sent_round < r.round and (beat or not pr.is_learner):
            pr.sent_round = r.round
            pr.sent_commit = min(pr.match, log_commit)
            r.deliver(Heartbeat(r.group, r.id, pr.node, r.term, pr.sent_commit, r.round, r.now_ns))
        elif announce and pr.sent_commit < pr.match and pr.sent_commit < log_commit:
            pr.sent_commit = min(pr.match, log_commit)
            r.deliver(Heartbeat(r.group, r.id, pr.node, r.term, pr.sent_commit, 0, 0))
    if r.reads.waiting and ((not r.incoming_half and not r.outgoing_half) or pin.pinned(r)):
        prove_reads(r)
    _drop_leaving(r)
    if r.retire_due:
        _retire(r)


def _open_round(r: Node) -> None:
    r.round += 1
    r.reads.open(r.round)


def _send_entries(r: Node, pr: Progress) -> None:
    """Appends or a snapshot chunk, as the peer's state and window allow."""
    last = r.log.last
    if pr.state == REPLICATE:
        verify = pr.verify
        pr.verify = False
        while pr.next <= last and not pr.window_full():
            if not _send_append(r, pr, True):
                return
            verify = False
        if verify:
            _send_append(r, pr, False)
    elif pr.state == PROBE and not pr.probe_sent:
        _send_append(r, pr, True)
    if pr.state == SNAPSHOT and pr.resend:
        send_chunk(r, pr)


def _send_append(r: Node, pr: Progress, with_entries: bool) -> bool:
    log = r.log
    first = pr.next
    prev = first - 1
    entries: list[Entry] = []
    try:
        prev_term = log.term(prev)
        if with_entries and first <= log.last:
            entries = log.entries(first, log.last + 1, r.config.max_size_per_msg)
    except CompactedError:
        start_snapshot(r, pr)
        return False
    except UnavailableError:
        # Storage cannot read it just now; the next beat asks again.
        return False
    if r.reads.unsent:
        # The proof of waiting reads rides on this Append; a read never waits longer than a later proposal.
        _open_round(r)
    size = 0
    for entry in entries:
        size += len(entry.data)
    last = prev + len(entries)
    r.messages.append(Append(r.group, r.id, pr.node, r.term, prev, prev_term, log.commit, r.round, r.now_ns, entries))
    if with_entries:
        # An empty check does not replace the heartbeat: it may queue behind bulk Appends.
        pr.sent_round = r.round
        pr.sent(last, size)
        sent_commit = log.commit if log.commit < last else last
        if sent_commit > pr.sent_commit:
            pr.sent_commit = sent_commit
    return True


def _drop_leaving(r: Node) -> None:
    gone = [
        pr.node
        for pr in r.peer_list
        if pr.leaving_index
        and r.log.commit >= pr.leaving_index
        and (pr.sent_commit >= pr.leaving_index or pr.leaving_ticks > r.config.election_ticks)
    ]
    if gone:
        for node in gone:
            del r.peers[node]
        r.rewire()


def _retire(r: Node) -> None:
    """The membership without this node is committed: name the best voter and stop leading (dissertation 4.2.2)."""
    best: Progress | None = None
    outside = 0 if r.replication is None else r.replication.outside
    for pr in r.incoming_half:
        if pr.recent_active and pr.node != outside and (best is None or pr.match > best.match):
            best = pr
    if best is not None:
        r.deliver(TimeoutNow(r.group, r.id, best.node, r.term, r.round))
    r.become_follower(r.term, 0)


# Time, transfer, reports


def tick(r: Node) -> None:
    """One tick of a leader: heartbeats, CheckQuorum, and the end of a transfer that takes too long."""
    r.heartbeat_elapsed += 1
    r.election_elapsed += 1
    if r.replication is not None:
        # Before CheckQuorum, which counts on the witness having been asked by now.
        pin.tick(r, r.replication)
    for pr in r.peer_list:
        if pr.leaving_index and r.log.commit >= pr.leaving_index:
            pr.leaving_ticks += 1
    if r.election_elapsed >= r.config.election_ticks:
        r.election_elapsed = 0
        if r.config.check_quorum and not _quorum_active(r):
            r.become_follower(r.term, 0)
            return
        if r.transferee:
            abandon_transfer(r)
    if r.heartbeat_elapsed >= r.config.heartbeat_ticks:
        r.heartbeat_elapsed = 0
        r.beat_due = True
        for pr in r.peer_list:
            _beat(r, pr)


def _beat(r: Node, pr: Progress) -> None:
    pr.probe_sent = False
    if pr.state == REPLICATE:
        pr.verify = len(pr.inflight) > 0
    elif pr.state == SNAPSHOT:
        pr.snap_ticks += r.config.heartbeat_ticks
        if pr.snap_ticks >= r.config.election_ticks:
            pr.resend = True


def _quorum_active(r: Node) -> bool:
    active = {pr.node: pr.recent_active for pr in r.peer_list}
    active[r.id] = True
    for pr in r.peer_list:
        pr.recent_active = False
    if r.replication is not None:
        return pin.quorum_active(r, r.replication, active)
    return joint_vote(r.membership.voters, r.membership.voters_outgoing, active) == WON


def transfer(r: Node, to: int) -> None:
    """Start handing over; see Raft.transfer_leader."""
    if r.role != Role.LEADER:
        raise NotLeader(r.leader)
    if to == r.id:
        return
    pr = r.peers.get(to)
    if pr is None or to not in r.membership.voters:
        raise TransferRefused(f"node {to} is not a voter of the current membership")
    if not pr.recent_active:
        raise TransferRefused(f"node {to} has not answered lately")
    rs = r.replication
    if rs is not None and to == rs.outside:
        raise TransferRefused(
            f"the witness stands in for node {to} and would not vote for it; unpin first: it does so by itself when "
            f"node {to} has caught up"
        )
    if r.transferee == to:
        return
    if r.transferee:
        abandon_transfer(r)
    r.transferee = to
    r.election_elapsed = 0
    _hand_over_when_ready(r, pr)
    r.send_needed = True


def _hand_over_when_ready(r: Node, pr: Progress) -> None:
    if pr.match == r.log.last and not r.transfer_sent:
        # From here until the outcome is known there is no lease, see lease.py.
        r.transfer_sent = True
        r.deliver(TimeoutNow(r.group, r.id, pr.node, r.term, r.round))


def report_unreachable(r: Node, peer: int) -> None:
    """Messages to the peer may be lost."""
    pr = r.peers.get(peer)
    if pr is not None and pr.state == REPLICATE:
        pr.become_probe()
        pr.probe_sent = True
    if r.replication is not None:
        pin.unreachable(r, r.replication, peer)
