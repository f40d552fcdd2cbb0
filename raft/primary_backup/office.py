"""What an answer of the config holder means for this node's role.

Rule: the only place where a node comes into office, and it does so only in an epoch that a wish of this very run made:
not in one that an earlier run asked for, whose delayed changes could alter the members behind its back, and not in one
the operator made; those it takes up by asking for an epoch of its own. Of two configurations the later epoch holds.
"""

from raft.primary_backup import candidate, changes, primary, secondary
from raft.primary_backup.messages import ForceCall, HolderAnswer, Outcome
from raft.primary_backup.node import Member
from raft.primary_backup.types import ForceLoss, ShardConfig
from raft.types import Role


def handle_answer(r: Member, a: HolderAnswer) -> None:
    """An answer, or the certainty that there will be none."""
    if a.config is not None:
        note_config(r, a.config)
    if primary.note_renewed(r, a.call_id, a.outcome == Outcome.OK):
        return
    change = r.change
    if change is not None and a.call_id == change.call.call_id:
        if changes.note_answer(r, a):
            candidate.closed(r)
        return
    if a.call_id == r.read_call:
        r.read_call = 0
    # Also the late answer to a question that was asked again meanwhile.
    if a.outcome == Outcome.OK and a.config is not None:
        secondary.holder_said(r)


def note_config(r: Member, config: ShardConfig) -> None:
    """A configuration that is or was in force."""
    known = r.known
    if config.shard != r.group or (known is not None and config.epoch <= known.epoch):
        return
    r.note_known(config)
    if config.epoch < r.term:
        # Its primary was heard in a later one already.
        return
    if config.primary != r.id:
        if r.role == Role.LEADER and config.epoch == r.term:
            raise AssertionError(f"the holder names node {config.primary} in epoch {r.term}, which node {r.id} owns")
        if config.epoch > r.term:
            # Whoever won gets the time to be heard.
            r.heard_ns = max(r.heard_ns, r.now_ns)
        r.follow(config.epoch, config.primary)
    elif not config.request.made_by(r.id, r.nonce) or (r.role != Role.LEADER and config.epoch == r.term):
        r.follow(config.epoch, r.id)
    elif r.role == Role.LEADER:
        r.close_change("")
        primary.continue_reign(r, config)
    else:
        loss = _loss(r, config)
        r.close_change("")
        primary.take_office(r, config)
        r.force_loss = loss


def _loss(r: Member, config: ShardConfig) -> ForceLoss | None:
    change = r.change
    if change is None or not isinstance(change.call, ForceCall):
        return None
    call = change.call
    return ForceLoss(r.id, call.epoch, config.epoch, call.given_up, call.certain_through, call.kept_through)
