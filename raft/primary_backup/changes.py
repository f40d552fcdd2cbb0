"""Asking the holder for a change until its fate is known: one change at a time, repeated under one request id.

A change whose sending got no answer may be in force, or come into force later. It stays open, and counts as possible,
until a configuration of a later epoch is seen or the holder says that it can never be (rules that an epoch, once in
force, breaks for ever). So a primary never has two changes open, and re-reading the old epoch settles nothing.

Rule: the only place that makes calls to the holder. What an answer means for the role is office.py's.
"""

from raft.primary_backup.messages import REASON_TEXTS, CasCall, ForceCall, HolderAnswer, Outcome, Reason
from raft.primary_backup.node import Change, Member
from raft.primary_backup.types import ShardConfig


def ask_change(
    r: Member,
    kind: int,
    primary: int,
    isr: tuple[int, ...],
    learners: tuple[int, ...],
    min_isr: int = 0,
    context: bytes | None = None,
) -> None:
    """Ask for the epoch after the one known, with these members; min_isr 0 and context None keep what is known."""
    known = r.known
    assert known is not None and r.change is None
    request = r.new_request()
    config = ShardConfig(
        r.group, known.epoch + 1, primary, isr, learners, min_isr or known.min_isr, known.forced_epoch, request,
        known.context if context is None else context,
    )  # fmt: skip
    _send(r, Change(kind, CasCall(r.new_call_id(), r.group, request, config), r.now_ns))


def ask_same(r: Member, kind: int) -> None:
    """Ask for a new epoch with this node as primary and the same members."""
    known = r.known
    assert known is not None
    ask_change(r, kind, r.id, known.isr, known.learners)


def ask_force(r: Member, kind: int, given_up: tuple[int, ...]) -> None:
    """Ask for this node to be promoted whatever it lacks."""
    known = r.known
    assert known is not None and r.change is None
    request = r.new_request()
    call = ForceCall(
        r.new_call_id(), r.group, request, known.epoch, r.id, given_up, min(r.log.commit, r.log.stable), r.log.stable
    )  # fmt: skip
    _send(r, Change(kind, call, r.now_ns))


def _send(r: Member, change: Change) -> None:
    r.change = change
    change.sent_ns = r.now_ns
    r.calls.append(change.call)


def _again(r: Member, change: Change) -> None:
    call = change.call
    if isinstance(call, ForceCall):
        change.call = ForceCall(
            r.new_call_id(), r.group, call.request, call.epoch, call.node, call.given_up, call.certain_through,
            call.kept_through,
        )  # fmt: skip
    else:
        change.call = CasCall(r.new_call_id(), r.group, call.request, call.config)
    _send(r, change)


def tick(r: Member) -> None:
    """Repeat what got no answer in time."""
    timeout_ns = r.config.holder_timeout_ns
    change = r.change
    if change is not None and r.now_ns - change.sent_ns >= timeout_ns:
        change.uncertain = True
        _again(r, change)
    if r.read_call:
        if r.now_ns - r.read_sent_ns >= timeout_ns:
            r.ask_read()
    elif r.read_wanted:
        r.ask_read()


def note_answer(r: Member, a: HolderAnswer) -> bool:
    """Judge the answer to the open change's newest sending, after its configuration was noted; True if closed."""
    change = r.change
    assert change is not None
    if a.outcome == Outcome.UNKNOWN:
        change.uncertain = True
        return False
    if a.outcome == Outcome.OK or a.reason == Reason.EPOCH:
        if a.config is None:
            # Settled, but not how: ask.
            r.read_wanted = True
        return False
    final = a.reason in (Reason.INVALID, Reason.MISSING)
    if not final and change.uncertain:
        return False
    r.close_change(REASON_TEXTS[a.reason])
    return True
