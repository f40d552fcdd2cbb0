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
    if current.witness and current.witness in edits:
        raise ConfChangeInvalid(f"node {current.witness} is the witness; a witness is replaced, not edited")
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
    context = current.context if change.context is None else change.context
    gone = [node for node in current.voters if node not in voters]
    new = [node for node in voters if node not in current.voters]
    if len(gone) + len(new) <= 1:
        return Membership(tuple(voters), (), tuple(learners), (), current.witness, False, context)
    # A voter on its way to learner still votes in the outgoing half, so it is a learner only afterwards.
    return Membership(
        voters=tuple(voters),
        voters_outgoing=current.voters,
        learners=[node for node in learners if node not in gone],
        learners_next=[node for node in learners if node in gone],
        witness=current.witness,
        auto_leave=change.auto_leave,
        context=context,
    )


def already_holds(current: Membership, change: ConfChange) -> bool:
    """True if `change` leads nowhere new from where `current` is heading, so a retry may count as done."""
    target = settled(current)
    try:
        return changed(target, change) == target
    except ConfChangeInvalid:
        return False
