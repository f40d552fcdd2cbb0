"""The first entry of a group: its membership, at index 1 in term 1, committed from the start.

Rule: every founding member starts from the same bytes. Term 1 rather than 0, so that a witness that knows nothing
(term 0) sees any founding log as newer than its own state.
"""

from raft.types import Entry, EntryKind, HardState, Membership


def bootstrap(membership: Membership) -> tuple[HardState, Entry]:
    """What each founding member writes before it first starts; a joining server starts empty instead."""
    if not membership.voters or membership.is_joint():
        raise ValueError("a group starts with at least one voter and no joint phase")
    if membership.witness and len(membership.voters) < 2:
        raise ValueError("a witness needs two voters beside it; name a second voter or start without the witness")
    return HardState(1, 0, 1), Entry(1, 1, 0, EntryKind.CONFIG, membership.encode())
