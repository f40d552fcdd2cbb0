"""What a leader does with a witness: works with a replication set, has the witness record it, counts it, stands alone.

Within one subterm the set does not change. Once the witness has recorded the subterm it refuses every candidate that
is not vouched for by members of the set alone, and so it counts as having acknowledged whatever a subquorum of the set
(a quorum less the witness) holds durably, without being asked again (extended Raft, Zhu et al.). With two voters that
subquorum is the leader: it is pinned, commits alone, and no other can be elected until it starts another subterm.
Rule: the only place that changes the replication set, asks the witness to record it, or raises what it counts for.
"""

from typing import Final

from raft.messages import WitnessAppend, WitnessAppendResp
from raft.node import Node
from raft.quorum import INFINITE, WON, joint_vote, majority_value
from raft.replication_set import ReplicationSet
from raft.types import Entry, EntryKind, Membership

# The set


def regulars(membership: Membership) -> tuple[int, ...]:
    """The voters of both halves, sorted, the witness not among them."""
    return tuple(sorted({*membership.voters, *membership.voters_outgoing}))


def lead(r: Node, votes: dict[int, bool]) -> None:
    """Elected by `votes`, with the first entry of the term just appended: all regular voters form the set.

    If the witness's vote was needed, a voter that did not answer is left out at once; where it was only slower than
    the witness it is back with its first acknowledgement.
    """
    membership = r.membership
    witness = membership.witness_id()
    if witness == 0:
        r.replication = None
        return
    rs = r.replication = ReplicationSet(witness)
    outside = 0
    voters = regulars(membership)
    if votes.get(witness, False) and not won_without(membership, votes, witness):
        for node in voters:
            if node not in votes and _may_be_outside(r, node):
                outside = node
                break
    rs.begin(voters, outside, r.log.last)


def won_without(membership: Membership, votes: dict[int, bool], witness: int) -> bool:
    """True if `votes` elect even if the witness refuses."""
    trial = dict(votes)
    trial[witness] = False
    return joint_vote(membership.electorate(), membership.electorate_outgoing(), trial) == WON


def membership_changed(r: Node, index: int) -> None:
    """A membership was appended at `index`, in a subterm of its own: the set is made anew from it."""
    membership = r.membership
    witness = membership.witness_id()
    if witness == 0:
        r.replication = None
        return
    rs = r.replication
    outside = 0
    if rs is None or rs.witness != witness:
        rs = r.replication = ReplicationSet(witness)
    elif rs.outside and _may_be_outside(r, rs.outside):
        outside = rs.outside
    rs.begin(regulars(membership), outside, index)


def _may_be_outside(r: Node, node: int) -> bool:
    """The witness stands in only for a voter of a half that counts it, and never for the leader.

    Two subquorums of a set then share a voter in that half: one that acknowledged, and one that would vouch for a
    candidate.
    """
    m = r.membership
    if node == r.id:
        return False
    return (m.witness != 0 and node in m.voters) or (m.witness_outgoing != 0 and node in m.voters_outgoing)


def _swap(r: Node, rs: ReplicationSet, outside: int) -> None:
    """Another set, so another subterm, so an entry in it: without one, nothing in it could ever be acknowledged."""
    r.subterm += 1
    index = r.log.last + 1
    r.log.append(Entry(index, r.term, r.subterm, EntryKind.NOOP, b""))
    r.send_needed = True
    r.witness_swaps += 1
    rs.begin(regulars(r.membership), outside, index)
    rs.hold_until_ticks = r.ticks + r.config.hold_ticks
    if outside:
        rs.pause_until_ticks = r.ticks + r.config.pin_delay_ticks


def engaged(r: Node, rs: ReplicationSet) -> bool:
    """True while the witness has the current subterm on record and is in its set."""
    return rs.has_witness and rs.witness_subterm == r.subterm


def asking(r: Node, rs: ReplicationSet) -> bool:
    """True while the witness is in the set but has not recorded the subterm."""
    return rs.has_witness and rs.witness_subterm != r.subterm


