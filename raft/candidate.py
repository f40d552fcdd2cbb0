"""How a leader is found: pre-vote, vote, and the answers to both (dissertation 3.4, 9.6, 4.2.3).

Rule: the only place that grants a vote or counts one. A vote, asked for or given, leaves only when it is durable.
"""

from raft.leader import become_leader
from raft.lease import force_exempt, promised
from raft.messages import Message, PreVote, PreVoteResp, TimeoutNow, Vote, VoteResp
from raft.node import Node
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
    if _count(r) == WON:
        start_election(r, False, 0)
        return
    for node in r.membership.members():
        if node != r.id and r.membership.is_voter(node):
            r.deliver(PreVote(r.group, r.id, node, r.term + 1, r.log.last, r.log.last_term))


def start_election(r: Node, force: bool, force_round: int) -> None:
    """Take the next term and ask for votes; the own vote counts when it comes back durable."""
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
    return joint_vote(r.membership.voters, r.membership.voters_outgoing, r.votes)


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
    result = _count(r)
    if result == WON:
        start_election(r, False, 0)
    elif result == LOST:
        r.become_follower(r.term, 0)


def handle_vote_resp(r: Node, m: Message) -> None:
    """Count a vote."""
    assert isinstance(m, VoteResp)
    if r.role != Role.CANDIDATE:
        return
    r.votes.setdefault(m.from_, m.granted)
    result = _count(r)
    if result == WON:
        become_leader(r)
    elif result == LOST:
        r.become_follower(r.term, 0)


def handle_timeout_now(r: Node, m: Message) -> None:
    """The leader hands over: campaign at once, without pre-vote and past everybody's stickiness."""
    assert isinstance(m, TimeoutNow)
    if r.role != Role.FOLLOWER or m.from_ != r.leader or not r.promotable():
        return
    if not force_exempt(r, r.term + 1, m.round) or promised(r, r.term + 1, True, m.round):
        return
    start_election(r, True, m.round)
