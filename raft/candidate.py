"""How a leader is found: pre-vote, vote, and the answers to both (dissertation 3.4, 9.6, 4.2.3).

Rule: the only place that grants a vote or counts one. A vote, asked for or given, leaves only when it is durable.
"""

from raft.leader import become_leader
from raft.lease import force_exempt, promised
from raft.messages import (
    Message,
    PreVote,
    PreVoteResp,
    TimeoutNow,
    Vote,
    VoteResp,
    WitnessVote,
    WitnessVoteResp,
)
from raft.node import Node
from raft.pin import won_without
from raft.quorum import LOST, WON, joint_vote
from raft.types import Role


def sticky(r: Node, term: int, force: bool, force_round: int) -> bool:
    """True if a leader was heard too recently to help elect another (dissertation 4.2.3)."""
    if promised(r, term, force, force_round):
        return True
    heard = r.leader != 0 and r.config.check_quorum and r.election_elapsed < r.config.election_ticks
    return heard and not (force and force_exempt(r, term, force_round))


def campaign(r: Node) -> None:
    """Try to become leader, with a pre-vote if configured. Does nothing where this node may not lead."""
    if r.role == Role.LEADER or not r.promotable() or promised(r, r.term + 1, False, 0):
        return
    if r.config.pre_vote:
        _ask_pre_votes(r)
    else:
        start_election(r, False, 0)


def _ask_pre_votes(r: Node) -> None:
    r.become_follower(r.term, 0)
    r.role = Role.PRE_CANDIDATE
    r.votes = {r.id: True}
    r.witness_ask_ticks = r.ticks
    if _count(r) == WON:
        start_election(r, False, 0)
        return
    for node in r.membership.members():
        if node != r.id and r.membership.is_voter(node):
            r.deliver(PreVote(r.group, r.id, node, r.term + 1, r.log.last, r.log.last_term))
    ask_witness(r)


def start_election(r: Node, force: bool, force_round: int) -> None:
    """Take the next term and ask for votes; the own vote counts when it comes back durable."""
    witness = r.membership.witness_id()
    # A leader handing over, or voters that just said they would, are there to vote: leave the witness in peace a while.
    patient = force or (r.role == Role.PRE_CANDIDATE and won_without(r.membership, r.votes, witness))
    r.witness_ask_ticks = r.ticks + r.config.heartbeat_ticks if patient else r.ticks
    r.become_follower(r.term + 1, 0)
    r.role = Role.CANDIDATE
    r.vote = r.id
    r.deliver_durable(VoteResp(r.group, r.id, r.id, r.term, True))
    last, last_term = r.log.last, r.log.last_term
    for node in r.membership.members():
        if node != r.id and r.membership.is_voter(node):
            # Durable first: grants earned by entries a crash can still take away could elect us without them.
            r.deliver_durable(Vote(r.group, r.id, node, r.term, last, last_term, force, force_round))


def _count(r: Node) -> int:
    return joint_vote(r.membership.electorate(), r.membership.electorate_outgoing(), r.votes)


def ask_witness(r: Node) -> None:
    """Ask the witness for its (pre-)vote if that alone is missing, again if its answer is overdue.

    It is told which voters vouch for this candidate, and may know that those could all lack something committed.
    """
    membership = r.membership
    witness = membership.witness_id()
    if witness == 0 or witness in r.votes or r.ticks < r.witness_ask_ticks:
        return
    trial = dict(r.votes)
    trial[witness] = True
    if joint_vote(membership.electorate(), membership.electorate_outgoing(), trial) != WON:
        return
    granted = tuple(sorted([node for node, yes in r.votes.items() if yes and membership.is_voter(node)]))
    r.witness_ask_ticks = r.ticks + r.config.heartbeat_ticks
    r.witness_sent += 1
    last_term, last_subterm = r.log.last_term, r.log.last_subterm()
    if r.role == Role.PRE_CANDIDATE:
        r.deliver(WitnessVote(r.group, r.id, witness, r.term + 1, last_term, last_subterm, True, granted))
    else:
        r.deliver_durable(WitnessVote(r.group, r.id, witness, r.term, last_term, last_subterm, False, granted))


def tick(r: Node) -> None:
    """One tick of a node that does not lead: campaign when the leader was silent for too long."""
    r.election_elapsed += 1
    if r.election_elapsed >= r.election_timeout:
        campaign(r)
    elif r.role != Role.FOLLOWER:
        ask_witness(r)


def _up_to_date(r: Node, last_term: int, last_index: int) -> bool:
    return last_term > r.log.last_term or (last_term == r.log.last_term and last_index >= r.log.last)


def handle_pre_vote(r: Node, m: Message) -> None:
    """Say whether we would vote; nothing changes here."""
    assert isinstance(m, PreVote)
    granted = m.term > r.term and _up_to_date(r, m.last_term, m.last_index)
    r.deliver(PreVoteResp(r.group, r.id, m.from_, m.term if granted else r.term, granted))


def handle_vote(r: Node, m: Message) -> None:
    """Vote for the first candidate of the term whose log is at least as good as ours (dissertation 3.6.1)."""
    assert isinstance(m, Vote)
    if promised(r, m.term, m.force, m.force_round):
        return
    free = r.vote == m.from_ or (r.vote == 0 and r.leader == 0)
    granted = free and _up_to_date(r, m.last_term, m.last_index)
    if granted:
        r.vote = m.from_
        r.election_elapsed = 0
    r.deliver_durable(VoteResp(r.group, r.id, m.from_, r.term, granted))


def handle_pre_vote_resp(r: Node, m: Message) -> None:
    """Count a pre-vote."""
    assert isinstance(m, PreVoteResp)
    if r.role != Role.PRE_CANDIDATE or (m.granted and m.term != r.term + 1):
        return
    r.votes.setdefault(m.from_, m.granted)
    _decide_pre_vote(r)


def _decide_pre_vote(r: Node) -> None:
    result = _count(r)
    if result == WON:
        start_election(r, False, 0)
    elif result == LOST:
        r.become_follower(r.term, 0)
    else:
        ask_witness(r)


def handle_vote_resp(r: Node, m: Message) -> None:
    """Count a vote."""
    assert isinstance(m, VoteResp)
    if r.role != Role.CANDIDATE:
        return
    r.votes.setdefault(m.from_, m.granted)
    _decide_vote(r)


def _decide_vote(r: Node) -> None:
    result = _count(r)
    if result == WON:
        become_leader(r)
    elif result == LOST:
        r.become_follower(r.term, 0)
    else:
        ask_witness(r)


def handle_witness_vote_resp(r: Node, m: Message) -> None:
    """Count the witness's vote or pre-vote."""
    assert isinstance(m, WitnessVoteResp)
    if m.from_ != r.membership.witness_id():
        return
    if m.pre:
        if r.role != Role.PRE_CANDIDATE or (m.granted and m.term != r.term + 1):
            return
    elif r.role != Role.CANDIDATE:
        return
    if not m.granted:
        r.witness_refused += 1
    r.votes.setdefault(m.from_, m.granted)
    if m.pre:
        _decide_pre_vote(r)
    else:
        _decide_vote(r)


def handle_timeout_now(r: Node, m: Message) -> None:
    """The leader hands over: campaign at once, without pre-vote and past everybody's stickiness."""
    assert isinstance(m, TimeoutNow)
    if r.role != Role.FOLLOWER or m.from_ != r.leader or not r.promotable():
        return
    if not force_exempt(r, r.term + 1, m.round) or promised(r, r.term + 1, True, m.round):
        return
    start_election(r, True, m.round)