def pinned(r: Node) -> bool:
    """True if no other node can be leader in a later term: the witness refuses all, and others need its vote or ours.

    Needs no message and no clock to be relied on; it ends when this leader appends an entry of another subterm.
    """
    rs = r.replication
    if rs is None or not engaged(r, rs):
        return False
    voters = r.membership.voters
    return len(voters) == 2 and not r.membership.voters_outgoing and r.self_incoming


# Counting


_MATCH: Final = 0
_ROUND: Final = 1
_SENT_NS: Final = 2


def _reached(r: Node, stat: int, outside: int, witness: int) -> int:
    """What a quorum of each half has reached if the witness has reached `witness`, and the voter `outside` nothing.

    `stat` chooses between durable log positions, rounds answered, and the times those rounds were sent at.
    """
    return min(_half(r, False, stat, outside, witness), _half(r, True, stat, outside, witness))


def _half(r: Node, outgoing: bool, stat: int, outside: int, witness: int) -> int:
    values: list[int] = []
    for pr in r.outgoing_half if outgoing else r.incoming_half:
        if pr.node == outside:
            values.append(0)
        elif stat == _MATCH:
            values.append(pr.match)
        else:
            values.append(pr.round if stat == _ROUND else pr.ack_sent_ns)
    if r.self_outgoing if outgoing else r.self_incoming:
        if stat == _MATCH:
            values.append(r.log.stable)
        else:
            values.append(r.round if stat == _ROUND else r.now_ns)
    if r.membership.witness_outgoing if outgoing else r.membership.witness:
        values.append(witness)
    return majority_value(values)


def held_index(r: Node, rs: ReplicationSet) -> int:
    """The largest index a quorum of each half holds, the witness as far as it counts; it is asked first if it is due.

    What it counts for was held by a subquorum of its set, so counting voters outside the set beside it is sound.
    """
    if rs.has_witness:
        _involve_witness(r, rs)
    half = r.incoming_half
    if len(half) == 1 and r.self_incoming and not r.membership.voters_outgoing:
        # Two voters and the witness.
        a = half[0].match
        b = rs.witness_match
        if a > b:
            a, b = b, a
        return max(a, min(b, r.log.stable))
    return _reached(r, _MATCH, 0, rs.witness_match)


def _involve_witness(r: Node, rs: ReplicationSet) -> None:
    """Count the witness for what a subquorum of the set holds, or ask it to record the subterm if it has not.

    Only entries of the current subterm qualify: the record vouches for no others.
    """
    index = _reached(r, _MATCH, rs.outside, INFINITE)
    if index < rs.start_index:
        return
    if rs.witness_subterm == r.subterm:
        rs.witness_match = max(rs.witness_match, index)
    elif rs.asked_index == 0 and r.ticks >= rs.pause_until_ticks:
        rs.asked_index = index
        rs.asked_ticks = r.ticks
        r.witness_sent += 1
        r.deliver(WitnessAppend(r.group, r.id, rs.witness, r.term, r.term, r.subterm, index, rs.members))


def recorded(r: Node, m: WitnessAppendResp) -> bool:
    """Take the witness's answer; True if it counts for more than before.

    An answer about a former subterm still says that a subquorum held `index` and that the witness protected it then,
    but nothing about the current set: taking it for a record of that would let this leader commit unprotected.
    """
    rs = r.replication
    if rs is None or m.from_ != rs.witness:
        return False
    if not m.ok:
        if m.subterm == r.subterm:
            r.witness_refused += 1
        return False
    if m.subterm == r.subterm and rs.has_witness:
        rs.witness_subterm = m.subterm
    rs.witness_match = max(rs.witness_match, m.index)
    return True


def proven_round(r: Node, rs: ReplicationSet) -> int:
    """The newest round that proves leadership: answered by a quorum, or by a subquorum of a set on record.

    Whoever is elected after the record needs votes of its set, and every such election shares a voter with those
    answers; before it, the witness would not have taken the record.
    """
    round_ = _reached(r, _ROUND, 0, 0)
    return max(round_, _reached(r, _ROUND, rs.outside, INFINITE)) if engaged(r, rs) else round_


