"""What a node does that is not the primary: append, acknowledge, promise, receive a snapshot, and take over.

Rule: the only place that lets a message change the log of a node that is not in office. An acknowledgement leaves only
when what it covers is durable. Committed entries are replaced only by a snapshot, and only where a forced promotion has
given them up.

Taking over: silence for the grace time, judged by a node that was awake all the while; then the holder is asked, which
drains the sockets once and tells whether another took over already; then, if nobody was heard by the next tick, the
change is asked for. Only an in-sync member asks; the holder refuses anybody else too.
"""

import zlib

from raft.messages import Snapshot, SnapshotResp
from raft.primary_backup import changes
from raft.primary_backup.leases import promise, promise_kept, silent
from raft.primary_backup.messages import Beacon, BeaconOk, Message, Prepare, PrepareOk, Relinquish
from raft.primary_backup.node import ChangeKind, Member
from raft.storage import CompactedError
from raft.types import Role


def _acknowledge(r: Member, m: Message | Snapshot, match: int, round_: int, t_sent_ns: int) -> None:
    r.after_persist.append(PrepareOk(r.group, r.id, m.from_, r.term, True, False, match, 0, 0, round_, t_sent_ns))


def heard(r: Member, from_: int) -> None:
    """A message of the primary of this node's epoch came."""
    if r.role == Role.LEADER or r.vote not in (0, from_):
        raise AssertionError(f"node {from_} acts as primary in epoch {r.term}, which node {r.vote or r.id} owns")
    r.vote = from_
    r.leader = from_


def handle_beacon(r: Member, m: Beacon) -> None:
    """The primary lives; its commit never exceeds what we acknowledged."""
    heard(r, m.from_)
    log = r.log
    if m.commit > log.commit and not r.rebuild_for:
        # An acknowledgement to this primary was given through there, so a shorter log means lost durable entries.
        if m.commit > log.last:
            raise AssertionError(f"primary commits {m.commit}, this log ends at {log.last}: durable entries were lost")
        log.commit = m.commit
    if m.round:
        promise(r, m.term)
        r.deliver(BeaconOk(r.group, r.id, m.from_, r.term, m.round, m.t_sent_ns))


def handle_prepare(r: Member, m: Prepare) -> None:
    """Append entries after prev if the logs agree there, dropping what conflicts."""
    heard(r, m.from_)
    if m.round:
        promise(r, m.term)
    log = r.log
    if _given_up(r, m):
        _ask_rebuild(r, m)
        return
    if m.prev_index < log.commit and log.term(log.commit) >= m.forced_epoch:
        # Everything committed agrees with every primary; say so instead of looking below it.
        _acknowledge(r, m, log.commit, m.round, m.t_sent_ns)
        return
    if not log.matches(m.prev_index, m.prev_term) and m.prev_index > 0:
        _refuse(r, m)
        return
    if m.entries:
        _merge(r, m)
    last = m.prev_index + len(m.entries)
    commit = m.commit if m.commit < last else last
    if commit > log.commit:
        log.commit = commit
    _acknowledge(r, m, last, m.round, m.t_sent_ns)


def _given_up(r: Member, m: Prepare) -> bool:
    """True if entries committed here differ from the primary's, as only a forced promotion since may have caused."""
    if r.rebuild_for:
        return True
    log = r.log
    commit = log.commit
    if m.forced_epoch == 0 or commit == 0 or log.term(commit) >= m.forced_epoch or m.prev_index > commit:
        return False
    differs = not log.matches(m.prev_index, m.prev_term) and m.prev_index > 0
    for entry in m.entries:
        if differs or entry.index > commit:
            break
        differs = entry.index >= log.first_index() and log.term(entry.index) != entry.term
    if differs:
        _rebuild(r, m.forced_epoch)
    return differs


def _rebuild(r: Member, epoch: int) -> None:
    r.rebuild_for = epoch
    r.commit_lowered = False


def _ask_rebuild(r: Member, m: Prepare) -> None:
    r.deliver_durable(PrepareOk(r.group, r.id, m.from_, r.term, False, True, m.prev_index, 0, 0, m.round, m.t_sent_ns))


def _merge(r: Member, m: Prepare) -> None:
    """Skip what is already there; from the first conflict on, replace."""
    log = r.log
    entries = m.entries
    if m.prev_index == log.last:
        log.append_all(entries)
        return
    for at, entry in enumerate(entries):
        if entry.index > log.last:
            log.append_all(entries[at:])
            return
        if entry.index >= log.first_index() and log.term(entry.index) != entry.term:
            log.truncate(entry.index)
            log.append_all(entries[at:])
            return


