"""Who may serve, by clocks alone: the primary's leases, a member's promise, and what pauses and odd clocks do to them.

A member that answers a beacon promises to help nobody else into office for grace_ns of its clock, counted from when it
handled the beacon. The primary's lease with it ends lease_ns after the beacon was *sent*, by the primary's clock, so it
is over first as long as both clocks keep within the rate bound. Promises survive roles: a node that takes over does not
serve before its own promise to its predecessor is over, and a node that starts has promised from its first reading on,
since it may have promised before it went down (so a former run's promise needs no disk).

Rule: the only place that compares times. Every input is read here first (note_now): a gap between two readings is a
pause of this node, never silence of the others; a clock that went back or disagrees with its twin ends every lease.
"""

from raft.primary_backup.node import Member, Peer
from raft.types import Role


def note_now(r: Member, now_ns: int, raw_ns: int = -1) -> None:
    """Time is `now_ns`: call before anything is judged by it."""
    first = r.now_ns < 0
    gap_ns = now_ns - r.now_ns
    odd = r.guard.odd(now_ns, raw_ns) or gap_ns < 0
    r.now_ns = now_ns
    if first:
        r.heard_ns = now_ns
        r.promised_ns = now_ns
        r.executor_ns = now_ns
    elif odd:
        _clocks_are_odd(r)
    elif gap_ns > r.config.pause_ns():
        _was_paused(r)


def _was_paused(r: Member) -> None:
    """What the others said meanwhile may wait in the sockets: their silence counts from now."""
    r.pauses += 1
    r.heard_ns = r.now_ns
    r.armed = False
    for peer in r.peer_list:
        peer.since_ns = r.now_ns


def _clocks_are_odd(r: Member) -> None:
    """No time kept so far means anything: start over, and accept no answer to a beacon sent before."""
    now_ns = r.now_ns
    r.clock_drops += 1
    r.heard_ns = now_ns
    r.promised_ns = now_ns
    if r.role != Role.LEADER:
        # It may have been found over by the very clock that proved wrong; a primary's was at an earlier tick.
        r.promise_over = False
    r.executor_ns = now_ns
    r.read_sent_ns = now_ns
    r.armed = False
    if r.change is not None:
        r.change.sent_ns = now_ns
    r.lease_floor = r.round + 1
    r.holder_ack_ns = 0
    r.renewals.clear()
    r.renew_sent_ns = now_ns
    r.beat_ns = now_ns
    r.joining_since_ns = now_ns
    r.transfer_ns = now_ns
    for peer in r.peer_list:
        peer.progress.ack_sent_ns = 0
        peer.since_ns = now_ns
        peer.heard_ns = now_ns
        peer.held_until_ns = min(peer.held_until_ns, now_ns + r.config.hold_ns)


# A member's promise


def promise(r: Member, term: int) -> None:
    """A beacon of `term` is being answered."""
    r.heard_ns = r.now_ns
    r.armed = False
    if term != r.relinquished_term:
        # Whoever relinquished that epoch will not use the answer.
        r.promised_ns = r.now_ns
        r.promise_over = False


def promise_kept(r: Member) -> bool:
    """True if nobody relies on this node's promise any more; stays so until it promises again."""
    if not r.promise_over and r.now_ns >= r.promised_ns + r.config.grace_ns:
        r.promise_over = True
    return r.promise_over


def silent(r: Member) -> bool:
    """True if this node, awake all the while, has heard no primary for the grace time."""
    return r.now_ns >= r.heard_ns + r.config.grace_ns


# The primary's leases


def extend(r: Member, peer: Peer, round_: int, t_sent_ns: int) -> None:
    """The peer answered `round_`, sent at `t_sent_ns` by this node's clock."""
    peer.heard_ns = r.now_ns
    pr = peer.progress
    if r.lease_floor <= round_ <= r.round and pr.ack_sent_ns < t_sent_ns <= r.now_ns:
        pr.ack_sent_ns = t_sent_ns


def valid_with(r: Member, peer: Peer) -> bool:
    """True if the peer helps nobody else into office now."""
    ack_ns = peer.progress.ack_sent_ns
    return ack_ns > 0 and r.now_ns < ack_ns + r.config.lease_ns


def lapsed(r: Member, peer: Peer) -> bool:
    """True if the lease with the peer has ended, or did not begin in the time one lasts."""
    return r.now_ns >= max(peer.progress.ack_sent_ns, peer.since_ns) + r.config.lease_ns


def holder_valid(r: Member) -> bool:
    """True if the holder forces nobody into this node's place now."""
    return r.holder_ack_ns > 0 and r.now_ns < r.holder_ack_ns + r.config.holder_lease_ns


def missing(r: Member) -> str:
    """Why this primary may not serve now, by its leases alone; empty when it may.

    Without other in-sync members nobody can be promoted but by force, which only the holder's lease fends off; it is
    needed as soon as that may be so, hence also while it is not known whether a change to that set is in force.
    """
    if r.role != Role.LEADER or r.resigned:
        return "this node is not in office"
    for peer in r.counted:
        if not valid_with(r, peer):
            return f"node {peer.node} has not confirmed lately that this node is the primary"
    if r.maybe_alone and not holder_valid(r):
        return "the config holder has not confirmed lately that this node is the primary"
    return ""


def lease_left_ns(r: Member) -> int:
    """For how long the leases last, 0 when they do not."""
    if missing(r):
        return 0
    ends = [peer.progress.ack_sent_ns + r.config.lease_ns for peer in r.counted]
    if r.maybe_alone:
        ends.append(r.holder_ack_ns + r.config.holder_lease_ns)
    return max(0, min(ends) - r.now_ns)


def serving(r: Member) -> bool:
    """True if a read at the commit index is linearizable right now."""
    return r.role == Role.LEADER and r.log.commit >= r.noop_index and promise_kept(r) and not missing(r)


def executor_stuck(r: Member) -> bool:
    """True if whoever executes commands has made no progress for long; then no lease may be renewed."""
    return r.now_ns - r.executor_ns > r.config.stuck_after_ns