def lease_started_ns(r: Node, rs: ReplicationSet) -> int:
    """As proven_round(), for the time the round was sent at; the witness itself promises nothing."""
    started_ns = _reached(r, _SENT_NS, 0, 0)
    return max(started_ns, _reached(r, _SENT_NS, rs.outside, INFINITE)) if engaged(r, rs) else started_ns


def quorum_active(r: Node, rs: ReplicationSet, active: dict[int, bool]) -> bool:
    """CheckQuorum: may this leader still commit, as far as `active` voters tell?

    If not but the witness has yet to answer, the leader stays once more: the witness is what makes up for the quorum.
    """
    m = r.membership
    active[rs.witness] = False
    won = joint_vote(m.electorate(), m.electorate_outgoing(), active) == WON
    if not won and engaged(r, rs):
        active[rs.witness] = True
        active[rs.outside] = False
        won = joint_vote(m.electorate(), m.electorate_outgoing(), active) == WON
    if won:
        rs.waited = False
        return True
    if asking(r, rs) and not rs.waited:
        rs.waited = True
        return True
    return False


# Choosing the set: policy, in ticks


def tick(r: Node, rs: ReplicationSet) -> None:
    """One tick of a leader: watch the voters, ask the witness again, change the set."""
    last = r.log.last
    for pr in r.peer_list:
        if not pr.is_learner:
            rs.watch(pr, last).observe(pr, last)
    _choose(r, rs)
    if asking(r, rs):
        if r.ticks - rs.asked_ticks >= r.config.heartbeat_ticks:
            # The question or its answer may be lost.
            rs.asked_index = 0
        _involve_witness(r, rs)


def unreachable(r: Node, rs: ReplicationSet, peer: int) -> None:
    """The connection to `peer` broke."""
    pr = r.peers.get(peer)
    if pr is not None and not pr.is_learner:
        rs.watch(pr, r.log.last).unreachable(pr)


def _choose(r: Node, rs: ReplicationSet) -> None:
    if r.transferee:
        # The target is to find the set that vouches for it.
        return
    suspect = _most_suspected(r, rs)
    held = r.ticks < rs.hold_until_ticks
    if rs.outside == 0:
        if suspect and (not held or _blocked(r, rs)):
            _swap(r, rs, suspect)
        return
    if not _is_back(r, rs):
        return
    if suspect == 0:
        # While the witness is only being asked, the voter's return is what unblocks.
        if not held or asking(r, rs):
            _swap(r, rs, 0)
    elif not held or _blocked(r, rs):
        _swap(r, rs, suspect)


def _suspicion(r: Node, rs: ReplicationSet, node: int) -> int:
    found = rs.watches.get(node)
    if found is None:
        return 0
    return found.suspicion(r.config.suspect_ticks, 2 * r.config.heartbeat_ticks)


def _most_suspected(r: Node, rs: ReplicationSet) -> int:
    """The voter in the set that is missed most and may be left out, 0 if none is; the smallest id of equals."""
    worst = 0
    most = 0
    for pr in r.peer_list:
        if pr.is_learner or pr.node == rs.outside or not _may_be_outside(r, pr.node):
            continue
        suspicion = _suspicion(r, rs, pr.node)
        if suspicion > most:
            worst = pr.node
            most = suspicion
    return worst


def _is_back(r: Node, rs: ReplicationSet) -> bool:
    pr = r.peers.get(rs.outside)
    if pr is None:
        return False
    config = r.config
    last = r.log.last
    return rs.watch(pr, last).healthy(pr, last, config.rejoin_lag_entries, config.suspect_ticks, config.heartbeat_ticks)


def _blocked(r: Node, rs: ReplicationSet) -> bool:
    """True if the members of the set that seem to be there cannot commit."""
    there = {r.id: True, rs.witness: engaged(r, rs)}
    for pr in r.peer_list:
        if not pr.is_learner:
            there[pr.node] = pr.node != rs.outside and _suspicion(r, rs, pr.node) == 0
    return joint_vote(r.membership.electorate(), r.membership.electorate_outgoing(), there) != WON