def _refuse(r: Member, m: Prepare) -> None:
    """Hint at the largest index whose epoch is not above the primary's at prev; the logs cannot agree past it."""
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
        PrepareOk(r.group, r.id, m.from_, r.term, False, False, m.prev_index, index, term, m.round, m.t_sent_ns)
    )


def handle_snapshot(r: Member, m: Snapshot) -> None:
    """Take the next chunk; install when the last one fits. A snapshot we do not need is acknowledged instead."""
    heard(r, m.from_)
    meta = m.meta
    log = r.log
    if r.change is not None:
        # This node may be primary by now, and a primary's log has no gap; the chunk comes again.
        return
    if not r.rebuild_for:
        if meta.index <= log.commit and _known_already(r, m):
            return
        if log.matches(meta.index, meta.term):
            log.commit = meta.index
            _acknowledge(r, m, meta.index, 0, 0)
            return
    if log.pending_snapshot is not None:
        # One installation at a time; the chunk comes again.
        return
    if r.rebuild_for and not r.commit_lowered:
        # A crash in the midst must not find proof of entries that the snapshot took away: ask again behind that.
        r.deliver_durable(SnapshotResp(r.group, r.id, m.from_, r.term, meta.index, 0))
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


def _known_already(r: Member, m: Snapshot) -> bool:
    """A snapshot of what is committed here: answer without claiming more than was compared; False if it differs.

    What lies behind the snapshot may differ too after a forced promotion, so the commit index is only a hint.
    """
    meta = m.meta
    log = r.log
    if log.matches(meta.index, meta.term):
        _acknowledge(r, m, meta.index, 0, 0)
        return True
    if meta.index < log.first_index() - 1:
        term = log.term(log.commit)
        r.deliver_durable(PrepareOk(r.group, r.id, m.from_, r.term, False, False, meta.index, log.commit, term, 0, 0))
        return True
    # Committed here and not the primary's: only force explains that.
    _rebuild(r, m.term)
    return False


def _install(r: Member, m: Snapshot) -> None:
    meta = m.meta
    r.incoming = None
    # After a forced promotion the state may go back.
    r.log.applied = min(r.log.applied, meta.index)
    r.log.restore(meta)
    r.rebuild_for = 0
    r.install = meta
    _acknowledge(r, m, meta.index, 0, 0)


# Taking over


def handle_relinquish(r: Member, m: Relinquish) -> None:
    """The primary left office in this node's favour: nobody relies on the promise to it any more."""
    heard(r, m.from_)
    r.relinquished_term = m.term
    r.promise_over = True
    known = r.known
    if known is not None and known.epoch == r.term:
        _take_over(r)
    elif not r.read_call:
        r.ask_read()


def holder_said(r: Member) -> None:
    """An answer to a question what is in force was noted."""
    known = r.known
    if known is None or known.epoch != r.term or r.role == Role.LEADER:
        return
    if known.primary == r.id:
        _reacquire(r)
    elif r.relinquished_term == r.term:
        _take_over(r)
    elif _may_take_over(r) and silent(r):
        r.armed = True


def tick(r: Member) -> None:
    """Watch over the primary's silence."""
    if r.armed and silent(r):
        _take_over(r)
    known = r.known
    if known is not None and known.primary == r.id and known.epoch == r.term:
        _reacquire(r)
    # Also to learn who the members are now, after an epoch that was heard of from the primary.
    if not r.read_call and r.change is None and (known is None or known.epoch < r.term or silent(r)):
        if r.now_ns - r.read_sent_ns >= r.config.holder_timeout_ns:
            r.read_wanted = True


def _may_take_over(r: Member) -> bool:
    known = r.known
    return known is not None and r.id in known.isr and r.change is None and _sound(r) and promise_kept(r)


def _sound(r: Member) -> bool:
    """True if the log has neither a gap nor entries that were given up."""
    return r.log.pending_snapshot is None and not r.rebuild_for


def _take_over(r: Member) -> None:
    r.armed = False
    known = r.known
    if known is None or known.epoch != r.term or known.primary == r.id or not _may_take_over(r):
        return
    isr = tuple(node for node in known.isr if node != known.primary)
    learners = tuple(sorted((*known.learners, known.primary)))
    changes.ask_change(r, ChangeKind.PROMOTE, r.id, isr, learners)


def _reacquire(r: Member) -> None:
    """The holder names this node, by a wish of another run or of the operator: such an epoch is never resumed."""
    if r.change is None and _sound(r):
        changes.ask_same(r, ChangeKind.REACQUIRE)
