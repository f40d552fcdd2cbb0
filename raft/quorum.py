"""Majorities as arithmetic: what a quorum has reached, and how a vote stands.

Rule: pure functions over plain lists; an empty half of a joint membership agrees with everything, so no caller needs
a special case. This file must not know messages, roles or progress.
"""

from typing import Final

PENDING: Final = 0
WON: Final = 1
LOST: Final = 2

# Larger than any index, round or clock value: what an empty half has reached.
INFINITE: Final = 1 << 62


def majority_value(values: list[int]) -> int:
    """The largest v such that a majority of `values` is >= v; INFINITE for no values. Sorts the list in place."""
    count = len(values)
    if count == 0:
        return INFINITE
    values.sort()
    return values[(count - 1) // 2]


def majority_vote(ids: tuple[int, ...], votes: dict[int, bool]) -> int:
    """PENDING, WON or LOST among `ids`; nobody to ask is WON."""
    if not ids:
        return WON
    granted = 0
    missing = 0
    for node in ids:
        vote = votes.get(node)
        if vote is None:
            missing += 1
        elif vote:
            granted += 1
    need = len(ids) // 2 + 1
    if granted >= need:
        return WON
    return PENDING if granted + missing >= need else LOST


def joint_vote(incoming: tuple[int, ...], outgoing: tuple[int, ...], votes: dict[int, bool]) -> int:
    """Both halves have to win; either half losing loses."""
    first = majority_vote(incoming, votes)
    second = majority_vote(outgoing, votes)
    if first == second:
        return first
    if LOST in (first, second):
        return LOST
    return PENDING
