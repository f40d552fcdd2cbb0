"""What a follower does with a leader's messages: append, learn the commit, receive a snapshot, answer.

Rule: the only place that lets a message change the log of a node that does not lead. An acknowledgement leaves only
when what it covers is durable; a membership takes effect, or is rolled back, together with its entry.
"""

import zlib

from raft.lease import note_round
from raft.messages import (
    Append,
    AppendResp,
    Heartbeat,
    HeartbeatResp,
    Message,
    ReadIndexResp,
    Snapshot,
    SnapshotResp,
)
from raft.node import Node
from raft.storage import CompactedError
from raft.types import Entry, EntryKind, Membership, Role


def _heard(r: Node, leader: int) -> None:
    if r.role == Role.LEADER:
        raise AssertionError(f"node {leader} leads term {r.term} which node {r.id} leads")
    if r.role != Role.FOLLOWER or r.leader != leader:
        r.become_follower(r.term, leader)
    r.election_elapsed = 0


def _acknowledge(r: Node, m: Message, match: int, round_: int, t_sent_ns: int) -> None:
    r.after_persist.append(AppendResp(r.group, r.id, m.from_, r.term, True, match, 0, 0, round_, t_sent_ns))


def handle_append(r: Node, m: Message) -> None:
    """Append entries after prev if the logs agree there, dropping what conflicts (dissertation 3.5)."""
    assert isinstance(m, Append)
    _heard(r, m.from_)
    if m.round:
        note_round(r, m.round)
    log = r.log
    if m.prev_index < log.commit:
        # Everything committed agrees with every leader; say so instead of looking below it.
        _acknowledge(r, m, log.commit, m.round, m.t_sent_ns)
        return
    if not log.matches(m.prev_index, m.prev_term):
        _refuse(r, m)
        return
    entries = m.entries
    if entries:
        if m.prev_index == log.last:
            _extend(r, entries)
        else:
            _merge(r, entries)
    last = m.prev_index + len(entries)
    commit = m.commit if m.commit < last else last
    if commit > log.commit:
        r.log.commit = commit
    _acknowledge(r, m, last, m.round, m.t_sent_ns)


def _extend(r: Node, entries: list[Entry]) -> None:
    r.log.append_all(entries)
    for entry in entries:
        if entry.kind == EntryKind.CONFIG:
            r.push_membership(entry.index, Membership.decode(entry.data))


def _merge(r: Node, entries: list[Entry]) -> None:
    """Skip what is already there; from the first conflict on, replace."""
    log = r.log
    for at, entry in enumerate(entries):
        if entry.index > log.last:
            _extend(r, entries[at:])
            return
        if log.term(entry.index) != entry.term:
            log.truncate(entry.index)
            r.rollback_membership(entry.index)
            _extend(r, entries[at:])
            return


def _refuse(r: Node, m: Append) -> None:
    """Hint at the largest index whose term is not above the leader's at prev; the logs cannot agree past it."""
    log = r.log
    index = min(m.prev_index, log.last)
    term = 0
    try:
        term = log.term(index)
        while index > log.commit and term > m.prev_term:
            index -= 1
            term = log.term(index)
    except CompactedError:
        index = log.commit
        term = log.term(index)
    r.deliver_durable(
        AppendResp(r.group, r.id, m.from_, r.term, False, m.prev_index, index, term, m.round, m.t_sent_ns)
    )


def handle_heartbeat(r: Node, m: Message) -> None:
    """The leader lives; its commit never exceeds what we acknowledged."""
    assert isinstance(m, Heartbeat)
    _heard(r, m.from_)
    if m.commit > r.log.commit:
        # An acknowledgement of this leader was given through there, so a shorter log means lost durable entries.
        if m.commit > r.log.last:
            raise AssertionError(f"leader commits {m.commit}, this log ends at {r.log.last}: durable entries were lost")
        r.log.commit = m.commit
    if m.round:
        note_round(r, m.round)
        r.deliver(HeartbeatResp(r.group, r.id, m.from_, r.term, m.round, m.t_sent_ns))


def handle_snapshot(r: Node, m: Message) -> None:
    """Take the next chunk; install when the last one fits. A snapshot we do not need is acknowledged instead."""
    assert isinstance(m, Snapshot)
    _heard(r, m.from_)
    meta = m.meta
    log = r.log
    if meta.index <= log.commit:
        _acknowledge(r, m, log.commit, 0, 0)
        return
    if log.matches(meta.index, meta.term):
        r.log.commit = meta.index
        _acknowledge(r, m, meta.index, 0, 0)
        return
    if log.pending_snapshot is not None:
        # One installation at a time; the leader sends the chunk again.
        return
    if m.offset == 0 and (r.incoming is None or r.incoming != meta):
        r.incoming = meta
        r.incoming_offset = 0
        r.incoming_crc = 0
    if r.incoming is None or r.incoming != meta:
        r.deliver(SnapshotResp(r.group, r.id, m.from_, r.term, meta.index, 0))
        return
    if m.offset == r.incoming_offset and zlib.crc32(m.data) == m.crc:
        crc = zlib.crc32(m.data, r.incoming_crc)
        if crc != m.crc_total:
            r.incoming = None
            r.deliver(SnapshotResp(r.group, r.id, m.from_, r.term, meta.index, 0))
            return
        r.incoming_crc = crc
        r.incoming_offset += len(m.data)
        r.chunks.append(m)
        if m.done:
            _install(r, m)
            return
    r.deliver(SnapshotResp(r.group, r.id, m.from_, r.term, meta.index, r.incoming_offset))


def _install(r: Node, m: Snapshot) -> None:
    meta = m.meta
    r.incoming = None
    r.log.restore(meta)
    r.conf = [(meta.index, meta.membership)]
    r.conf_index = meta.index
    r.membership = meta.membership
    r.install = meta
    _acknowledge(r, m, meta.index, 0, 0)


def handle_read_index_resp(r: Node, m: Message) -> None:
    """The leader's answer to a read asked here."""
    assert isinstance(m, ReadIndexResp)
    found = r.asked.pop(m.read_id, None)
    if found is None:
        return
    if m.ok:
        r.reads.add_proven(found[0], m.index)
    else:
        r.failed_reads.append(found[0])
