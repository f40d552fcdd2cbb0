"""When a leader may answer a read alone, and the promise of voters that makes it true.

A voter that answered a round refuses, for promise_ns of its own clock, to help elect anybody else. So a leader whose
round was answered by a quorum is the only leader until lease_ns after it *sent* that round, by its own clock, if
lease_ns is promise_ns less the clock-rate bound. Judging by when answers arrived would stretch the lease.

Leadership transfer breaks promises on purpose (a forced vote), so from TimeoutNow on the leader has no lease. If the
transfer is given up, rounds move to a new epoch, only rounds of it extend a lease, and voters that heard one no
longer honour a forced vote that stems from the abandoned transfer, however late it arrives.
Rule: the only place that reads nanoseconds. Must not draw conclusions from ticks.
"""

from raft.node import Node
from raft.pin import lease_started_ns, pinned
from raft.progress import Progress
from raft.quorum import majority_value
from raft.reads import ROUND_EPOCH
from raft.types import Role


def note_clock(r: Node, now_ns: int) -> None:
    """Time passes; a node that just booted promises from now, since it may have promised before the crash."""
    if now_ns > r.now_ns:
        r.now_ns = now_ns
        if r.promise_boot and r.promise_boot_ns < 0:
            r.promise_boot_ns = now_ns


def promised(r: Node, term: int, force: bool, force_round: int) -> bool:
    """True if helping a candidate of `term` now would break this node's promise."""
    if not r.config.lease_reads:
        return False
    if r.promise_boot:
        if r.promise_boot_ns < 0 or r.now_ns - r.promise_boot_ns < r.config.promise_ns:
            return True
        r.promise_boot = False
    if r.promise_heard_ns < 0 or r.now_ns - r.promise_heard_ns >= r.config.promise_ns:
        return False
    return not (force and force_exempt(r, term, force_round))


def force_exempt(r: Node, term: int, force_round: int) -> bool:
    """True if a transfer in term-1 whose TimeoutNow carried `force_round` has not been abandoned as far as we heard."""
    heard_term, heard_round = r.promise_term, r.promise_round
    if r.role == Role.LEADER:
        heard_term, heard_round = r.term, r.round
    if heard_term != term - 1:
        return heard_term < term - 1
    return heard_round // ROUND_EPOCH <= force_round // ROUND_EPOCH


def note_round(r: Node, round_: int) -> None:
    """A leader of the current term was heard with a round this node answers."""
    if r.promise_term != r.term:
        r.promise_term = r.term
        r.promise_round = round_
    elif round_ > r.promise_round:
        r.promise_round = round_
    r.promise_heard_ns = r.now_ns


def abandon_transfer(r: Node) -> None:
    """The transfer did not happen; if TimeoutNow went out, leases start over with rounds of a new epoch."""
    if r.transfer_sent:
        r.round = (r.round // ROUND_EPOCH + 1) * ROUND_EPOCH
        r.lease_floor = r.round
        for pr in r.peer_list:
            pr.ack_sent_ns = 0
    r.transferee = 0
    r.transfer_sent = False


def lease_valid(r: Node, now_ns: int) -> bool:
    """True if a read at the current commit index is linearizable without asking anybody."""
    note_clock(r, now_ns)
    if r.role != Role.LEADER or r.log.commit < r.noop_index:
        return False
    rs = r.replication
    if rs is not None and pinned(r):
        return True
    if not r.config.lease_reads or r.transfer_sent:
        return False
    if rs is not None:
        started = lease_started_ns(r, rs)
    else:
        started = min(_half(r.incoming_half, r.self_incoming, now_ns), _half(r.outgoing_half, r.self_outgoing, now_ns))
    return started > 0 and now_ns < started + r.config.lease_ns


def _half(peers: list[Progress], with_self: bool, now_ns: int) -> int:
    values = [pr.ack_sent_ns for pr in peers]
    if with_self:
        values.append(now_ns)
    return majority_value(values)
