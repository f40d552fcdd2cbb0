"""How one membership becomes the next: single steps, joint steps, and the way out of them (dissertation 4).

Rule: pure functions; the only place that decides whether a change needs a joint phase. When a change may be proposed
at all is the leader's business.
"""

from raft.errors import ConfChangeInvalid
from raft.types import ConfChange, Membership


def settled(current: Membership) -> Membership:
    """What `current` becomes when its joint phase ends; itself if it is not joint."""
    if not current.is_joint():
        return current
    return Membership(
        voters=current.voters,
        learners=(*current.learners, *current.learners_next),
        witness=current.witness,
        context=current.context,
    )


def changed(current: Membership, change: ConfChange) -> Membership:
    """The membership after `change`, joint if more than one voter differs. `current` must not be joint.

    Raises ConfChangeInvalid if the change contradicts itself or the current membership.
    """
    edits = [*change.add_voter, *change.add_learner, *change.promote, *change.remove]
    if len(set(edits)) != len(edits):
        raise ConfChangeInvalid("a node appears in two edits of one change; keep one of them")
    witness = _witness_after(current, change, edits)
    voters = dict.fromkeys(current.voters)
    learners = dict.fromkeys(current.learners)
    for node in change.promote:
        if node not in learners and node not in voters:
            raise ConfChangeInvalid(f"node {node} is not a learner; add it as a learner first")
    for node in (*change.add_voter, *change.promote):
        learners.pop(node, None)
        voters[node] = None
    for node in change.add_learner:
        voters.pop(node, None)
        learners[node] = None
    for node in change.remove:
        voters.pop(node, None)
        learners.pop(node, None)
    if not voters:
        raise ConfChangeInvalid("the change leaves no voter; keep at least one")
    if witness and len(voters) < 2:
        raise ConfChangeInvalid("a witness needs two voters beside it; keep two, or remove it in the same change")
    context = current.context if change.context is None else change.context
    gone = [node for node in current.voters if node not in voters]
    new = [node for node in voters if node not in current.voters]
    moved = 0 if witness == current.witness else 1
    if len(gone) + len(new) + moved <= 1:
        return Membership(tuple(voters), (), tuple(learners), (), witness, False, context)
    # A voter on its way to learner still votes in the outgoing half, so it is a learner only afterwards.
    return Membership(
        voters=tuple(voters),
        voters_outgoing=current.voters,
        learners=[node for node in learners if node not in gone],
        learners_next=[node for node in learners if node in gone],
        witness=witness,
        auto_leave=change.auto_leave,
        context=context,
        witness_outgoing=current.witness,
    )


def _witness_after(current: Membership, change: ConfChange, edits: list[int]) -> int:
    """The witness once `change` is done. Two of them never meet in one membership, so a new one waits for the old to
    go: the id is new because a witness that lost its state must not be asked again.
    """
    if current.witness and current.witness in edits:
        raise ConfChangeInvalid(f"node {current.witness} is the witness; a witness is replaced, not edited")
    added = change.add_witness
    if added and change.remove_witness:
        raise ConfChangeInvalid("one change cannot replace the witness; remove it, then add the new one")
    if change.remove_witness:
        return 0
    if not added or added == current.witness:
        return current.witness
    if added < 0 or added in edits or added in current.members():
        raise ConfChangeInvalid(f"node {added} cannot be the witness; give it an id that no node ever had")
    if current.witness:
        raise ConfChangeInvalid(f"node {current.witness} is the witness already; remove it first")
    return added


def already_holds(current: Membership, change: ConfChange) -> bool:
    """True if `change` leads nowhere new from where `current` is heading, so a retry may count as done."""
    target = settled(current)
    try:
        return changed(target, change) == target
    except ConfChangeInvalid:
        return False
